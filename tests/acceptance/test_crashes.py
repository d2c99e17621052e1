"""Nothing is lost and nothing comes twice, whatever dies at the worst moment."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import (
    ended,
    expected_users,
    held_sessions,
    killed,
    ledger_locked,
    logins,
    make_tables,
    new_job,
    numbers,
    running,
    until,
    users,
    visible,
)
from tests.chaos.proxy import Fate, Proxy, detour
from tests.conftest import Job

MESSAGES = 60


def one_batch(count: int = MESSAGES) -> dict[str, str]:
    """Settings by which a batch is loaded as soon as it has so many rows."""
    return {"ETL_BATCH__ROWS": str(count)}


def parts(summary: dict[str, Any]) -> dict[str, int]:
    """The counts of a run that are not zero."""
    names = ("received", "loaded", "already_handled", "quarantined", "released")
    return {name: summary[name] for name in names if summary[name]}


def test_a_run_killed_before_its_commit_loses_nothing(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """The rows were inserted; the next run finds all messages, and loads each of them once."""
    with new_job(sqs, postgres, visibility_seconds=3) as job:
        job.send(*logins(MESSAGES))
        with ledger_locked(job) as release, running(job, **one_batch()) as process:
            until(lambda: held_sessions(job))
            killed(process)
            release()
        until(lambda: visible(job) == MESSAGES)
        assert users(job) == []
        assert parts(job.run()) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_a_run_killed_before_its_acknowledgements_loads_nothing_twice(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """When it first asks SQS to delete, the rows are committed; the next run knows the messages."""
    asked = threading.Event()

    def lose_deletes(request: bytes) -> Fate:
        if b"DeleteMessageBatch" not in request:
            return Fate.PASSED
        asked.set()
        return Fate.LOST

    with new_job(sqs, postgres, visibility_seconds=3) as job:
        job.send(*logins(MESSAGES))
        port = urlsplit(sqs.endpoint_url).port
        assert port
        with Proxy(port, lose_deletes) as proxy:
            names = ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL")
            by_proxy = {name: detour(job.environment[name], proxy.port) for name in names}
            with running(job, **one_batch(), **by_proxy) as process:
                until(asked.is_set)
                assert users(job) == expected_users(MESSAGES)
                killed(process)
        until(lambda: visible(job) == MESSAGES)
        assert parts(job.run()) == {"received": MESSAGES, "already_handled": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_two_runs_at_once_load_each_message_once(postgres: EmbeddedPostgres) -> None:
    """On one queue that delivers half of its messages again; each run's counts add up."""
    count = 400
    with EmbeddedSqs(redeliver_fraction=0.5) as sqs, new_job(sqs, postgres) as job:
        job.send(*logins(count))
        small = one_batch(40)
        with running(job, **small) as one, running(job, **small) as other:
            with ledger_locked(job) as release:
                until(lambda: len(held_sessions(job)) == 2)
                release()
            summaries = [ended(one), ended(other)]
        assert all(summary["loaded"] for summary in summaries)
        assert sum(summary["loaded"] for summary in summaries) == count
        assert sum(summary["already_handled"] for summary in summaries) > 0
        assert users(job) == expected_users(count)


@pytest.fixture(scope="module")
def mortal() -> Iterator[EmbeddedPostgres]:
    """A Postgres that the tests may stop."""
    with EmbeddedPostgres() as server:
        yield server


