"""A message that was loaded, and came back by way of the dead-letter queue under another id."""

from __future__ import annotations

from typing import Any

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from tests.acceptance.watching import logins, new_job, numbers, until, visible
from tests.chaos.strict_sqs import StrictSqs
from tests.conftest import Job

COUNT = 30


def redrive(job: Job) -> None:
    """Let every message of the queue become a dead letter, and send all of them back."""
    dead_url = f"{job.queue_url}-dead"
    client = job.client

    def dead() -> int:
        # A receive is what moves a message that has been received too often.
        client.receive_message(QueueUrl=job.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        names = ["ApproximateNumberOfMessages"]
        answer = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=names)
        return int(answer["Attributes"][names[0]])

    until(lambda: dead() == COUNT)
    arns = [
        client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for url in (dead_url, job.queue_url)
    ]
    client.start_message_move_task(SourceArn=arns[0], DestinationArn=arns[1])
    until(lambda: visible(job) == COUNT)


@pytest.mark.parametrize(
    ("key", "loaded", "already_handled"),
    [("body", 0, COUNT), ("field:user_id", 0, COUNT), ("message_id", COUNT, 0)],
)
def test_what_a_redrive_brings_back(
    postgres: EmbeddedPostgres, key: str, loaded: int, already_handled: int
) -> None:
    """By its message id nobody can know it again; by what it says, the ledger does."""
    with StrictSqs() as sqs, new_job(sqs, postgres, visibility_seconds=2) as job:
        job.send(*logins(COUNT))
        # The rows are committed, and no delete has an effect, whatever SQS answers.
        sqs.commit(stale_handle=1.0)
        first = run(job, key, "--max-messages", str(COUNT))
        assert (first["loaded"], first["exit_code"]) == (COUNT, 0)
        sqs.commit()
        die_after_one_receive(job)
        redrive(job)
        second = run(job, key)
        assert (second["loaded"], second["already_handled"]) == (loaded, already_handled)
        assert numbers(job) == (0, 0)
        assert job.rows("select count(*) from user_logins") == [(COUNT + loaded,)]


def die_after_one_receive(job: Job) -> None:
    """Make one receive enough for the dead-letter queue."""
    names = ["RedrivePolicy"]
    answer = job.client.get_queue_attributes(QueueUrl=job.queue_url, AttributeNames=names)
    policy = answer["Attributes"][names[0]].replace("100", "1")
    job.client.set_queue_attributes(QueueUrl=job.queue_url, Attributes={names[0]: policy})


def run(job: Job, key: str, *arguments: str) -> dict[str, Any]:
    """One run of the command, with this ledger.key."""
    return job.run(*arguments, ETL_LEDGER__KEY=key)
