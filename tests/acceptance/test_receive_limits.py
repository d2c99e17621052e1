"""A run treats messages with care: few receives, nothing good in quarantine or dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from tests.acceptance.job_processes import logins, new_job, numbers, visible
from tests.chaos.strict_sqs import StrictSqs
from tests.conftest import Job

MAX_RECEIVES = 3


@pytest.fixture
def strict_sqs() -> Iterator[StrictSqs]:
    """An SQS with faults."""
    with StrictSqs() as sqs:
        yield sqs


@pytest.fixture
def strict_job(strict_sqs: StrictSqs, postgres: EmbeddedPostgres) -> Iterator[Job]:
    """A job whose messages may be received three times."""
    with new_job(strict_sqs, postgres, max_receive_count=MAX_RECEIVES) as job:
        yield job


def dead_letters(job: Job) -> int:
    """Count the messages in the dead-letter queue."""
    return visible(replace(job, queue_url=f"{job.queue_url}-dead"))


@pytest.mark.parametrize("rows", ["200", "10000"])
def test_good_messages_of_the_past_do_not_pay_for_bad_ones(job: Job, rows: str) -> None:
    """A producer's mistake after 1,500 good messages stops the run, whatever the batches are."""
    job.send(*logins(1500), *("{}" for _ in range(1400)))
    summary = job.run(code=3, ETL_BATCH__ROWS=rows, ETL_QUEUE__RECEIVERS="1")
    assert "messages in a row failed a check" in summary["problem"]
    assert summary["quarantined"] <= 500
    assert job.left() == 2900 - summary["loaded"] - summary["quarantined"]
    assert numbers(job)[1] == 0


@pytest.mark.parametrize("damaged_receives", [1, 2])
def test_a_message_that_arrives_damaged_is_received_again_and_loaded(
    strict_sqs: StrictSqs, strict_job: Job, damaged_receives: int
) -> None:
    """Nothing is quarantined, and each damaged delivery counts as released."""
    strict_job.send(*logins(40))
    strict_sqs.set_rates(damaged_receives=damaged_receives)
    summary = strict_job.run()
    assert (summary["loaded"], summary["quarantined"]) == (40, 0)
    assert summary["released"] == 40 * damaged_receives
    assert (strict_job.left(), dead_letters(strict_job)) == (0, 0)


def test_a_message_that_always_arrives_damaged_ends_in_quarantine(
    strict_sqs: StrictSqs, strict_job: Job
) -> None:
    """It is never released on its last receive, so it does not become a dead letter."""
    strict_job.send(*logins(20))
    strict_sqs.set_rates(damaged=1.0)
    summary = strict_job.run(ETL_QUARANTINE__MAX_FRACTION="1")
    assert (summary["loaded"], summary["quarantined"], summary["released"]) == (0, 20, 40)
    assert (strict_job.left(), dead_letters(strict_job)) == (0, 0)


@pytest.mark.parametrize("command", ["run", "dry run"])
def test_a_service_that_never_sends_the_time_stops_the_run_at_its_first_messages(
    strict_sqs: StrictSqs, strict_job: Job, command: str
) -> None:
    """The error says what is wrong, nothing is quarantined, and everything is released."""
    strict_job.send(*logins(300))
    strict_sqs.set_rates(no_sent_timestamp=1.0)
    if command == "run":
        summary = strict_job.run(code=1)
        problem = summary["problem"]
        assert (summary["stop_reason"], summary["quarantined"]) == ("no SentTimestamp", 0)
        assert summary["received"] == summary["released"] <= 40
    else:
        completed = strict_job.command("run", "--dry-run", *strict_job.arguments)
        problem = completed.stderr
        assert completed.returncode == 1
    assert "SentTimestamp" in problem
    assert "'create_date'" in problem
    assert numbers(strict_job) == (300, 0)


def test_messages_that_come_without_the_time_now_and_then_are_loaded(
    strict_sqs: StrictSqs, strict_job: Job
) -> None:
    """They are received again, like damaged ones."""
    strict_job.send(*logins(200))
    strict_sqs.set_rates(no_sent_timestamp=0.03)
    summary = strict_job.run()
    assert (summary["loaded"], summary["quarantined"]) == (200, 0)
    assert summary["released"] == strict_sqs.fired()["no_sent_timestamp"] > 0
