"""Whatever the database does, every message is loaded once, and none is called bad for it."""

from __future__ import annotations

import subprocess
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
    crash_by_write_ahead_log,
    database_setting,
    deadlock,
    end_sessions,
    filled,
    read_only,
    session,
    small_disk,
    superuser_url,
    target_locked,
)
from tests.chaos.proxy import Fate, Proxy, commits, detour
from tests.conftest import Job

MESSAGES = 90
BATCHES = {"ETL_BATCH__ROWS": "30"}


def says(process: subprocess.Popen[str], words: str) -> None:
    """Wait until the run logs these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"the run has ended and not said {words!r}")


def whole(job: Job, summary: dict[str, Any]) -> None:
    """Nothing lost, nothing doubled, nothing in quarantine, nothing left."""
    parts = ("received", "loaded", "already_handled", "quarantined", "released")
    assert [summary[part] for part in parts] == [MESSAGES, MESSAGES, 0, 0, 0]
    assert users(job) == expected_users(MESSAGES)
    assert job.rows("select count(*) from etl.quarantine") == [(0,)]
    assert job.rows("select count(*) from etl.ledger") == [(MESSAGES,)]
    assert numbers(job) == (0, 0)


@pytest.fixture
def sent(job: Job) -> list[str]:
    """The ids of good messages that wait in the queue; the tables are there."""
    make_tables(job)
    return job.send(*logins(MESSAGES))


def test_a_deadlock_is_tried_again(job: Job, postgres: EmbeddedPostgres) -> None:
    """The server ends the job's transaction, not its rival's."""
    make_tables(job)
    ids = job.send(*logins(MESSAGES))
    with target_locked(job) as let_go, running(job, ETL_BATCH__ROWS=str(MESSAGES)) as process:
        until(lambda: held_sessions(job))
        deadlock(superuser_url(postgres, job), ids[0], let_go)
        says(process, "SQLSTATE 40P01 (DeadlockDetected); trying again")
        whole(job, ended(process))


@pytest.mark.parametrize(
    ("name", "told"),
    [("lock_timeout", "55P03 (LockNotAvailable)"), ("statement_timeout", "57014 (QueryCanceled)")],
)
def test_a_timeout_is_tried_again(name: str, told: str, job: Job, sent: list[str]) -> None:
    """Until whoever holds the lock lets go."""
    with (
        database_setting(job, name, "300ms"),
        target_locked(job) as let_go,
        running(job, **BATCHES) as process,
    ):
        says(process, f"SQLSTATE {told}; trying again")
        let_go()
        whole(job, ended(process))


def test_a_timeout_that_goes_on_ends_the_run(job: Job, sent: list[str]) -> None:
    """With exit code 1, the reason, and every message visible at once."""
    patience = {"ETL_DATABASE__RETRY_SECONDS": "1"}
    with (
        database_setting(job, "lock_timeout", "100ms"),
        target_locked(job),
        running(job, **BATCHES, **patience) as process,
    ):
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "SQLSTATE 55P03 (LockNotAvailable)" in err.splitlines()[-1]
    assert '"stop_reason": "database unavailable"' in out
    assert numbers(job) == (MESSAGES, 0)
    whole(job, job.run())


def test_a_read_only_failover_is_waited_out(job: Job, sent: list[str]) -> None:
    """In the middle of a batch, and at a start."""
    with ledger_locked(job) as let_go, running(job, **BATCHES) as process:
        until(lambda: held_sessions(job))
        with read_only(job):
            let_go()
            says(process, "SQLSTATE 25006 (ReadOnlySqlTransaction); trying again")
        whole(job, ended(process))
    with read_only(job), running(job) as process:
        says(process, "SQLSTATE 25006 (ReadOnlySqlTransaction); trying again")
        process.terminate()
        process.communicate(timeout=60)


def test_sessions_ended_again_and_again_cost_nothing(job: Job, sent: list[str]) -> None:
    """Three times in the same batch."""
    with ledger_locked(job) as let_go, running(job, **BATCHES) as process:
        ended_pids: set[int] = set()

        def waits_anew() -> set[int]:
            return {*held_sessions(job)} - ended_pids

        for _ in range(3):
            until(waits_anew)
            ended_pids |= waits_anew()
            assert end_sessions(job)
        until(waits_anew)
        let_go()
        whole(job, ended(process))


def test_a_connection_cut_in_every_batch_costs_nothing(job: Job, sent: list[str]) -> None:
    """Before its COMMIT arrives, and after it: by turns, four times in a run; once it is late."""
    url = job.environment["DATABASE_URL"]
    fates = iter([Fate.UNANSWERED, Fate.LOST, Fate.DELAYED, Fate.LOST, Fate.UNANSWERED])
    claimed = False

    def judge(request: bytes) -> Fate:
        nonlocal claimed
        claimed = claimed or b"insert into etl.ledger" in request
        if claimed and commits(request):
            claimed = False
            return next(fates, Fate.PASSED)
        return Fate.PASSED

    with Proxy(sa.make_url(url).port or 0, judge) as proxy:
        whole(job, job.run(**BATCHES, DATABASE_URL=detour(url, proxy.port)))
        assert proxy.fired == {"unanswered": 2, "lost": 2, "delayed": 1}


def test_a_black_hole_longer_than_the_visibility_timeout_costs_nothing(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """Nothing of the batch comes through for three timeouts; then all goes on."""
    with new_job(sqs, postgres, visibility_seconds=2) as job:
        job.send(*logins(MESSAGES))
        url = job.environment["DATABASE_URL"]
        with Proxy(sa.make_url(url).port or 0) as proxy:
            more = {"DATABASE_URL": detour(url, proxy.port), "ETL_BATCH__ROWS": str(MESSAGES)}
            with ledger_locked(job) as let_go, running(job, **more) as process:
                until(lambda: held_sessions(job))
                with proxy.black_hole():
                    let_go()
                    # Others look for what the job holds, for as long as three timeouts.
                    for _ in range(6):
                        answer = job.client.receive_message(
                            QueueUrl=job.queue_url, WaitTimeSeconds=1
                        )
                        assert "Messages" not in answer
                whole(job, ended(process))


@pytest.mark.parametrize(
    ("fate", "at"),
    [(Fate.HELD, b"insert into etl.ledger"), (Fate.SILENT, b"COMMIT\0"), (Fate.HELD, b"SELECT 1")],
)
def test_a_database_that_falls_silent_is_hung_up_on(
    fate: Fate, at: bytes, job: Job, sent: list[str]
) -> None:
    """While it is asked, after it has committed, and between two batches (the pool's ping)."""
    url, claims, fates = job.environment["DATABASE_URL"], 0, iter([fate])

    def judge(request: bytes) -> Fate:
        nonlocal claims
        claims += b"insert into etl.ledger" in request
        return next(fates, Fate.PASSED) if claims and at in request else Fate.PASSED

    with Proxy(sa.make_url(url).port or 0, judge) as proxy:
        more = {"DATABASE_URL": detour(url, proxy.port), "ETL_DATABASE__ANSWER_SECONDS": "3"}
        with running(job, **BATCHES, **more) as process:
            says(process, "no end of a transaction for 3 s; hanging up")
            whole(job, ended(process))
        assert proxy.fired == {fate.name.lower(): 1}


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """A disk that is soon full."""
    with small_disk(160) as folder:
        yield folder


@pytest.fixture(scope="module")
def cramped(disk: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres on that disk, the write-ahead log and all."""
    settings = {"min_wal_size": "32MB", "max_wal_size": "32MB"}
    with EmbeddedPostgres(disk / "postgres", settings=settings) as server:
        yield server


def test_a_full_disk_is_waited_out(sqs: EmbeddedSqs, cramped: EmbeddedPostgres, disk: Path) -> None:
    """No row is at fault when no table can grow."""
    with new_job(sqs, cramped) as job:
        job.send(*logins(MESSAGES))
        with running(job, **BATCHES) as process:
            with filled(disk):
                says(process, "SQLSTATE 53100 (DiskFull); trying again")
            whole(job, ended(process))


def test_a_full_disk_that_stays_full_ends_the_run(
    sqs: EmbeddedSqs, cramped: EmbeddedPostgres, disk: Path
) -> None:
    """With exit code 1, and every message in the queue for a run that finds room."""
    with new_job(sqs, cramped) as job:
        job.send(*logins(MESSAGES))
        with filled(disk):
            done = job.command("run", *job.arguments, **BATCHES, ETL_DATABASE__RETRY_SECONDS="1")
        assert done.returncode == 1
        assert "SQLSTATE 53100 (DiskFull)" in done.stderr
        assert numbers(job) == (MESSAGES, 0)
        whole(job, job.run())


def test_a_server_that_ends_because_its_log_cannot_grow_costs_nothing(
    sqs: EmbeddedSqs, cramped: EmbeddedPostgres, disk: Path
) -> None:
    """It cannot even recover until there is room again, while a batch waits to be committed."""
    with new_job(sqs, cramped) as job:
        job.send(*logins(MESSAGES))
        with running(job, **BATCHES) as process:
            with ledger_locked(job), session(cramped.superuser_url) as writer:
                until(lambda: held_sessions(job))
                with filled(disk):
                    crash_by_write_ahead_log(writer)
                    says(process, "trying again")
            cramped.start()
            whole(job, ended(process))
