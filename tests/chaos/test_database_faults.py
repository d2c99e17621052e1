"""Whatever the database does, every message is loaded once, and none is quarantined for it.

This is one file because its tests share the checks on a whole run and the server on a small disk.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import (
    ended,
    expected_users,
    held_sessions,
    ledger_locked,
    logins,
    make_tables,
    new_job,
    numbers,
    running,
    until,
    users,
)
from tests.chaos.database import (
    cancel_statements,
    crash_by_write_ahead_log,
    database_setting,
    deadlock,
    end_sessions,
    filled,
    read_only,
    session,
    small_disk,
    standby_missing,
    superuser_url,
    target_locked,
)
from tests.chaos.proxy import Fault, Proxy, is_commit, via_proxy
from tests.conftest import Job

MESSAGES = 90
BATCHES = {"ETL_BATCH__ROWS": "30"}


def wait_for_log(process: subprocess.Popen[str], words: str) -> None:
    """Wait until the run logs these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"the run ended without logging {words!r}")


def check_all_loaded_once(job: Job, summary: dict[str, Any]) -> None:
    """Check that every message is loaded once, none quarantined, and none left in the queue."""
    parts = ("received", "loaded", "already_handled", "quarantined", "released")
    assert [summary[part] for part in parts] == [MESSAGES, MESSAGES, 0, 0, 0]
    assert users(job) == expected_users(MESSAGES)
    assert job.rows("select count(*) from etl.quarantine") == [(0,)]
    assert job.rows("select count(*) from etl.ledger") == [(MESSAGES,)]
    assert numbers(job) == (0, 0)


@pytest.fixture
def sent(job: Job) -> list[str]:
    """Create the tables and send good messages; returns their ids."""
    make_tables(job)
    return job.send(*logins(MESSAGES))


def test_a_deadlock_is_tried_again(job: Job, postgres: EmbeddedPostgres) -> None:
    """The server aborts the job's transaction, not the rival's."""
    make_tables(job)
    ids = job.send(*logins(MESSAGES))
    with target_locked(job) as release, running(job, ETL_BATCH__ROWS=str(MESSAGES)) as process:
        until(lambda: held_sessions(job))
        deadlock(superuser_url(postgres, job), ids[0], release)
        wait_for_log(process, "SQLSTATE 40P01 (DeadlockDetected); trying again")
        check_all_loaded_once(job, ended(process))


@pytest.mark.parametrize("name", ["lock_timeout", "statement_timeout", "transaction_timeout"])
def test_a_time_limit_of_the_role_does_not_end_a_batch(
    name: str, job: Job, sent: list[str]
) -> None:
    """The batch would be too long for it in every attempt, so it has its own."""
    if name == "transaction_timeout":
        ((version,),) = job.rows("show server_version_num")
        if int(version) < 170000:
            pytest.skip("transaction_timeout is new in Postgres 17")
    with (
        target_locked(job) as release,
        database_setting(job, name, "300ms"),
        running(job, **BATCHES) as process,
    ):
        until(lambda: held_sessions(job))
        pids = held_sessions(job)
        time.sleep(1)
        assert held_sessions(job) == pids
        release()
        check_all_loaded_once(job, ended(process))


def test_a_cancelled_statement_is_tried_again(job: Job, sent: list[str]) -> None:
    """The log says what may have cancelled it."""
    with target_locked(job) as release, running(job, **BATCHES) as process:
        until(lambda: held_sessions(job))
        cancel_statements(job)
        wait_for_log(process, "SQLSTATE 57014 (QueryCanceled): cancelled: by an administrator")
        release()
        check_all_loaded_once(job, ended(process))


def test_statements_that_are_always_cancelled_end_the_run(job: Job, sent: list[str]) -> None:
    """The exit code is 1, the reason is printed, and every message is visible at once."""
    retries = {"ETL_DATABASE__RETRY_SECONDS": "1"}
    with target_locked(job), running(job, **BATCHES, **retries) as process:
        while process.poll() is None:
            cancel_statements(job)
            time.sleep(0.05)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "SQLSTATE 57014 (QueryCanceled): cancelled: by an" in err.splitlines()[-1]
    assert '"stop_reason": "database unavailable"' in out
    assert numbers(job) == (MESSAGES, 0)
    check_all_loaded_once(job, job.run())


