"""A run treats messages with care: few receives, nothing good in quarantine or dead letters."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from tests.acceptance.job_processes import logins, make_tables, new_job, numbers, until, visible
from tests.chaos.strict_sqs import StrictSqs
from tests.conftest import Job
from tests.unit.builders import event, some_long

pytestmark = pytest.mark.long

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


@pytest.mark.parametrize("rows", some_long(["10000", "200"]))
def test_good_messages_of_the_past_do_not_pay_for_bad_ones(job: Job, rows: str) -> None:
    """A producer's mistake after 1,500 good messages stops the run, whatever the batches are."""
    job.send(*logins(1500), *("{}" for _ in range(1400)))
    summary = job.run(code=3, ETL_BATCH__ROWS=rows, ETL_QUEUE__MAX_RECEIVERS="1")
    assert "messages in a row failed a check" in summary["problem"]
    assert summary["quarantined"] <= 500
    assert job.left() == 2900 - summary["loaded"] - summary["quarantined"]
    assert numbers(job)[1] == 0


@pytest.mark.parametrize("cause", some_long(["database", "checks"]))
def test_a_budget_stop_keeps_what_it_refused_to_look_at(job: Job, cause: str) -> None:
    """No second look at the queue is needed, and the messages are still there."""
    if cause == "database":
        make_tables(job)
        with job.engine.begin() as connection:
            connection.execute(
                sa.text("alter table user_logins add constraint no_x check (locale <> 'X')")
            )
    bad = event(locale="X") if cause == "database" else event(ip="no address")
    job.send(*logins(40), *[bad] * 110)
    problem = job.run(code=3)["problem"]
    assert "20 of them are kept, see: etl quarantine list --samples --entries" in problem
    listed = job.command("quarantine", "list", "--samples", "--entries", "--json")
    samples = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(samples) == 20
    shown = job.command(
        "quarantine", "show", str(samples[0]["quarantine_id"]), "--reason", "test", "--json"
    )
    assert json.loads(shown.stdout)["body"] == bad
    assert job.command("quarantine", "list", "--entries", "--json").stdout == ""
    assert job.command("quarantine", "replay", "--all").returncode == 0
    assert numbers(job) == (150, 0)
    counted = job.rows("select quarantined, released from etl.runs where command = 'run'")
    assert counted == [(0, 150)]


@pytest.mark.parametrize("damaged_receives", some_long([1, 2]))
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


def look(job: Job, *arguments: str) -> dict[str, Any]:
    """Look at the queue by a dry run; return its summary."""
    return job.run("--dry-run", *arguments)


def refused(job: Job, code: int = 1) -> str:
    """Look at the queue; the dry run is refused with an exit code. Returns its error."""
    completed = job.command("run", "--dry-run", *job.arguments)
    assert completed.returncode == code, completed.stderr
    return completed.stderr.splitlines()[-1]


@contextmanager
def receives(sqs: StrictSqs, postgres: EmbeddedPostgres, maximum: int) -> Iterator[Job]:
    """A job on a queue with this maxReceiveCount."""
    with new_job(sqs, postgres, max_receive_count=maximum) as job:
        yield job


