"""Nothing is lost and nothing is loaded twice, whatever crashes at the worst moment.

This is one file because its tests share the server that they stop, and the checks after a crash.
"""

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
from tests.chaos.proxy import Fault, Proxy, via_proxy
from tests.conftest import Job

MESSAGES = 60


def one_batch(count: int = MESSAGES) -> dict[str, str]:
    """Settings that load a batch as soon as it has *count* rows."""
    return {"ETL_BATCH__ROWS": str(count)}


def nonzero_counts(summary: dict[str, Any]) -> dict[str, int]:
    """The counts of a run's summary that are not zero."""
    names = ("received", "loaded", "already_handled", "quarantined", "released")
    return {name: summary[name] for name in names if summary[name]}


def test_a_run_killed_before_its_commit_loses_nothing(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """The rows were inserted but not committed; the next run loads each message once."""
    with new_job(sqs, postgres, visibility_seconds=3) as job:
        job.send(*logins(MESSAGES))
        with ledger_locked(job) as release, running(job, **one_batch()) as process:
            until(lambda: held_sessions(job))
            killed(process)
            release()
        until(lambda: visible(job) == MESSAGES)
        assert users(job) == []
        assert nonzero_counts(job.run()) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_a_run_killed_before_its_acknowledgements_loads_nothing_twice(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """The rows are committed before the first delete; the next run finds them in the ledger."""
    delete_sent = threading.Event()

    def lose_deletes(request: bytes) -> Fault:
        if b"DeleteMessageBatch" not in request:
            return Fault.NONE
        delete_sent.set()
        return Fault.LOST

    with new_job(sqs, postgres, visibility_seconds=3) as job:
        job.send(*logins(MESSAGES))
        port = urlsplit(sqs.endpoint_url).port
        assert port
        with Proxy(port, lose_deletes) as proxy:
            names = ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL")
            proxied = {name: via_proxy(job.environment[name], proxy.port) for name in names}
            with running(job, **one_batch(), **proxied) as process:
                until(delete_sent.is_set)
                assert users(job) == expected_users(MESSAGES)
                killed(process)
        until(lambda: visible(job) == MESSAGES)
        assert nonzero_counts(job.run()) == {"received": MESSAGES, "already_handled": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_two_runs_at_once_load_each_message_once(postgres: EmbeddedPostgres) -> None:
    """They share a queue that delivers half of its messages again, and each run's counts add up."""
    count = 400
    with EmbeddedSqs(redeliver_fraction=0.5) as sqs, new_job(sqs, postgres) as job:
        job.send(*logins(count))
        small_batches = one_batch(40)
        with running(job, **small_batches) as first, running(job, **small_batches) as second:
            with ledger_locked(job) as release:
                until(lambda: len(held_sessions(job)) == 2)
                release()
            summaries = [ended(first), ended(second)]
        assert all(summary["loaded"] for summary in summaries)
        assert sum(summary["loaded"] for summary in summaries) == count
        assert sum(summary["already_handled"] for summary in summaries) > 0
        assert users(job) == expected_users(count)


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A Postgres that only these tests use, and may stop."""
    with EmbeddedPostgres() as server:
        yield server


def test_a_database_that_comes_back_gets_every_row_once(
    sqs: EmbeddedSqs, own_server: EmbeddedPostgres
) -> None:
    """It stops in the middle of a batch's transaction, for some seconds."""
    with new_job(sqs, own_server) as job:
        job.send(*logins(MESSAGES))
        with ledger_locked(job), running(job, **one_batch(MESSAGES // 3)) as process:
            until(lambda: held_sessions(job))
            own_server.stop()
            time.sleep(2)
            own_server.start()
            summary = ended(process)
        assert nonzero_counts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)
        assert numbers(job) == (0, 0)


def test_a_database_that_crashes_in_every_batch_gets_every_row_once(
    sqs: EmbeddedSqs, own_server: EmbeddedPostgres
) -> None:
    """``pg_ctl -m immediate`` tells no session and writes no buffer."""
    with new_job(sqs, own_server) as job:
        job.send(*logins(MESSAGES))
        with running(job, **one_batch(MESSAGES // 3)) as process:
            for _ in range(3):
                with ledger_locked(job):
                    until(lambda: held_sessions(job))
                    own_server.restart("immediate")
            summary = ended(process)
        assert nonzero_counts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
        assert users(job) == expected_users(MESSAGES)


def test_a_database_that_stays_away_ends_the_run_and_keeps_the_messages(
    sqs: EmbeddedSqs, own_server: EmbeddedPostgres
) -> None:
    """The exit code is 1, and everything that was not loaded is visible at once."""
    with new_job(sqs, own_server) as job:
        job.send(*logins(MESSAGES))
        retries = {"ETL_DATABASE__RETRY_SECONDS": "1"}
        with (
            ledger_locked(job),
            running(job, **one_batch(MESSAGES // 3), **retries) as process,
        ):
            until(lambda: held_sessions(job))
            own_server.stop("immediate")
            try:
                summary = ended(process, code=1)
                assert summary["stop_reason"] == "database unavailable"
                assert summary["loaded"] == 0
                assert numbers(job) == (MESSAGES, 0)
            finally:
                own_server.start()


def test_a_lost_reply_to_commit_is_looked_up_in_the_ledger(job: Job) -> None:
    """The batch counts as loaded, not as already handled, and its rows are there once."""
    make_tables(job)
    job.send(*logins(MESSAGES), "no JSON")
    requests: list[str] = []

    def lose_a_reply(request: bytes) -> Fault:
        if b"insert into etl.ledger" in request:
            requests.append("claim")
        elif b"COMMIT\0" in request and requests == ["claim"]:
            requests.append("commit")
            return Fault.UNANSWERED
        return Fault.NONE

    url = sa.make_url(job.environment["DATABASE_URL"])
    assert url.port
    with Proxy(url.port, lose_a_reply) as proxy:
        proxied = via_proxy(job.environment["DATABASE_URL"], proxy.port)
        summary = job.run(DATABASE_URL=proxied, **one_batch())
    # The same batch again, then the next one.
    assert requests == ["claim", "commit", "claim", "claim"]
    assert nonzero_counts(summary) == {
        "received": MESSAGES + 1,
        "loaded": MESSAGES,
        "quarantined": 1,
    }
    assert summary["batches"] == 2
    assert users(job) == expected_users(MESSAGES)


def test_a_lost_reply_to_the_commit_of_the_runs_row_costs_nothing(job: Job) -> None:
    """The retry finds that the run has its row already, and adds no second one."""
    make_tables(job)
    job.send(*logins(MESSAGES))
    requests: list[str] = []

    def lose_a_reply(request: bytes) -> Fault:
        if b"insert into etl.runs" in request:
            requests.append("start")
        elif b"COMMIT\0" in request and requests == ["start"]:
            requests.append("commit")
            return Fault.UNANSWERED
        return Fault.NONE

    port = sa.make_url(job.environment["DATABASE_URL"]).port
    assert port
    with Proxy(port, lose_a_reply) as proxy:
        summary = job.run(DATABASE_URL=via_proxy(job.environment["DATABASE_URL"], proxy.port))
    assert requests == ["start", "commit", "start"]
    assert nonzero_counts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
    assert job.rows("select count(*) from etl.runs") == [(1,)]


def test_a_message_delivered_three_times_is_loaded_once(postgres: EmbeddedPostgres) -> None:
    """It comes again while its batch is being loaded, and again after it was deleted."""
    with (
        EmbeddedSqs(redeliver_fraction=1.0) as sqs,
        new_job(sqs, postgres, visibility_seconds=2) as job,
    ):
        job.send(*logins(MESSAGES))
        patient_job = replace(job, arguments=("--idle-seconds", "3", "--json"))
        # A long poll would deliver ten of them to the stopped job, whose next batch has no room for
        # them, so they would be delivered once more.
        settings = {**one_batch(), "ETL_QUEUE__WAIT_SECONDS": "0"}
        with ledger_locked(job) as release, running(patient_job, **settings) as process:
            until(lambda: held_sessions(job))
            # A stopped job extends no visibility timeout, so its messages become visible again.
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
    """The counts of the run include both deliveries."""
    with new_job(sqs, postgres, visibility_seconds=2) as job:
        deliveries = ("--idle-seconds", "600", "--max-messages", str(2 * MESSAGES))
        waiting = {
            **one_batch(3 * MESSAGES),
            "ETL_BATCH__SECONDS": "600",
            "ETL_BATCH__QUIET_SECONDS": "600",
        }
        with running(job, *deliveries, **waiting) as process:
            # A first batch with all that was waiting at the start would close at once.
            until(lambda: job.rows("select from etl.runs"))
            job.send(*logins(MESSAGES))
            until(lambda: numbers(job) == (0, MESSAGES))
            # A stopped job extends no visibility timeout, so its messages become visible again.
            process.send_signal(signal.SIGSTOP)
            until(lambda: visible(job) == MESSAGES)
            process.send_signal(signal.SIGCONT)
            summary = ended(process)
        expected = {"received": 2 * MESSAGES, "loaded": MESSAGES, "already_handled": MESSAGES}
        assert nonzero_counts(summary) == expected
        assert summary["batches"] == 1
        assert users(job) == expected_users(MESSAGES)


def test_a_load_slower_than_the_visibility_timeout_keeps_its_messages(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """For three timeouts neither another consumer nor the job itself receives one again."""
    with new_job(sqs, postgres, visibility_seconds=4) as job:
        job.send(*logins(MESSAGES))
        others: list[Any] = []
        with ledger_locked(job) as release, running(job, **one_batch()) as process:
            until(lambda: held_sessions(job))
            end = time.monotonic() + 12
            while time.monotonic() < end:
                answer = job.client.receive_message(QueueUrl=job.queue_url, WaitTimeSeconds=1)
                others += answer.get("Messages", [])
            release()
            summary = ended(process)
        assert others == []
        assert nonzero_counts(summary) == {"received": MESSAGES, "loaded": MESSAGES}