@pytest.mark.long
def test_a_read_only_failover_is_waited_out(job: Job, sent: list[str]) -> None:
    """It may happen in the middle of a batch, or at the start of a run."""
    with ledger_locked(job) as release, running(job, **BATCHES) as process:
        until(lambda: held_sessions(job))
        with read_only(job):
            release()
            wait_for_log(
                process, "SQLSTATE 25006 (ReadOnlySqlTransaction): the database is read-only"
            )
        check_all_loaded_once(job, ended(process))
    with read_only(job), running(job) as process:
        wait_for_log(process, "SQLSTATE 25006 (ReadOnlySqlTransaction): the database is read-only")
        process.terminate()
        process.communicate(timeout=60)


def test_sessions_ended_again_and_again_cost_nothing(job: Job, sent: list[str]) -> None:
    """They are ended three times in the same batch."""
    with ledger_locked(job) as release, running(job, **BATCHES) as process:
        ended_pids: set[int] = set()

        def new_waiting_pids() -> set[int]:
            return {*held_sessions(job)} - ended_pids

        for _ in range(3):
            until(new_waiting_pids)
            ended_pids |= new_waiting_pids()
            assert end_sessions(job)
        until(new_waiting_pids)
        release()
        check_all_loaded_once(job, ended(process))


def test_a_connection_cut_in_every_batch_costs_nothing(job: Job, sent: list[str]) -> None:
    """It is cut before the COMMIT or after it, twice each in a run; one COMMIT is late."""
    url = job.environment["DATABASE_URL"]
    faults = iter([Fault.UNANSWERED, Fault.LOST, Fault.DELAYED, Fault.LOST, Fault.UNANSWERED])
    claimed = False

    def policy(request: bytes) -> Fault:
        nonlocal claimed
        claimed = claimed or b"insert into etl.ledger" in request
        if claimed and is_commit(request):
            claimed = False
            return next(faults, Fault.NONE)
        return Fault.NONE

    with Proxy(sa.make_url(url).port or 0, policy) as proxy:
        check_all_loaded_once(job, job.run(**BATCHES, DATABASE_URL=via_proxy(url, proxy.port)))
        assert proxy.fired == {"unanswered": 2, "lost": 2, "delayed": 1}


def test_a_black_hole_longer_than_the_visibility_timeout_costs_nothing(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """Nothing of the batch gets through for three timeouts; then the run goes on."""
    with new_job(sqs, postgres, visibility_seconds=4) as job:
        job.send(*logins(MESSAGES))
        url = job.environment["DATABASE_URL"]
        with Proxy(sa.make_url(url).port or 0) as proxy:
            settings = {
                "DATABASE_URL": via_proxy(url, proxy.port),
                "ETL_BATCH__ROWS": str(MESSAGES),
            }
            with ledger_locked(job) as release, running(job, **settings) as process:
                until(lambda: held_sessions(job))
                with proxy.black_hole():
                    release()
                    # For three timeouts, another consumer gets none of the messages.
                    for _ in range(12):
                        answer = job.client.receive_message(
                            QueueUrl=job.queue_url, WaitTimeSeconds=1
                        )
                        assert "Messages" not in answer
                check_all_loaded_once(job, ended(process))


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (Fault.HELD, b"insert into etl.ledger"),
        (Fault.SILENT, b"COMMIT\0"),
        (Fault.HELD, b"SELECT 1"),
    ],
)
def test_a_database_that_falls_silent_is_hung_up_on(
    fault: Fault, at: bytes, job: Job, sent: list[str]
) -> None:
    """It falls silent at a query, after a commit, or at the pool's ping between two batches."""
    url = job.environment["DATABASE_URL"]
    claimed = False
    faults = iter([fault])

    def policy(request: bytes) -> Fault:
        nonlocal claimed
        claimed = claimed or b"insert into etl.ledger" in request
        return next(faults, Fault.NONE) if claimed and at in request else Fault.NONE

    with Proxy(sa.make_url(url).port or 0, policy) as proxy:
        settings = {"DATABASE_URL": via_proxy(url, proxy.port), "ETL_DATABASE__ANSWER_SECONDS": "3"}
        with running(job, **BATCHES, **settings) as process:
            wait_for_log(
                process,
                "a transaction has taken longer than database.answer_seconds (3 s); closing",
            )
            check_all_loaded_once(job, ended(process))
        assert proxy.fired == {fault.name.lower(): 1}


