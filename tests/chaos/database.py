"""Faults of a real Postgres: a full disk, read-only, timeouts, a deadlock, ended sessions.

Each uses what an administrator has, and hits only the job's own database, so that tests can share a
server; only a small disk needs a separate one. The job's sessions are those with the application
name ``etl``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from tests.acceptance.job_processes import until
from tests.conftest import Job

MIB = 1024 * 1024


@contextmanager
def session(url: str) -> Iterator[Any]:
    """A separate session; whatever it has not committed is rolled back at the end of the block."""
    connection = psycopg2.connect(url)
    try:
        yield connection
    finally:
        connection.close()


def superuser_url(postgres: EmbeddedPostgres, job: Job) -> str:
    """The URL of the job's database for the superuser."""
    name = sa.make_url(job.environment["DATABASE_URL"]).database
    url = sa.make_url(postgres.superuser_url).set(database=name)
    return url.render_as_string(hide_password=False)


def end_sessions(job: Job) -> int:
    """Terminate the job's sessions; returns how many there were."""
    statement = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where datname = current_database() and application_name = 'etl'"
    )
    return int(job.rows(statement)[0][0])


def cancel_statements(job: Job) -> None:
    """Cancel the statements of the job's sessions that wait for a lock (SQLSTATE 57014)."""
    job.rows(
        "select pg_cancel_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' "
        "and datname = current_database() and application_name = 'etl'"
    )


@contextmanager
def database_setting(job: Job, name: str, value: str) -> Iterator[None]:
    """Give this setting to every new session on the job's database, and end the current ones."""
    (database,) = job.rows("select quote_ident(current_database())")[0]

    def alter(change: str) -> None:
        with job.engine.begin() as connection:
            connection.exec_driver_sql("set transaction read write")
            connection.exec_driver_sql(f"alter database {database} {change}")

    alter(f"set {name} = '{value}'")
    end_sessions(job)
    try:
        yield
    finally:
        alter(f"reset {name}")


def read_only(job: Job) -> contextlib.AbstractContextManager[None]:
    """Refuse writes, as after a failover (SQLSTATE 25006), while the block lasts."""
    return database_setting(job, "default_transaction_read_only", "on")


@contextmanager
def standby_missing(postgres: EmbeddedPostgres) -> Iterator[None]:
    """Let every commit wait for a synchronous standby that never comes, while the block lasts."""
    with contextlib.closing(psycopg2.connect(postgres.superuser_url)) as connection:
        connection.autocommit = True

        def change(statement: str, value: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                cursor.execute("select pg_reload_conf()")
            with session(postgres.superuser_url) as other, other.cursor() as cursor:
                until(lambda: _shown(cursor, "synchronous_standby_names") == value)

        change("alter system set synchronous_standby_names = 'missing'", "missing")
        try:
            yield
        finally:
            change("alter system reset synchronous_standby_names", "")


def _shown(cursor: Any, name: str) -> str:
    cursor.execute(f"show {name}")
    return str(cursor.fetchone()[0])


@contextmanager
def target_locked(job: Job) -> Iterator[Callable[[], None]]:
    """Stop each batch after it has claimed its ids, before its rows go into the target table.

    Yields the function that releases the lock.
    """
    with session(job.environment["DATABASE_URL"]) as connection:
        connection.cursor().execute("lock table user_logins in share mode")
        yield connection.rollback


def deadlock(url: str, message_id: str, release: Callable[[], None]) -> None:
    """Make a batch that is being held the victim of a deadlock (SQLSTATE 40P01).

    A rival session locks the run's row, which the batch needs last, and waits for one of the
    batch's ids. Then the batch goes on and completes the cycle, so Postgres ends its transaction.

    :param url: of the superuser: only a superuser may keep the rival from detecting the deadlock
    :param message_id: one that the batch has claimed
    :param release: lets the batch go on
    """
    with session(url) as rival, rival.cursor() as cursor:
        cursor.execute("set deadlock_timeout = '1h'")
        cursor.execute("select run_id, pg_backend_pid() from etl.runs for update")
        run_id, pid = cursor.fetchone()
        claim = (
            "insert into etl.ledger (message_id, run_id, batch, job_id) "
            "select %s, %s, 0, job_id from etl.jobs"
        )
        claiming = threading.Thread(target=cursor.execute, args=(claim, (message_id, run_id)))
        claiming.start()
        until(lambda: _waits_for_lock(url, pid))
        release()
        claiming.join()


def _waits_for_lock(url: str, pid: int) -> bool:
    with session(url) as connection, connection.cursor() as cursor:
        statement = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
        cursor.execute(statement, (pid,))
        return bool(cursor.fetchone()[0])


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """A file system of this size; skips the test where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="etl-disk-"))
    # Only in CI, where sudo needs no password; on a developer's machine the test is skipped.
    root = ["sudo", "-n"] if os.environ.get("CI") and os.geteuid() != 0 else []
    options = f"size={mebibytes}m,uid={os.geteuid()},mode=0755"
    mount = [*root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"cannot run mount: {error}")
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"only root can mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily, in case a process that is about to end still has a file open.
        subprocess.run([*root, "umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill the disk completely while the block lasts."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (MIB, 4096):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
        yield
    finally:
        ballast.unlink()


def crash_by_write_ahead_log(writer: Any) -> None:
    """Write to the write-ahead log of a server with a full disk until it crashes for good.

    :param writer: a superuser session that was opened before the disk was full; none opens now
    """
    while not writer.closed:
        with contextlib.suppress(psycopg2.Error), writer.cursor() as cursor:
            cursor.execute("select pg_logical_emit_message(false, '', repeat('x', 1000000))")
