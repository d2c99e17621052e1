"""A message that was loaded, and came back by way of the dead-letter queue under another id."""

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
    """Let every message of the queue become a dead letter, and send all of them back."""
    dead = replace(job, queue_url=f"{job.queue_url}-dead")

    def all_dead() -> bool:
        # It is a receive that moves what was received as often as the queue allows.
        job.client.receive_message(QueueUrl=job.queue_url, MaxNumberOfMessages=10)
        return visible(dead) == COUNT

    until(all_dead)
    source, destination = (queue_arn(one.client, one.queue_url) for one in (dead, job))
    job.client.start_message_move_task(SourceArn=source, DestinationArn=destination)
    until(lambda: visible(job) == COUNT)


@pytest.mark.parametrize(
    ("key", "loaded", "already_handled"),
    [("body", 0, COUNT), ("field:user_id", 0, COUNT), ("message_id", COUNT, 0)],
)
def test_what_a_redrive_brings_back(
    postgres: EmbeddedPostgres, key: str, loaded: int, already_handled: int
) -> None:
    """By its message id nobody can know it again; by what it says, the ledger does."""
    queue = {"max_receive_count": 1, "visibility_seconds": 2}
    with StrictSqs() as sqs, new_job(sqs, postgres, **queue) as job:
        job.send(*logins(COUNT))
        # The rows are committed, and no delete has an effect, whatever SQS answers.
        sqs.commit(stale_handle=1.0)
        first = run(job, key, "--max-messages", str(COUNT))
        assert (first["loaded"], first["exit_code"]) == (COUNT, 0)
        sqs.commit()
        redrive(job)
        second = run(job, key)
        assert (second["loaded"], second["already_handled"]) == (loaded, already_handled)
        assert numbers(job) == (0, 0)
        assert job.rows("select count(*) from user_logins") == [(COUNT + loaded,)]


def run(job: Job, key: str, *arguments: str) -> dict[str, Any]:
    """One run of the command, with this ledger.key."""
    return job.run(*arguments, ETL_LEDGER__KEY=key)