def fail(job: Job, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let a run receive everything and fail, which releases it: the table refuses every row.

    Nothing that is checked before the first receive shows it.
    """
    with job.engine.begin() as connection:
        connection.execute(
            sa.text(
                "create or replace function refuse() returns trigger language plpgsql as "
                "$$ begin raise 'closed for now'; end $$; "
                "create trigger refuse before insert on user_logins for each row "
                "execute function refuse()"
            )
        )
    completed = job.command("run", *job.arguments, *arguments)
    assert completed.returncode == 1, completed.stderr
    with job.engine.begin() as connection:
        connection.execute(sa.text("drop trigger refuse on user_logins"))
    return completed


def test_looks_leave_the_messages_to_a_run(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres
) -> None:
    """After a run that failed, looks go on until few receives are left; then they are refused."""
    count = 25
    with receives(strict_sqs, postgres, 5) as job:
        job.send(*logins(count))
        fail(job)
        for number in (2, 3):
            # With a maximum, a slow answer does not end the look before it has seen all of them.
            summary = look(job, "--max-messages", str(count))
            assert (summary["receive_count"], summary["max_receive_count"]) == (number, 5)
        problem = refused(job)
        assert "after 5 receives" in problem
        assert "--use-last-receives" in problem
        # It was a receive, so the next looks are refused before they receive anything.
        for _ in range(3):
            assert "run the job before you look again" in refused(job, code=2)
        assert visible(job) == count
        assert job.run()["loaded"] == count
        assert dead_letters(job) == 0
        job.send(*logins(2))
        assert look(job)["receive_count"] == 1  # a run has begun since


def test_looks_that_are_refused_use_up_no_message(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres
) -> None:
    """However often it is tried, and without a run before: few messages are all received again."""
    with receives(strict_sqs, postgres, 4) as job:
        job.send(*logins(4))
        for _ in range(6):
            job.command("run", "--dry-run", *job.arguments)
        assert dead_letters(job) == 0
        (look,) = job.rows(
            "select command, received, released, stop_reason, exit_code from etl.runs"
        )
        assert look == ("dry run", 4, 4, "last receives", 1)
        ((problem,),) = job.rows("select problem from etl.runs")
        assert "--use-last-receives" in problem
        assert job.run()["loaded"] == 4


def test_a_look_says_which_receive_it_is(strict_sqs: StrictSqs, postgres: EmbeddedPostgres) -> None:
    """Whoever looks sees how many looks are left."""
    with receives(strict_sqs, postgres, 7) as job:
        job.send(*logins(15))
        for number in (1, 2):
            completed = job.command("run", "--dry-run", "--idle-seconds", "1")
            assert completed.returncode == 0, completed.stderr
            assert f"this look is receive {number} of 7 for these messages" in completed.stdout


@pytest.mark.parametrize("workers", some_long(["2", "5"]))
@pytest.mark.parametrize("arguments", some_long([(), ("--max-messages", "15")]))
def test_a_look_releases_at_once_whatever_the_workers_of_a_run(
    job: Job, workers: str, arguments: tuple[str, ...]
) -> None:
    """A run after it finds all messages, and they are not said to be in flight elsewhere."""
    job.send(*logins(30))
    completed = job.command(
        "run", "--dry-run", *job.arguments, *arguments, ETL_RUN__WORKERS=workers
    )
    assert numbers(job) == (30, 0)
    assert json.loads(completed.stdout)["left"] == {"visible": 30, "in_flight": 0, "delayed": 0}
    assert "elsewhere" not in completed.stderr


@pytest.mark.parametrize("maximum", [1, 2])
def test_a_look_that_could_only_use_the_last_receives_receives_nothing(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres, maximum: int
) -> None:
    """It is refused before the first receive, unless it is told to."""
    with receives(strict_sqs, postgres, maximum) as job:
        job.send(*logins(30))
        assert f"maxReceiveCount is {maximum}" in refused(job, code=2)
        summary = look(job, "--use-last-receives")
        assert (summary["receive_count"], summary["released"]) == (1, 30)
        assert job.run()["loaded"] == (30 if maximum == 2 else 0)


def test_a_queue_without_a_dead_letter_queue_sets_no_limit(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres
) -> None:
    """There a message may be received any number of times."""
    with new_job(strict_sqs, postgres, dead_letter=False) as job:
        job.send(*logins(12))
        for number in (1, 2, 3):
            summary = look(job)
            assert (summary["receive_count"], summary["max_receive_count"]) == (number, None)
            assert summary["dead_letters"] is None
        assert job.run()["loaded"] == 12


def test_a_run_warns_of_messages_that_it_must_release_on_their_last_receive(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres
) -> None:
    """Nothing can keep them from becoming dead letters then, but it is said at once."""
    with receives(strict_sqs, postgres, 2) as job:
        job.send(*logins(40))
        fail(job)
        assert "of 40 messages released, 40 had the last of 2 receives" in fail(job).stderr


def test_an_empty_queue_shows_its_dead_letters(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres
) -> None:
    """Whoever misses messages sees where they are: before and after a run, and in a look."""
    with receives(strict_sqs, postgres, 3) as job:
        name = f"{job.queue_url.rpartition('/')[2]}-dead"
        assert job.run()["dead_letters"] == 0
        replace(job, queue_url=f"{job.queue_url}-dead").send(*logins(4))
        assert job.run()["dead_letters"] == 4
        for arguments in ((), ("--dry-run",)):
            completed = job.command("run", "--idle-seconds", "1", *arguments)
            assert f"dead-letter queue {name} holds 4 messages" in completed.stdout
            assert f"dead-letter queue {name} holds 4 messages" in completed.stderr
        # Draining it: the same job on the other queue.
        drained = job.run(ETL_QUEUE__URL=f"{job.queue_url}-dead")
        assert (drained["loaded"], dead_letters(job)) == (4, 0)


@pytest.mark.parametrize("workers", some_long(["3", "1"]))
def test_a_run_that_fails_uses_one_receive_of_each_message(
    strict_sqs: StrictSqs, postgres: EmbeddedPostgres, workers: str
) -> None:
    """Neither its own polls in progress nor its other workers receive what it has released."""
    with receives(strict_sqs, postgres, 10) as job:
        job.send(*logins(60))
        fail(job, "--workers", workers)
        until(lambda: visible(job) == 60)
        assert look(job)["receive_count"] == 2
