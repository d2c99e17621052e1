"""A whole job whose rows replace each other: its counts, its quarantine, its keys, and forget."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KEYRING, Job

MASKED = {"name": "masked_device", "field": "device", "type": "text", "mask": True}
AMOUNT = {"name": "amount", "field": "amount", "type": "integer"}
SENT = {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp"}


@pytest.fixture
def devices(tmp_path: Path) -> str:
    """A configuration with one row for each device, and the device masked."""
    path = tmp_path / "devices.yaml"
    table = {
        "name": "devices",
        "on_conflict": "update",
        "key": ["masked_device"],
        "columns": [MASKED, AMOUNT, SENT],
    }
    path.write_text(json.dumps({"table": table}))
    return str(path)


def event(device: str, amount: int) -> str:
    """The body of an event."""
    return json.dumps({"device": device, "amount": amount})


def send(job: Job, *bodies: str) -> None:
    """Send events one after the other, each in a later millisecond than the one before."""
    for body in bodies:
        job.send(body)
        began = time.time_ns() // 1_000_000
        while time.time_ns() // 1_000_000 <= began:
            pass


def amounts(job: Job) -> list[int]:
    """What the rows hold."""
    return [amount for (amount,) in job.rows("select amount from devices order by amount")]


def test_counts_say_what_became_of_the_loaded(job: Job, devices: str, tmp_path: Path) -> None:
    """In the summary, in etl.runs and on the run's page; rows added are what is left."""
    send(job, event("a", 1), event("a", 2), event("b", 3))
    first = job.run("--config", devices)
    assert (first["loaded"], first["updated"], first["skipped"]) == (3, 0, 1)
    send(job, event("a", 4), event("c", 5))
    metrics = tmp_path / "etl.prom"
    second = job.run("--config", devices, ETL_METRICS__TEXTFILE=str(metrics))
    assert (second["loaded"], second["updated"], second["skipped"]) == (2, 1, 0)
    assert amounts(job) == [3, 4, 5]
    told = re.findall(r'etl_run_conflicts{.*outcome="(\w+)".*} (.*)', metrics.read_text())
    assert told == [("updated", "1.0"), ("skipped", "0.0")]
    stored = "select sum(loaded - updated - skipped) from etl.runs"
    assert job.rows(stored) == [(3,)]
    page = job.command("history", second["run_id"], "--config", devices)
    assert "of the loaded: 1 updated a row, 0 skipped" in page.stdout
    record: dict[str, Any] = json.loads(
        job.command("history", second["run_id"], "--json", "--config", devices).stdout
    )
    assert (record["updated"], record["skipped"]) == (1, 0)


def test_a_replay_replaces_no_newer_row(job: Job, devices: str) -> None:
    """An event in quarantine keeps its sent time, so a row that came since then stays."""
    job.command("init", "--config", devices)
    with job.engine.begin() as connection:
        connection.exec_driver_sql("alter table devices add constraint c check (amount <> 13)")
    send(job, event("a", 1), event("a", 13), event("b", 13), event("a", 2))
    summary = job.run("--config", devices)
    assert (summary["loaded"], summary["quarantined"]) == (2, 2)
    with job.engine.begin() as connection:
        connection.exec_driver_sql("alter table devices drop constraint c")
    replayed = job.command("quarantine", "replay", "--all", "--json", "--config", devices)
    counts = json.loads(replayed.stdout)
    assert (counts["loaded"], counts["updated"], counts["skipped"]) == (2, 0, 1)
    assert amounts(job) == [2, 13]
    assert job.rows("select distinct closed_as from etl.quarantine") == [("replayed",)]


def test_a_new_key_needs_a_rekey_first(job: Job, devices: str) -> None:
    """A run would not find the rows of a masked key; after rekey, it does."""
    send(job, event("a", 1))
    job.run("--config", devices)
    rotated: dict[str, Any] = {"ETL_KEYRING": KEYRING.with_new("k2").dump()}
    send(job, event("a", 2))
    refused = job.command("run", *job.arguments, "--config", devices, **rotated)
    assert refused.returncode == 2
    assert "is in 'table.key' and holds tokens of another key than 'k2'" in refused.stderr
    assert "run: etl rekey" in refused.stderr
    assert job.command("rekey", "--config", devices, **rotated).returncode == 0
    summary = job.run("--config", devices, **rotated)
    assert (summary["loaded"], summary["updated"]) == (1, 1)
    assert amounts(job) == [2]


def test_a_person_is_forgotten_and_may_come_back(job: Job, devices: str) -> None:
    """After forget, an event of the same key adds a row."""
    send(job, event("a", 1))
    job.run("--config", devices)
    gone = job.command(
        "forget", "-", "--column", "device", "--yes", "--config", devices, piped="a\n"
    )
    assert gone.returncode == 0, gone.stderr
    assert amounts(job) == []
    send(job, event("a", 2))
    planned = job.command("run", "--dry-run", "--json", "--config", devices)
    assert json.loads(planned.stdout)["would_load"] == 1
    assert job.run("--config", devices)["updated"] == 0
    assert amounts(job) == [2]
