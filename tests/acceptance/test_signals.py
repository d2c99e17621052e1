"""What a first and a second signal do, in each phase of a run, and what is recorded of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import (
    held_sessions,
    ledger_locked,
    logins,
    new_job,
    numbers,
    running,
    until,
    users,
)
from tests.acceptance.test_workers import worker_processes
from tests.chaos.proxy import Fault, Proxy, via_proxy
from tests.conftest import Job

MESSAGES = 450  # fewer than the first batch may have
# All messages are gathered, and none is loaded.
GATHERING = {"ETL_BATCH__SECONDS": "600", "ETL_BATCH__QUIET_SECONDS": "600"}


@pytest.fixture
def empty(sqs: EmbeddedSqs, postgres: EmbeddedPostgres) -> Iterator[Job]:
    """A job whose queue is empty."""
    with new_job(sqs, postgres) as job:
        yield job


@pytest.fixture
def held(empty: Job) -> Job:
    """A job with messages in its queue."""
    empty.send(*logins(MESSAGES))
    return empty


def gather(job: Job) -> None:
    """Send messages to a run that has found its queue empty, and wait until it has them.

    A first batch with all that was waiting would close at once.
    """
    until(lambda: reasons(job))
    job.send(*logins(MESSAGES))
    until(lambda: numbers(job)[1] == MESSAGES)


@contextmanager
def without_answers(sqs: EmbeddedSqs, job: Job, action: bytes) -> Iterator[tuple[Any, Any]]:
    """Let no call of this kind be answered.

    Yields the variables that put the proxy in between, and an event that is set at the first call.
    """
    called = threading.Event()

    def hold(request: bytes) -> Fault:
        if action not in request:
            return Fault.NONE
        called.set()
        return Fault.HELD

    port = urlsplit(sqs.endpoint_url).port
    assert port
    with Proxy(port, hold) as proxy:
        names = ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL")
        yield {name: via_proxy(job.environment[name], proxy.port) for name in names}, called


def end_of(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Wait for the end of a run; return its summary and its log."""
    out, err = process.communicate(timeout=120)
    summary: dict[str, Any] = json.loads(out)
    assert summary["received"] == sum(
        summary[part] for part in ("loaded", "already_handled", "quarantined", "released")
    )
    return summary, err


def reasons(job: Job) -> list[str | None]:
    """What etl.runs says why each run ended."""
    return [reason for (reason,) in job.rows("select stop_reason from etl.runs")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_gives_everything_back_and_is_the_reason(
    empty: Job, number: signal.Signals, workers: int
) -> None:
    """It is acknowledged once, also by workers, and announced, with what would end it."""
    with running(empty, "--workers", str(workers), **GATHERING) as process:
        gather(empty)
        process.send_signal(number)
        summary, err = end_of(process)
    assert process.returncode == 0
    assert summary["stop_reason"] == number.name
    assert reasons(empty) == [number.name]
    assert summary["released"] >= MESSAGES
    assert numbers(empty) == (MESSAGES, 0)
    name = "SIGTERM" if number is signal.SIGTERM else "Ctrl-C"
    assert err.count(f"{name}: finishing the batch in hand, then releasing the rest") == 1
    if workers == 1:
        said = re.search(r"giving \d+ messages back; (\S+) again leaves them", err)
        assert said
        assert said[1] == name


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_leaves_the_rest_to_the_visibility_timeout(
    sqs: EmbeddedSqs, empty: Job, workers: int
) -> None:
    """Though SQS answers no release; the run still has its summary and its row."""
    with (
        without_answers(sqs, empty, b"ChangeMessageVisibilityBatch") as (proxied, releasing),
        running(empty, "--workers", str(workers), **GATHERING, **proxied) as process,
    ):
        gather(empty)
        process.send_signal(signal.SIGTERM)
        until(releasing.is_set)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        summary, _ = end_of(process)
        assert time.monotonic() - began < 30  # the calls in progress would take 45 s to fail
    assert process.returncode == 1
    assert summary["stop_reason"] == "SIGTERM"
    assert "interrupted again" in summary["problem"]
    assert reasons(empty) == ["SIGTERM"]


def test_a_second_signal_during_a_load_ends_the_run_at_once(held: Job) -> None:
    """A statement in the database does not hold it up."""
    with ledger_locked(held), running(held) as process:
        until(lambda: held_sessions(held))
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert users(held) == []


def test_a_second_signal_during_a_load_ends_all_workers_at_once(held: Job) -> None:
    """The parent survives them, and says what became of the run."""
    small = {"ETL_BATCH__ROWS": "50"}
    with ledger_locked(held) as unlock, running(held, "--workers", "2", **small) as process:
        until(lambda: len(held_sessions(held)) == 2)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        until(lambda: not worker_processes(process.pid))
        unlock()
        out, err = process.communicate(timeout=60)
    summary = json.loads(out)
    assert process.returncode == 1
    assert summary["stop_reason"] == "SIGINT"
    assert "2 of 2 workers were ended in the middle of a batch" in summary["problem"]
    assert "died" not in err


def test_a_second_signal_during_the_last_deletes_leaves_them_to_the_ledger(
    sqs: EmbeddedSqs, held: Job
) -> None:
    """What was loaded stays loaded, and the summary says how many will come again."""
    with (
        without_answers(sqs, held, b"DeleteMessageBatch") as (proxied, deleting),
        running(held, "--max-messages", str(MESSAGES), **proxied) as process,
    ):
        until(deleting.is_set)
        until(lambda: len(users(held)) == MESSAGES)
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        summary, _ = end_of(process)
    assert process.returncode == 0
    assert (summary["loaded"], summary["not_acknowledged"]) == (MESSAGES, MESSAGES)
    assert summary["stop_reason"] == "SIGTERM"


def test_a_signal_that_ends_the_wait_for_the_database_is_the_reason(held: Job) -> None:
    """Without the signal the run would have gone on waiting."""
    port = int(held.environment["DATABASE_URL"].rsplit(":", 1)[1].split("/")[0])
    with ledger_locked(held):
        with Proxy(port) as proxy:
            url = via_proxy(held.environment["DATABASE_URL"], proxy.port)
            process = held.start("run", *held.arguments, DATABASE_URL=url)
            until(lambda: held_sessions(held))
        # The database is away from now on.
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    summary = json.loads(out)
    assert process.returncode == 1
    assert summary["stop_reason"] == "SIGTERM"
    assert summary["released"] == summary["received"]
