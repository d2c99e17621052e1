"""Starts jobs, stops them at a chosen moment, and waits for their effects."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import sqlalchemy as sa

from etl import config
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url
from tests.conftest import KEYRING, ROOT, Job
from tests.unit.builders import event

WAIT_SECONDS = 60
LOOK_SECONDS = 0.05


@contextmanager
def new_job(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, *, max_receive_count: int = 100, **queue: Any
) -> Iterator[Job]:
    """Make a job on a new queue and a new database of these services, and create its tables."""
    database_url = postgres.new_database()
    # With a ping, since some tests restart the server.
    engine = sa.create_engine(driver_url(database_url), pool_pre_ping=True)
    client = sqs.client()
    name = f"q-{uuid.uuid4().hex[:12]}"
    queue_url = sqs.create_queue(name, max_receive_count=max_receive_count, **queue)
    environment = {
        "PATH": os.environ["PATH"],
        **sqs.environment,
        "DATABASE_URL": database_url,
        "ETL_QUEUE__URL": queue_url,
        "ETL_QUEUE__WAIT_SECONDS": "1",
        "ETL_KEYRING": KEYRING.dump(),
    }
    job = Job(environment, queue_url, client, engine)
    make_tables(job)
    try:
        yield job
    finally:
        engine.dispose()
        client.close()
        postgres.drop_database(database_url)


def make_tables(job: Job) -> None:
    """Create the tables, as ``init`` does."""
    create_tables(job.engine, config.load(ROOT / "config.yaml", job.environment).table)


def logins(count: int) -> list[str]:
    """Make the bodies of good events, each with a different user."""
    return [event(user_id=f"user {number}") for number in range(count)]


def until(happened: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    """Wait until a condition holds; the limit is generous, since the tests do not measure time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"the condition does not hold after {seconds:g} s"
        time.sleep(LOOK_SECONDS)


@contextmanager
def running(job: Job, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run; it is killed if it has not ended by the end of the block.

    :param more: environment variables
    """
    with job.start("run", *job.arguments, *arguments, **more) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ended(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    """Wait for a run to end with this exit code; returns its summary."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    summary: dict[str, Any] = json.loads(out)
    assert summary["received"] == sum(
        summary[part] for part in ("loaded", "already_handled", "quarantined", "released")
    )
    return summary


def killed(process: subprocess.Popen[str]) -> None:
    """Kill a process with SIGKILL, and wait until it has ended."""
    process.kill()
    process.communicate()


@contextmanager
def ledger_locked(job: Job) -> Iterator[Callable[[], None]]:
    """Stop each batch's transaction between staging and commit.

    Yields the function that releases the lock.
    """
    # Not a connection of the engine, since some tests end this session or stop the server.
    connection = psycopg2.connect(job.environment["DATABASE_URL"])
    try:
        connection.cursor().execute("lock table etl.ledger in access exclusive mode")
        yield connection.rollback
    finally:
        connection.close()


def held_sessions(job: Job) -> list[int]:
    """Server process ids of the job's sessions that wait for a lock."""
    statement = (
        "select pid from pg_stat_activity where datname = current_database() "
        "and application_name = 'etl' and wait_event_type = 'Lock'"
    )
    return [pid for (pid,) in job.rows(statement)]


def numbers(job: Job) -> tuple[int, int]:
    """The numbers of messages in the queue that are visible, and in flight."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = job.client.get_queue_attributes(QueueUrl=job.queue_url, AttributeNames=names)
    visible, in_flight = (int(answer["Attributes"][name]) for name in names)
    return visible, in_flight


def visible(job: Job) -> int:
    """The number of messages that a consumer could receive now."""
    return numbers(job)[0]


def users(job: Job) -> list[str]:
    """The users of all loaded rows, sorted."""
    return sorted(user for (user,) in job.rows("select user_id from user_logins"))


def expected_users(count: int) -> list[str]:
    """The answer of `users` when each of the `logins` was loaded once."""
    return sorted(f"user {number}" for number in range(count))
