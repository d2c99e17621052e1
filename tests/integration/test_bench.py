"""The benchmarks run and write their results; no test here depends on how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bench.__main__ import parser, parts
from bench.messages import write_bodies
from bench.stub import Network, Stub
from bench.stub_sqs import Messages, Service
from tests.conftest import ROOT

MESSAGES = 25


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """Start a stub queue of a few messages, with fewer bodies than messages."""
    bodies = tmp_path_factory.mktemp("stub") / "bodies"
    write_bodies(bodies, 7)
    with Stub(bodies, MESSAGES) as running:
        yield running


def client_of(stub: Stub) -> Any:
    """Make a client of a stub queue."""
    return boto3.Session().client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=stub.environment["AWS_ENDPOINT_URL"],
        verify=stub.environment.get("AWS_CA_BUNDLE"),
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}),
    )


@pytest.fixture(scope="module")
def drained(stub: Stub) -> list[Any]:
    """Return what a client receives until the queue is empty; all but the last ten are deleted."""
    client = client_of(stub)
    received: list[Any] = []
    while messages := client.receive_message(
        QueueUrl=stub.queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=1,
        MessageSystemAttributeNames=["SentTimestamp"],
    ).get("Messages"):
        received += messages
    entries = [
        {"Id": f"e{position}", "ReceiptHandle": message["ReceiptHandle"]}
        for position, message in enumerate(received[:-10])
    ]
    for start in (0, 10, 0):  # the first ten twice, to see that each delete counts once
        batch = entries[start : start + 10]
        answer = client.delete_message_batch(QueueUrl=stub.queue_url, Entries=batch)
        successful = [entry["Id"] for entry in answer["Successful"]]
        assert successful == [entry["Id"] for entry in batch]
    client.close()
    return received


def test_the_stub_serves_each_message_once(drained: list[Any]) -> None:
    """There are N messages, all with different ids and handles."""
    assert len(drained) == MESSAGES
    assert len({message["MessageId"] for message in drained}) == MESSAGES
    assert len({message["ReceiptHandle"] for message in drained}) == MESSAGES


def test_the_stub_serves_whole_events(drained: list[Any]) -> None:
    """A message has a complete event and the time it was sent."""
    assert "user_id" in json.loads(drained[-1]["Body"])
    assert abs(int(drained[-1]["Attributes"]["SentTimestamp"]) / 1000 - time.time()) < 600


def test_the_stub_counts_what_is_deleted(stub: Stub, drained: list[Any]) -> None:
    """Each deleted message counts once, even if it is deleted again."""
    counts = stub.counts()
    assert (counts["served"], counts["deleted"]) == (len(drained), len(drained) - 10)


def test_the_stub_serves_over_tls(tmp_path: Path) -> None:
    """A client that trusts its certificate gets the messages, and so does the count."""
    write_bodies(tmp_path / "bodies", 1)
    with (
        Stub(tmp_path / "bodies", 1, Network(tls=True)) as stub,
        closing(client_of(stub)) as client,
    ):
        assert stub.queue_url.startswith("https://")
        assert len(client.receive_message(QueueUrl=stub.queue_url)["Messages"]) == 1
        assert stub.counts()["served"] == 1


def served(messages: Messages, limit: int = 10) -> list[str]:
    """Receive messages; return their receipt handles."""
    entries = json.loads(b"[" + messages.take(limit, attributes=False) + b"]")
    return [entry["ReceiptHandle"] for entry in entries]


def batch(handles: list[str], **parameters: int) -> bytes:
    """Make the body of a batch call, as boto3 does."""
    entries = [
        {"Id": str(number), "ReceiptHandle": handle, **parameters}
        for number, handle in enumerate(handles)
    ]
    return json.dumps({"QueueUrl": "http://127.0.0.1/bench", "Entries": entries}).encode()


def test_a_released_message_is_served_again() -> None:
    """A visibility of 0 shows messages again, unless they are deleted; another one does not."""
    messages = Messages(["{}"], 4)
    service = Service(messages, 0)
    handles = served(messages)
    service.answer(b"DeleteMessageBatch", batch(handles[:1]))
    service.answer(b"ChangeMessageVisibilityBatch", batch(handles[:3], VisibilityTimeout=0))
    service.answer(b"ChangeMessageVisibilityBatch", batch(handles[3:], VisibilityTimeout=30))
    assert messages.visible == 2
    assert served(messages, 1) + served(messages) == handles[1:3]


def test_the_stub_counts_calls_and_their_entries() -> None:
    """A night is counted in calls, and a release in messages."""
    messages = Messages(["{}"], 3)
    service = Service(messages, 0)
    service.answer(b"ReceiveMessage", b'{"MaxNumberOfMessages": 10}')
    handles = [f"stub-{serial}-x" for serial in range(3)]
    service.answer(b"ChangeMessageVisibilityBatch", batch(handles, VisibilityTimeout=30))
    service.answer(b"ChangeMessageVisibilityBatch", batch(handles[1:], VisibilityTimeout=0))
    service.answer(b"DeleteMessageBatch", batch(handles[:1]))
    counts = json.loads(service.counts())
    counts.pop("cpu_seconds")
    calls = {"receives": 1, "empty": 0, "deletes": 1, "extends": 2, "extended": 5}
    assert counts == {**calls, "served": 3, "deleted": 1, "released": 2}


def test_every_answer_is_delayed_and_an_empty_poll_waits_besides() -> None:
    """The poll waits for as long as it asks to, up to the limit."""
    messages = Messages(["{}"], 1)
    service = Service(messages, empty_seconds=5, answer_seconds=0.5)
    poll = b'{"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20}'
    assert service.pause_seconds(b"DeleteMessageBatch", b"") == 0.5
    assert service.pause_seconds(b"ReceiveMessage", poll) == 0.5
    served(messages)
    assert service.pause_seconds(b"ReceiveMessage", poll) == 5.5


def bench(*arguments: str) -> None:
    """Run the benchmarks as a user would."""
    completed = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr


def test_all_parts_run_when_none_is_named() -> None:
    """This is how `make bench` calls it."""
    all_parts = ["drain", "mask", "load", "rekey", "memory", "start", "profile", "duplicates"]
    assert parts(parser().parse_args([])) == all_parts
    assert parts(parser().parse_args(["mask", "--quick"])) == ["mask"]


def test_a_part_replaces_its_own_results_only(tmp_path: Path) -> None:
    """The results have ratios by key, the machine and the raw runs, and there is a report."""
    bench("--quick", "--runs", "1", "--out", str(tmp_path), "start", "mask")
    first = json.loads((tmp_path / "results.json").read_text())
    bench("--quick", "--runs", "1", "--out", str(tmp_path), "start")
    second = json.loads((tmp_path / "results.json").read_text())
    for key in ("start.help_over_imports", "mask.values_per_second", "mask.over_best_library"):
        assert second[key] > 0
    assert second["load.copy_over_psql"] is None
    assert second["parts"]["mask"] == first["parts"]["mask"]
    assert {"date", "command", "machine", "versions"} <= set(second)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "## mask" in report
    assert "## drain" not in report
