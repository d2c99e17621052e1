"""A message that was loaded, and comes back from the dead-letter queue with another id."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import queue_arn
from tests.acceptance.job_processes import logins, new_job, numbers, until, visible
from tests.chaos.strict_sqs import StrictSqs
from tests.conftest import Job

COUNT = 30


def redrive(job: Job) -> None:
    """Let every message of the queue become a dead letter, and then send all of them back."""
    dead = replace(job, queue_url=f"{job.queue_url}-dead")

    def all_are_dead() -> bool:
        # A message moves when a receive finds that it has been received too often.
        job.client.receive_message(QueueUrl=job.queue_url, MaxNumberOfMessages=10)
        return visible(dead) == COUNT

    until(all_are_dead)
    source, destination = (queue_arn(queue.client, queue.queue_url) for queue in (dead, job))
    job.client.start_message_move_task(SourceArn=source, DestinationArn=destination)
    until(lambda: visible(job) == COUNT)


@pytest.mark.long
@pytest.mark.parametrize(
    ("key", "loaded", "already_handled"),
    [("body", 0, COUNT), ("field:user_id", 0, COUNT), ("message_id", COUNT, 0)],
)
def test_a_redriven_message_is_recognized_by_its_body_or_a_field_but_not_by_its_id(
    postgres: EmbeddedPostgres, key: str, loaded: int, already_handled: int
) -> None:
    """A redrive changes the message id, so only a ledger key made of the content still matches."""
    queue = {"max_receive_count": 1, "visibility_seconds": 2}
    with StrictSqs() as sqs, new_job(sqs, postgres, **queue) as job:
        job.send(*logins(COUNT))
        # The rows are committed, but no delete has an effect, though SQS answers with success.
        sqs.set_rates(stale_handle=1.0)
        first = run(job, key, "--max-messages", str(COUNT))
        assert (first["loaded"], first["exit_code"]) == (COUNT, 0)
        sqs.set_rates()
        redrive(job)
        second = run(job, key)
        assert (second["loaded"], second["already_handled"]) == (loaded, already_handled)
        assert numbers(job) == (0, 0)
        assert job.rows("select count(*) from user_logins") == [(COUNT + loaded,)]


def run(job: Job, key: str, *arguments: str) -> dict[str, Any]:
    """Run the command once with this ledger.key; returns the summary."""
    return job.run(*arguments, ETL_LEDGER__KEY=key)
