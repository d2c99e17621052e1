"""max_seconds: no batch begins after it, a batch in progress is finished, the rest is released."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from etl.config import Settings
from etl.errors import DatabaseUnavailable, QueueUnavailable
from etl.job import run
from etl.runs import Summary
from etl.sqs.limits import Stop
from tests.acceptance.job_processes import (
    held_sessions,
    ledger_locked,
    logins,
    make_tables,
    numbers,
    until,
    users,
)
from tests.conftest import Job

Run = Callable[..., Summary]


@pytest.fixture
def drain(
    job: Job,
    settings: Callable[..., Settings],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """A function that runs the job in this process, without an end by idleness."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def run_with(stop: Stop | None = None, **changes: Any) -> Summary:
        return run(settings(**{"run__idle_seconds": 600, **changes}), environment, stop=stop)

    return run_with


@pytest.fixture
def deaf_port() -> int:
    """A port at which nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def refuse_all_rows(job: Job) -> None:
    """Let the database answer each insert as if its disk were full."""
    make_tables(job)
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            "create function refuse() returns trigger language plpgsql as $$ "
            "begin raise exception using errcode = '53100'; end $$"
        )
        connection.exec_driver_sql(
            "create trigger refuse before insert on user_logins execute function refuse()"
        )


def test_a_load_in_progress_is_finished_and_the_rest_is_released(job: Job, drain: Run) -> None:
    """What was gathered during the load is visible again at once."""
    make_tables(job)
    job.send(*logins(200))
    stop = Stop()
    with ThreadPoolExecutor(1) as pool, ledger_locked(job) as release:
        running = pool.submit(drain, stop, batch__rows=50, run__max_seconds=600)
        until(lambda: numbers(job) == (100, 100) and held_sessions(job))
        stop.request_after(0)  # the time is up now
        release()
        summary = running.result()
    assert (summary.stop_reason, summary.exit_code) == ("max_seconds", 0)
    assert (summary.counts.loaded, summary.counts.released) == (50, 50)
    assert numbers(job) == (150, 0)
    assert len(users(job)) == 50


def test_a_slow_table_does_not_prolong_the_run_by_a_large_batch(job: Job, drain: Run) -> None:
    """Each row takes 10 ms, which nobody knows before the first batch."""
    make_tables(job)
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            "create function wait() returns trigger language plpgsql as "
            "$$ begin perform pg_sleep(0.01); return new; end $$"
        )
        connection.exec_driver_sql(
            "create trigger wait before insert on user_logins for each row execute function wait()"
        )
    job.send(*logins(1_000))
    summary = drain(run__max_seconds=3)
    assert summary.stop_reason == "max_seconds"
    assert 0 < summary.counts.loaded <= 500
    assert numbers(job) == (1_000 - summary.counts.loaded, 0)


def test_messages_that_trickle_in_are_loaded_when_the_time_is_up(job: Job, drain: Run) -> None:
    """Or each run would receive them, and none would load them."""
    for body in logins(7):  # after the start: a batch with all that was waiting closes at once
        job.client.send_message(QueueUrl=job.queue_url, MessageBody=body, DelaySeconds=2)
    summary = drain(batch__seconds=600, batch__quiet_seconds=600, run__max_seconds=5)
    assert (summary.stop_reason, summary.counts.loaded) == ("max_seconds", 7)


def test_a_database_that_is_away_during_the_run_is_not_waited_for_any_longer(
    job: Job, drain: Run
) -> None:
    """The batch is released, and the run says that it could not do its work."""
    refuse_all_rows(job)
    job.send(*logins(20))
    summary = drain(run__max_seconds=4)
    assert (summary.stop_reason, summary.exit_code) == ("max_seconds", 1)
    assert "SQLSTATE 53100" in str(summary.problem)
    assert summary.counts.released == 20
    assert numbers(job) == (20, 0)


def test_a_database_that_is_away_from_the_beginning_is_not_waited_for_any_longer(
    job: Job, drain: Run, deaf_port: int
) -> None:
    """Nothing is received."""
    job.environment["DATABASE_URL"] = f"postgresql://etl:x@127.0.0.1:{deaf_port}/etl"
    job.send(*logins(20))
    with pytest.raises(DatabaseUnavailable):
        drain(run__max_seconds=5)
    assert numbers(job) == (20, 0)


def test_an_sqs_that_is_away_is_not_waited_for_any_longer(
    job: Job, drain: Run, deaf_port: int
) -> None:
    """Not even at the beginning."""
    job.environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{deaf_port}"
    with pytest.raises(QueueUnavailable, match="max_seconds has ended the wait for SQS"):
        drain(run__max_seconds=5)


def test_workers_have_the_time_of_the_run_and_not_their_own(job: Job) -> None:
    """It counts from the start of the run."""
    job.send(*logins(20))
    make_tables(job)
    summary = job.run("--max-seconds", "0.1", "--workers", "2", ETL_RUN__IDLE_SECONDS="600")
    assert (summary["stop_reason"], summary["received"]) == ("max_seconds", 0)
    assert summary["left"]["visible"] == 20


def test_old_ids_are_not_removed_when_the_time_is_up(
    job: Job, drain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The piece in progress is finished, and the next run goes on; the work itself was done."""
    monkeypatch.setattr("etl.ledger.PRUNE_ROWS", 10)
    drain(run__idle_seconds=0.1)
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into etl.ledger (job_id, message_id, run_id, batch, handled_at) "
            "select job_id, 'old' || i, gen_random_uuid(), 1, now() - interval '90 days' "
            "from etl.jobs, generate_series(1, 50) i"
        )
        connection.exec_driver_sql(
            "create function wait() returns trigger language plpgsql as $$ "
            "begin perform pg_advisory_xact_lock_shared(1); return old; end $$"
        )
        connection.exec_driver_sql(
            "create trigger wait before delete on etl.ledger execute function wait()"
        )
    stop = Stop()
    with ThreadPoolExecutor(1) as pool, job.engine.connect() as connection:
        connection.exec_driver_sql("select pg_advisory_xact_lock(1)")
        running = pool.submit(drain, stop, run__idle_seconds=0.1, run__max_seconds=600)
        until(lambda: held_sessions(job))
        stop.request_after(0)
        connection.rollback()
        summary = running.result()
    assert (summary.stop_reason, summary.exit_code) == ("idle", 0)
    assert job.rows("select count(*) from etl.ledger") == [(40,)]
