"""A lock of another session at the start of a run: it ends in time and receives nothing."""

from __future__ import annotations

import signal

import psycopg2
import pytest

from tests.acceptance.job_processes import held_sessions, make_tables, numbers, running, until
from tests.conftest import Job
from tests.unit.builders import event, some_long

pytestmark = pytest.mark.long

# More than the run may last, and less than database.answer_seconds.
LIMIT_SECONDS = 20
TABLES = [
    "etl.runs",
    "etl.jobs",
    "etl.key_checks",
    "etl.masked_columns",
    "etl.job_columns",
    "etl.dropped_fields",
]


@pytest.fixture
def known(job: Job) -> Job:
    """A job that has run before."""
    make_tables(job)
    job.run()
    job.send(event(), event())
    job.arguments = ("--json",)
    return job


@pytest.mark.parametrize("table", some_long(TABLES))
def test_a_lock_is_not_waited_for_after_max_seconds(table: str, known: Job) -> None:
    """The error says what ended the wait, and where to look for the lock."""
    with psycopg2.connect(known.environment["DATABASE_URL"]) as other:
        other.cursor().execute(f"lock table {table} in access exclusive mode")
        with running(known, "--max-seconds", "3") as process:
            _, err = process.communicate(timeout=LIMIT_SECONDS)
    other.close()
    assert process.returncode == 1
    assert "max_seconds has ended the wait" in err
    assert "pg_blocking_pids" in err
    assert numbers(known) == (2, 0)


@pytest.mark.parametrize("workers", some_long(["1", "2"]))
@pytest.mark.parametrize("number", some_long([signal.SIGTERM, signal.SIGINT]))
def test_the_first_signal_ends_the_wait_for_a_lock(
    number: signal.Signals, workers: str, known: Job
) -> None:
    """Nothing has been received, so nothing has to be finished."""
    with psycopg2.connect(known.environment["DATABASE_URL"]) as other:
        other.cursor().execute("lock table etl.runs in access exclusive mode")
        with running(known, "--forever", "--workers", workers) as process:
            until(lambda: held_sessions(known))
            process.send_signal(number)
            _, err = process.communicate(timeout=LIMIT_SECONDS)
    other.close()
    assert process.returncode == 1
    assert f"{number.name} has ended the wait" in err
    assert numbers(known) == (2, 0)


def test_a_dry_run_does_not_wait_for_a_lock_after_max_seconds(known: Job) -> None:
    """It compares keys only if the database answers."""
    with psycopg2.connect(known.environment["DATABASE_URL"]) as other:
        other.cursor().execute("lock table etl.key_checks in access exclusive mode")
        with running(known, "--dry-run", "--max-seconds", "3") as process:
            _, err = process.communicate(timeout=LIMIT_SECONDS)
    other.close()
    assert process.returncode == 0, err
    assert "were not compared with the database" in err


def test_a_lock_that_workers_meet_ends_with_the_run(known: Job) -> None:
    """The parent has done without it; the lock came between."""
    with psycopg2.connect(known.environment["DATABASE_URL"]) as other:
        cursor = other.cursor()
        with running(known, "--forever", "--workers", "2") as process:
            until(lambda: known.rows("select from etl.runs where finished_at is null"))
            cursor.execute("lock table etl.masked_columns in access exclusive mode")
            until(lambda: len(held_sessions(known)) == 2)
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=LIMIT_SECONDS)
    other.close()
    assert process.returncode == 1, err
    assert '"stop_reason": "SIGTERM"' in out
    assert numbers(known) == (2, 0)
