"""FIFO queues from end to end: all groups are drained by one run, each in its order."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import ended, ledger_locked, make_tables, running, until
from tests.chaos.strict_sqs import StrictSqs
from tests.conftest import Job
from tests.unit.builders import event


@pytest.fixture
def fifo_job(job: Job, sqs: EmbeddedSqs) -> Callable[..., Job]:
    """Make the job on a FIFO queue."""

    def make(*, visibility_seconds: int = 30, **attributes: str) -> Job:
        name = f"test-{uuid.uuid4().hex[:12]}.fifo"
        url = sqs.create_queue(name, max_receive_count=100, visibility_seconds=visibility_seconds)
        if attributes:
            job.client.set_queue_attributes(QueueUrl=url, Attributes=attributes)
        environment = {**job.environment, "ETL_QUEUE__URL": url}
        return replace(job, environment=environment, queue_url=url)

    return make


@pytest.fixture
def strict_sqs() -> Iterator[StrictSqs]:
    """An SQS with faults."""
    with StrictSqs(seed=5) as sqs:
        yield sqs


@pytest.fixture
def strict_job(job: Job, strict_sqs: StrictSqs) -> Job:
    """The job on a FIFO queue of that SQS."""
    url = strict_sqs.create_queue(f"test-{uuid.uuid4().hex[:12]}.fifo", max_receive_count=100)
    environment = {**job.environment, **strict_sqs.environment, "ETL_QUEUE__URL": url}
    return replace(job, environment=environment, queue_url=url, client=strict_sqs.client())


def send(job: Job, counts: dict[str, int], bad: frozenset[int] = frozenset()) -> None:
    """Send as many logins to each group, by turns; the *bad* ones by number cannot be loaded."""
    entries = []
    for number in range(max(counts.values())):
        for group, count in counts.items():
            if number < count:
                body = "no JSON" if number in bad else event(user_id=f"{group} {number:04}")
                entries.append(
                    {
                        "Id": str(len(entries) % 10),
                        "MessageBody": body,
                        "MessageGroupId": group,
                        "MessageDeduplicationId": f"{group}-{number}",
                    }
                )
    for start in range(0, len(entries), 10):
        answer = job.client.send_message_batch(
            QueueUrl=job.queue_url, Entries=entries[start : start + 10]
        )
        assert not answer.get("Failed")


def groups_in_order(job: Job) -> dict[str, int]:
    """The number of rows of each group; they must have been loaded in the group's order."""
    # xmin is the transaction that inserted the row, and ctid its place in the table.
    rows = job.rows("select user_id from user_logins order by xmin::text::bigint, ctid")
    users: dict[str, list[str]] = {}
    for (user,) in rows:
        users.setdefault(user.split()[0], []).append(user)
    for loaded in users.values():
        assert loaded == sorted(loaded)
    return {group: len(loaded) for group, loaded in users.items()}


@pytest.mark.parametrize(
    ("counts", "more"),
    [
        ({"only": 100}, {}),
        ({"a": 57, "b": 3, "c": 31}, {"ETL_QUEUE__MAX_RECEIVERS": "4"}),
        ({f"g{i}": 12 for i in range(30)}, {"ETL_BATCH__ROWS": "50", "ETL_LOAD__METHOD": "copy"}),
        ({"only": 40}, {"ETL_QUEUE__WAIT_SECONDS": "0"}),
        ({"a": 25, "b": 25}, {"ETL_RUN__WORKERS": "2"}),
        ({"only": 15}, {"ETL_BATCH__ROWS": "1"}),
    ],
    ids=["one group", "receivers", "many groups", "short polls", "workers", "one row"],
)
def test_one_run_drains_all_groups(
    fifo_job: Callable[..., Job], counts: dict[str, int], more: dict[str, str]
) -> None:
    """Each group shows ten messages at a time, and the next ones only after a delete."""
    job = fifo_job()
    send(job, counts)
    summary = job.run(**more)
    assert (summary["loaded"], summary["stop_reason"]) == (sum(counts.values()), "idle")
    assert groups_in_order(job) == counts
    assert job.left() == 0


def test_a_rejected_message_does_not_stop_its_group(fifo_job: Callable[..., Job]) -> None:
    """It is quarantined and deleted, and those after it are loaded."""
    job = fifo_job()
    send(job, {"a": 30, "b": 5}, bad=frozenset({0, 13}))
    summary = job.run()
    assert (summary["loaded"], summary["quarantined"]) == (32, 3)
    assert groups_in_order(job) == {"a": 28, "b": 4}


def test_a_failed_batch_comes_back_in_order(fifo_job: Callable[..., Job]) -> None:
    """The database refuses everything; once it does not, the groups are loaded from their start."""
    job = fifo_job()
    make_tables(job)
    send(job, {"a": 35, "b": 15})
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            "create function refuse() returns trigger language plpgsql as $$ "
            "begin raise exception using errcode = '53100'; end $$"
        )
        connection.exec_driver_sql(
            "create trigger refuse before insert on user_logins execute function refuse()"
        )
    failed = job.run(code=1, ETL_DATABASE__RETRY_SECONDS="0.1")
    assert (failed["loaded"], failed["released"]) == (0, failed["received"])
    with job.engine.begin() as connection:
        connection.exec_driver_sql("drop trigger refuse on user_logins")
    assert job.run()["loaded"] == 50
    assert groups_in_order(job) == {"a": 35, "b": 15}


