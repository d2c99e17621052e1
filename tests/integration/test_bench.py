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

from bench import night, report, results
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
    drains = ["drain", "drain_tls", "drain_15ms", "release"]
    others = ["mask", "columns", "load", "rekey", "memory", "start", "profile", "duplicates"]
    assert parts(parser().parse_args([])) == [*drains, *others]
    assert parts(parser().parse_args(["mask", "--quick"])) == ["mask"]


@pytest.mark.long
def test_a_part_replaces_its_own_results_only(tmp_path: Path) -> None:
    """The results have ratios by key, the machine and the raw runs, and there is a report."""
    bench("--quick", "--runs", "1", "--out", str(tmp_path), "release", "mask")
    first = json.loads((tmp_path / "results.json").read_text())
    bench("--quick", "--runs", "1", "--out", str(tmp_path), "release")
    second = json.loads((tmp_path / "results.json").read_text())
    for key in ("release.messages_per_second", "mask.values_per_second", "mask.over_best_library"):
        assert second[key] > 0
    assert second["load.copy_over_psql"] is None
    assert second["parts"]["mask"] == first["parts"]["mask"]
    assert {"date", "command", "machine", "versions"} <= set(second)
    report = (tmp_path / "RESULTS.md").read_text()
    assert "## mask" in report
    assert "## drain" not in report


@pytest.mark.parametrize(
    ("part", "keys"),
    [
        ("drain_tls", {"drain_tls.copy_over_bare"}),
        ("columns", {"columns.default_cpu_us"}),
        ("drain_15ms", {"drain_15ms.wall_seconds", "drain_15ms.wall_over_best_peer"}),
        ("start", {key for key in results.KEYS if key.startswith("start.")}),
    ],
)
@pytest.mark.long
def test_a_part_gives_its_keys_and_its_section(part: str, keys: set[str], tmp_path: Path) -> None:
    """These parts use a queue of their own, each in another way."""
    bench("--quick", "--runs", "1", "--messages", "100", "--out", str(tmp_path), part)
    measured = json.loads((tmp_path / "results.json").read_text())
    assert {key for key in results.KEYS if measured[key] is not None} == keys
    assert f"## {part}\n" in (tmp_path / "RESULTS.md").read_text()


def test_the_report_is_what_the_results_say() -> None:
    """`python -m bench report` writes it again."""
    folder = ROOT / "bench"
    assert report.text(results.read(folder)) == (folder / report.FILE).read_text()


def spread(value: float) -> dict[str, float]:
    """Make the spread of one measurement."""
    return {"median": value, "least": value, "most": value}


def test_a_night_costs_the_start_and_then_each_message() -> None:
    """CPU, time, memory and calls come from the measured parts."""
    cpu = {"cpu_us": 40.0, "start_cpu_seconds": 1.0, "database_cpu_us": 7.0}
    wall = {"wall_us": 50.0, "start_wall_seconds": 2.0}
    calls = {"receives": 0.1, "deletes": 0.1, "extends": 0.0}
    row = {name: spread(cost) for name, cost in {**cpu, **wall, **calls}.items()}
    parts = {
        "drain": {"messages": [10, 50], "table": {"etl run, copy": row}},
        "drain_tls": {"table": {"etl run, copy": {**row, "cpu_us": spread(50.0)}}},
        "drain_15ms": {
            "messages": 10_000,
            "work_seconds": spread(5.0),
            "ratios": {"drain_15ms.wall_seconds": spread(9.0)},
        },
        "memory": {"table": {"big": spread(180.0)}},
        "start": {"ratios": {"start.second_worker_mib": spread(110.0)}},
    }
    table = dict(
        line.strip("| ").split(" | ", 1) for line in night.lines({"parts": parts}) if " | " in line
    )
    assert table["CPU of the job, `copy`, over TLS"] == "51 s | 83 min"
    assert table["CPU of the job, `copy`, over plain HTTP"] == "41 s | 67 min"
    assert table["CPU of the database, `copy`"] == "7 s | 12 min"
    assert table["wall time if SQS answers in 15 ms, `multi`"] == "504 s | 13.9 h"
    assert table["wall time if SQS answers at once, `copy`"] == "52 s | 83 min"
    assert table["wall time if SQS answers at once, `copy`, 2 workers"] == (
        "not measured | not measured"
    )
    assert table["peak memory, `multi`"] == "180 MiB | 180 MiB"
    assert table["peak memory that a second worker adds"] == "110 MiB | 110 MiB"
    assert table["calls to SQS: receive"] == "100,000 | 10,000,000"
    assert night.sentence({"parts": parts}) == (
        "A night of a million messages costs 51 s of CPU over TLS, 180 MiB of memory and 504 s at "
        "15 ms a call to SQS: [`bench/RESULTS.md`](bench/RESULTS.md)."
    )