def test_a_commit_without_its_standby_is_not_acknowledged(sqs: EmbeddedSqs) -> None:
    """Neither while it waits, nor when the session that waited is ended and the rows are there."""
    waiting = "from pg_stat_activity where wait_event = 'SyncRep'"
    limits = {"ETL_DATABASE__ANSWER_SECONDS": "4", "ETL_DATABASE__RETRY_SECONDS": "1"}
    with EmbeddedPostgres() as server, new_job(sqs, server) as job:
        job.send(*logins(MESSAGES))
        with (
            target_locked(job) as release,
            running(job, ETL_BATCH__ROWS=str(MESSAGES), **limits) as process,
        ):
            until(lambda: held_sessions(job))
            with standby_missing(server):
                release()
                until(lambda: job.rows(f"select pid {waiting}"))
                job.rows(f"select pg_terminate_backend(pid) {waiting}")
                wait_for_log(process, "the batch had been committed before")
                process.communicate(timeout=60)
                assert process.returncode == 1
                assert job.rows("select count(*) from user_logins") == [(MESSAGES,)]
                assert numbers(job) == (MESSAGES, 0)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A small disk, which the tests fill."""
    with small_disk(160) as folder:
        yield folder


@pytest.fixture(scope="module")
def server_on_small_disk(disk: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres on that disk, with its write-ahead log."""
    settings = {"min_wal_size": "32MB", "max_wal_size": "32MB"}
    with EmbeddedPostgres(disk / "postgres", settings=settings) as server:
        yield server


def test_a_full_disk_is_waited_out(
    sqs: EmbeddedSqs, server_on_small_disk: EmbeddedPostgres, disk: Path
) -> None:
    """No row is blamed when the table cannot grow."""
    with new_job(sqs, server_on_small_disk) as job:
        job.send(*logins(MESSAGES))
        with running(job, **BATCHES) as process:
            with filled(disk):
                wait_for_log(
                    process, "SQLSTATE 53100 (DiskFull): the server's disk is full; trying again"
                )
            check_all_loaded_once(job, ended(process))


def test_a_full_disk_that_stays_full_ends_the_run(
    sqs: EmbeddedSqs, server_on_small_disk: EmbeddedPostgres, disk: Path
) -> None:
    """The exit code is 1, and every message stays in the queue for a run that finds room."""
    with new_job(sqs, server_on_small_disk) as job:
        job.send(*logins(MESSAGES))
        with filled(disk):
            done = job.command("run", *job.arguments, **BATCHES, ETL_DATABASE__RETRY_SECONDS="1")
        assert done.returncode == 1
        assert "SQLSTATE 53100 (DiskFull)" in done.stderr
        assert numbers(job) == (MESSAGES, 0)
        check_all_loaded_once(job, job.run())


def test_a_server_that_ends_because_its_log_cannot_grow_costs_nothing(
    sqs: EmbeddedSqs, server_on_small_disk: EmbeddedPostgres, disk: Path
) -> None:
    """A batch waits for its commit, and the server cannot even recover until there is room."""
    with new_job(sqs, server_on_small_disk) as job:
        job.send(*logins(MESSAGES))
        with running(job, **BATCHES) as process:
            with ledger_locked(job), session(server_on_small_disk.superuser_url) as writer:
                until(lambda: held_sessions(job))
                with filled(disk):
                    crash_by_write_ahead_log(writer)
                    wait_for_log(process, "trying again")
            server_on_small_disk.start()
            check_all_loaded_once(job, ended(process))
