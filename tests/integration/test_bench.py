"""The benchmarks run and write their results; no test here depends on how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bench.__main__ import parser, parts
from bench.messages import write_bodies
from bench.stub import Stub
from tests.conftest import ROOT

MESSAGES = 25


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """Start a stub queue of a few messages, with fewer bodies than messages."""
    bodies = tmp_path_factory.mktemp("stub") / "bodies"
    write_bodies(bodies, 7)
    with Stub(bodies, MESSAGES) as running:
        yield running


@pytest.fixture(scope="module")
def drained(stub: Stub) -> list[Any]:
    """Return what a client receives until the queue is empty; all but the last ten are deleted."""
    client = boto3.Session().client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=stub.environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(proxies={}),
    )
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
