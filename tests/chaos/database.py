"""Faults of a real Postgres: a full disk, read-only, timeouts, a deadlock, ended sessions.

Each is made with what an administrator has and hits the job's own database only, so that tests can
share a server; a small disk wants a server of its own. The job's sessions are those that call
themselves ``etl``.
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
    """A session of one's own; what it has not committed is rolled back at the end."""
    connection = psycopg2.connect(url)
    try:
        yield connection
    finally:
        connection.close()


def superuser_url(postgres: EmbeddedPostgres, job: Job) -> str:
    """The job's database as ``postgres``."""
    name = sa.make_url(job.environment["DATABASE_URL"]).database
    url = sa.make_url(postgres.superuser_url).set(database=name)
    return url.render_as_string(hide_password=False)


def end_sessions(job: Job) -> int:
    """Terminate the backends of the job; returns how many there were."""
    statement = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where datname = current_database() and application_name = 'etl'"
    )
    return int(job.rows(statement)[0][0])


@contextmanager
def database_setting(job: Job, name: str, value: str) -> Iterator[None]:
    """End the job's sessions on its database, and give this setting to all that begin."""
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
    """Fail over to a server that takes no writes (SQLSTATE 25006) while the block lasts."""
    return database_setting(job, "default_transaction_read_only", "on")


@contextmanager
def target_locked(job: Job) -> Iterator[Callable[[], None]]:
    """Hold each batch still with its ids claimed and its rows not in the target yet."""
    with session(job.environment["DATABASE_URL"]) as connection:
        connection.cursor().execute("lock table user_logins in share mode")
        yield connection.rollback


def deadlock(url: str, message_id: str, let_go: Callable[[], None]) -> None:
    """Make a batch that is held still the victim of a deadlock (SQLSTATE 40P01).

    A rival locks the run's row, which the batch wants last, and waits for one of its ids. Then the
    batch goes on and closes the circle; who does that is found out, and ended.

    :param url: of the superuser, who alone may keep the rival from looking for a deadlock itself
    :param message_id: one that the batch has claimed
    """
    with session(url) as rival, rival.cursor() as cursor:
        cursor.execute("set deadlock_timeout = '1h'")
        cursor.execute("select run_id, pg_backend_pid() from etl.runs for update")
        run_id, pid = cursor.fetchone()
        claim = "insert into etl.ledger (message_id, run_id, batch) values (%s, %s, 0)"
        claiming = threading.Thread(target=cursor.execute, args=(claim, (message_id, run_id)))
        claiming.start()
        until(lambda: _waits(url, pid))
        let_go()
        claiming.join()


def _waits(url: str, pid: int) -> bool:
    with session(url) as connection, connection.cursor() as cursor:
        statement = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"
        cursor.execute(statement, (pid,))
        return bool(cursor.fetchone()[0])


@contextmanager
def small_disk(mebibytes: int) -> Iterator[Path]:
    """A file system of this size; skips the test where none can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="etl-disk-"))
    # In CI sudo asks nobody; a person is not asked either, and the test skipped.
    root = ["sudo", "-n"] if os.environ.get("CI") and os.geteuid() != 0 else []
    options = f"size={mebibytes}m,uid={os.geteuid()},mode=0755"
    mount = [*root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        folder.rmdir()
        pytest.skip(f"no mount here: {error}")
    if done.returncode != 0:
        folder.rmdir()
        pytest.skip(f"only root mounts a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily, should a process that is about to end still have a file open.
        subprocess.run([*root, "umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave not one free block while the block lasts."""
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
    """Write to the log of a server whose disk is full until it ends, unable to recover.

    :param writer: a session of the superuser, from before the disk was full: no new one opens
    """
    while not writer.closed:
        with contextlib.suppress(psycopg2.Error), writer.cursor() as cursor:
            cursor.execute("select pg_logical_emit_message(false, '', repeat('x', 1000000))")