@pytest.mark.long
@pytest.mark.parametrize("fault", ["damaged", "no_sent_timestamp"])
def test_a_message_that_is_received_again_keeps_its_place(
    strict_job: Job, strict_sqs: StrictSqs, fault: str
) -> None:
    """Those behind it in its group are received again with it."""
    send(strict_job, {"a": 25, "b": 15})
    strict_sqs.set_rates(**{fault: 0.2})
    summary = strict_job.run("--idle-seconds", "8")
    # A message that came damaged three times is quarantined.
    assert sum(groups_in_order(strict_job).values()) == summary["loaded"]
    assert summary["loaded"] + summary["quarantined"] == 40
    assert summary["released"] + summary["quarantined"] > strict_sqs.fired()[fault] > 0


def test_a_group_that_another_consumer_holds_is_waited_for(fifo_job: Callable[..., Job]) -> None:
    """Its messages are visible and not delivered, until that consumer's timeout has passed."""
    job = fifo_job(visibility_seconds=4)
    send(job, {"a": 12})
    held = job.client.receive_message(QueueUrl=job.queue_url, MaxNumberOfMessages=2)
    assert len(held["Messages"]) == 2
    assert job.run()["loaded"] == 12
    assert groups_in_order(job) == {"a": 12}


def test_a_run_says_what_it_leaves_in_other_hands(fifo_job: Callable[..., Job]) -> None:
    """All messages of the group are in flight, so there is nothing to wait for."""
    job = fifo_job(visibility_seconds=600)
    send(job, {"a": 2})
    job.client.receive_message(QueueUrl=job.queue_url, MaxNumberOfMessages=10)
    completed = job.command("run", *job.arguments)
    assert completed.returncode == 0
    assert json.loads(completed.stdout)["left"] == {"visible": 0, "in_flight": 2, "delayed": 0}
    assert "2 messages in flight elsewhere" in completed.stderr


def test_a_dry_run_releases_the_groups_in_order(fifo_job: Callable[..., Job]) -> None:
    """It sees the first messages of each group only, and does not wait for the others."""
    job = fifo_job()
    send(job, {"a": 25, "b": 5})
    summary = job.run("--dry-run", "--max-messages", "100")
    assert (summary["would_load"], summary["released"]) == (15, 15)
    assert summary["left"] == {"visible": 30, "in_flight": 0, "delayed": 0}
    job.run()
    assert groups_in_order(job) == {"a": 25, "b": 5}


def test_sigterm_releases_the_groups_in_order(fifo_job: Callable[..., Job]) -> None:
    """The next run loads what this one had gathered."""
    job = fifo_job()
    make_tables(job)
    send(job, {"a": 20, "b": 20, "c": 20})
    with ledger_locked(job) as release, running(job, ETL_BATCH__ROWS="10") as process:
        until(lambda: job.left() == 60 and _in_flight(job) == 20)
        process.terminate()
        release()
        assert ended(process)["loaded"] == 10
    job.run()
    assert groups_in_order(job) == {"a": 20, "b": 20, "c": 20}


def _in_flight(job: Job) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    answer = job.client.get_queue_attributes(QueueUrl=job.queue_url, AttributeNames=[name])
    return int(answer["Attributes"][name])


# Sending


def received(job: Job) -> list[dict[str, Any]]:
    """Receive and delete everything."""
    messages: list[dict[str, Any]] = []
    while True:
        answer = job.client.receive_message(
            QueueUrl=job.queue_url, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        )
        if not answer.get("Messages"):
            return messages
        for message in answer["Messages"]:
            messages.append(message)
            job.client.delete_message(
                QueueUrl=job.queue_url, ReceiptHandle=message["ReceiptHandle"]
            )


def test_messages_that_are_sent_to_one_group_keep_their_order(
    fifo_job: Callable[..., Job],
) -> None:
    """Several calls in parallel would lose it."""
    job = fifo_job()
    lines = "".join(f'{{"line": {number}}}\n' for number in range(55))
    assert job.command("send", "-", "--group", "orders", piped=lines).returncode == 0
    messages = received(job)
    assert [json.loads(message["Body"])["line"] for message in messages] == list(range(55))
    assert {message["Attributes"]["MessageGroupId"] for message in messages} == {"orders"}


def test_without_a_group_each_message_has_its_own(fifo_job: Callable[..., Job]) -> None:
    """So they can all be received at once. Equal lines are two messages."""
    job = fifo_job()
    assert job.command("send", "-", piped='{"a": 1}\n' * 12).returncode == 0
    messages = received(job)
    assert len({message["Attributes"]["MessageGroupId"] for message in messages}) == 12


def test_equal_messages_are_one_if_the_queue_says_so(fifo_job: Callable[..., Job]) -> None:
    """The queue deduplicates by content."""
    job = fifo_job(ContentBasedDeduplication="true")
    assert job.command("send", "-", piped='{"a": 1}\n' * 12).returncode == 0
    assert len(received(job)) == 1


def test_a_group_is_refused_for_a_standard_queue(job: Job) -> None:
    """It would have no effect on the order."""
    completed = job.command("send", "-", "--group", "orders", piped='{"a": 1}\n')
    assert completed.returncode == 2
    assert "FIFO" in completed.stderr
    assert job.left() == 0