def test_a_database_that_comes_back_gets_every_row_once(
    sqs: EmbeddedSqs, mortal: EmbeddedPostgres
) -> None:
    """It stops in the middle of a batch's transaction, and is away for some seconds."""
    with new_job(sqs, mortal) as job:
        job.send(*logins(MESSAGES))
        with ledger_locked(job), running(job, **one_batch(MESSAGES // 3)) as process:
            until(lambda: held_sessions(job))
            mortal.stop()
            time.sleep(2)
            mortal.start()
            summary = ended(process)
        assert parts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_a_database_that_crashes_in_every_batch_gets_every_row_once(
    sqs: EmbeddedSqs, mortal: EmbeddedPostgres
) -> None:
    """What ``pg_ctl -m immediate`` does: no session is told, no buffer written."""
    with new_job(sqs, mortal) as job:
        job.send(*logins(MESSAGES))
        with running(job, **one_batch(MESSAGES // 3)) as process:
            for _ in range(3):
                with ledger_locked(job):
                    until(lambda: held_sessions(job))
                    mortal.restart("immediate")
            summary = ended(process)
        assert parts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)


def test_a_database_that_stays_away_ends_the_run_and_keeps_the_messages(
    sqs: EmbeddedSqs, mortal: EmbeddedPostgres
) -> None:
    """Exit code 1, and everything not loaded is visible at once."""
    with new_job(sqs, mortal) as job:
        job.send(*logins(MESSAGES))
        patience = {"ETL_DATABASE__RETRY_SECONDS": "1"}
        with (
            ledger_locked(job),
            running(job, **one_batch(MESSAGES // 3), **patience) as process,
        ):
            until(lambda: held_sessions(job))
            mortal.stop("immediate")
            try:
                summary = ended(process, code=1)
                assert summary["stop_reason"] == "database unavailable"
                assert summary["loaded"] == 0
                assert numbers(job) == (MESSAGES, 0)
            finally:
                mortal.start()


def test_a_lost_reply_to_commit_is_looked_up_in_the_ledger(job: Job) -> None:
    """The batch counts as loaded, not as handled already, and its rows are there once."""
    make_tables(job)
    job.send(*logins(MESSAGES), "no JSON")
    seen: list[str] = []

    def lose_a_reply(request: bytes) -> Fate:
        if b"insert into etl.ledger" in request:
            seen.append("claim")
        elif b"COMMIT\0" in request and seen == ["claim"]:
            seen.append("commit")
            return Fate.UNANSWERED
        return Fate.PASSED

    url = sa.make_url(job.environment["DATABASE_URL"])
    assert url.port
    with Proxy(url.port, lose_a_reply) as proxy:
        by_proxy = detour(job.environment["DATABASE_URL"], proxy.port)
        summary = job.run(DATABASE_URL=by_proxy, **one_batch())
    assert seen == ["claim", "commit", "claim", "claim"]  # the same batch again, then the next one
    assert parts(summary) == {"received": MESSAGES + 1, "loaded": MESSAGES, "quarantined": 1}
    assert summary["batches"] == 2
    assert users(job) == expected_users(MESSAGES)


def test_a_lost_reply_to_the_commit_of_the_runs_row_costs_nothing(job: Job) -> None:
    """The run is entered already when it is tried again, and stands there once."""
    make_tables(job)
    job.send(*logins(MESSAGES))
    seen: list[str] = []

    def lose_a_reply(request: bytes) -> Fate:
        if b"insert into etl.runs" in request:
            seen.append("start")
        elif b"COMMIT\0" in request and seen == ["start"]:
            seen.append("commit")
            return Fate.UNANSWERED
        return Fate.PASSED

    port = sa.make_url(job.environment["DATABASE_URL"]).port
    assert port
    with Proxy(port, lose_a_reply) as proxy:
        summary = job.run(DATABASE_URL=detour(job.environment["DATABASE_URL"], proxy.port))
    assert seen == ["start", "commit", "start"]
    assert parts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
    assert job.rows("select count(*) from etl.runs") == [(1,)]


def test_a_message_delivered_three_times_is_loaded_once(postgres: EmbeddedPostgres) -> None:
    """Once more while its batch is being loaded, and once more after it was deleted."""
    with (
        EmbeddedSqs(redeliver_fraction=1.0) as sqs,
        new_job(sqs, postgres, visibility_seconds=2) as job,
    ):
        job.send(*logins(MESSAGES))
        patient = replace(job, arguments=("--idle-seconds", "3", "--json"))
        # A long poll would take ten of them into the stopped job, and they would come back once
        # more while its next batch has no room left for them.
        settings = {**one_batch(), "ETL_QUEUE__WAIT_SECONDS": "0"}
        with ledger_locked(job) as release, running(patient, **settings) as process:
            until(lambda: held_sessions(job))
            # A stopped job extends nothing, so its messages come back under it.
            process.send_signal(signal.SIGSTOP)
            until(lambda: visible(job) == MESSAGES)
            process.send_signal(signal.SIGCONT)
            until(lambda: visible(job) == 0)
            release()
            summary = ended(process)
        assert summary["received"] >= 3 * MESSAGES
        assert summary["loaded"] == MESSAGES
        assert summary["already_handled"] == summary["received"] - MESSAGES
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_a_message_delivered_twice_within_a_batch_is_loaded_once(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """Both deliveries are counted."""
    with new_job(sqs, postgres, visibility_seconds=2) as job:
        job.send(*logins(MESSAGES))
        deliveries = ("--forever", "--max-messages", str(2 * MESSAGES))
        waiting = {**one_batch(3 * MESSAGES), "ETL_BATCH__SECONDS": "600"}
        with running(job, *deliveries, **waiting) as process:
            until(lambda: numbers(job) == (0, MESSAGES))
            # A stopped job extends nothing, so what it has gathered comes back under it.
            process.send_signal(signal.SIGSTOP)
            until(lambda: visible(job) == MESSAGES)
            process.send_signal(signal.SIGCONT)
            summary = ended(process)
        expected = {"received": 2 * MESSAGES, "loaded": MESSAGES, "already_handled": MESSAGES}
        assert parts(summary) == expected
        assert summary["batches"] == 1
        assert users(job) == expected_users(MESSAGES)


def test_a_load_slower_than_the_visibility_timeout_keeps_its_messages(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """For three timeouts of 2 s nobody else gets one, nor does the job get one again."""
    with new_job(sqs, postgres, visibility_seconds=2) as job:
        job.send(*logins(MESSAGES))
        others: list[Any] = []
        with ledger_locked(job) as release, running(job, **one_batch()) as process:
            until(lambda: held_sessions(job))
            end = time.monotonic() + 6
            while time.monotonic() < end:
                answer = job.client.receive_message(QueueUrl=job.queue_url, WaitTimeSeconds=1)
                others += answer.get("Messages", [])
            release()
            summary = ended(process)
        assert others == []
        assert parts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
