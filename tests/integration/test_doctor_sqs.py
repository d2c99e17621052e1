"""``etl doctor`` on a queue that keeps messages: it finds what there is, and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from etl.doctor import queue, rights
from etl.doctor.questions import open_questions
from etl.doctor.result import Result
from etl.embedded.sqs import EmbeddedSqs
from tests.unit.answering_sqs import BODY, by_check, settings

DAY = 86_400
# What the embedded SQS does not say, and what SQS does not.
NOT_SAID = {"queue.encryption", "queue.oldest"}


@pytest.fixture(scope="module")
def client(sqs: EmbeddedSqs) -> Iterator[Any]:
    """A client to prepare the queues, and to look at them."""
    with closing(sqs.client()) as opened:
        yield opened


def examine(sqs: EmbeddedSqs, url: str, **options: int) -> dict[str, Result]:
    """The results of both areas."""
    config = settings(url)
    questions = open_questions(config.queue, sqs.environment)
    return by_check(queue.results(config, questions, **options)) | by_check(
        rights.results(config, questions)
    )


def new_queue(sqs: EmbeddedSqs, client: Any, name: str = "", **options: Any) -> tuple[str, str]:
    """Make a queue that suits the job; return its URL and that of its dead-letter queue."""
    stem = f"doctor-{uuid.uuid4().hex[:8]}"
    url = sqs.create_queue(f"{stem}{name}", **{"visibility_seconds": 120, **options})
    dead = url.replace(stem, f"{stem}-dead")
    kept = {"MessageRetentionPeriod": str(14 * DAY)}
    client.set_queue_attributes(QueueUrl=dead, Attributes=kept)
    return url, dead


def send(client: Any, url: str, messages: int) -> None:
    """Send messages with personal data, each of another group if the queue has groups."""
    for number in range(messages):
        fifo = {"MessageGroupId": f"g{number}", "MessageDeduplicationId": f"d{number}"}
        more = fifo if url.endswith(".fifo") else {}
        client.send_message(QueueUrl=url, MessageBody=f"{BODY} {number}", **more)


def attributes(client: Any, *urls: str) -> list[dict[str, str]]:
    """Every attribute of some queues, among them when they were changed last."""
    return [
        client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        for url in urls
    ]


@pytest.mark.parametrize("name", ["", ".fifo"])
def test_nothing_is_received_deleted_or_changed(name: str, sqs: EmbeddedSqs, client: Any) -> None:
    """Receive counts, messages in flight and attributes are the same before and after."""
    urls = new_queue(sqs, client, name)
    send(client, urls[0], 4)
    held = client.receive_message(QueueUrl=urls[0])["Messages"][0]
    before = attributes(client, *urls)
    found = examine(sqs, urls[0])
    assert attributes(client, *urls) == before
    assert {check for check, result in found.items() if result.status != "ok"} == NOT_SAID
    assert found["queue.messages"].found == "3 visible, 1 in flight, 0 delayed"
    again = client.receive_message(
        QueueUrl=urls[0], MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert [m["Attributes"]["ApproximateReceiveCount"] for m in again] == ["1"] * 3
    assert held["MessageId"] not in {message["MessageId"] for message in again}
    # Its receipt handle is still the newest.
    client.delete_message(QueueUrl=urls[0], ReceiptHandle=held["ReceiptHandle"])
    assert attributes(client, urls[0])[0]["ApproximateNumberOfMessagesNotVisible"] == "3"


def test_what_does_not_suit_the_job_is_found(sqs: EmbeddedSqs, client: Any) -> None:
    """Each of these checks is ok in the test above."""
    url, dead = new_queue(sqs, client, visibility_seconds=30, max_receive_count=2)
    kept = {"MessageRetentionPeriod": str(14 * DAY)}
    client.set_queue_attributes(QueueUrl=url, Attributes=kept)
    kept = {"MessageRetentionPeriod": str(7 * DAY)}
    client.set_queue_attributes(QueueUrl=dead, Attributes=kept)
    send(client, dead, 2)
    found = examine(sqs, url, tasks=8)
    said = {check: result.status for check, result in found.items() if result.status != "ok"}
    assert said == {
        "queue.visibility": "warn",
        "queue.encryption": "unknown",
        "queue.in_flight": "fail",
        "queue.redrive": "warn",
        "queue.dead_letter_retention": "fail",
        "queue.dead_letters": "warn",
    }


def test_a_queue_that_does_not_exist_gives_no_rights(sqs: EmbeddedSqs) -> None:
    """Nor does it lack one."""
    found = examine(sqs, f"{sqs.endpoint_url}/000000000000/nowhere")
    assert found.pop("queue.exists").status == "fail"
    assert {result.status for result in found.values()} == {"unknown"}


def test_the_advice_of_a_visibility_timeout_can_be_followed(sqs: EmbeddedSqs, client: Any) -> None:
    """The attribute in the command is one that SQS takes, and then all is well."""
    url, _ = new_queue(sqs, client, visibility_seconds=0)
    found = examine(sqs, url)["queue.visibility"]
    assert found.status == "fail"
    name, _, value = found.advice.rpartition(" ")[2].partition("=")
    client.set_queue_attributes(QueueUrl=url, Attributes={name: value})
    assert examine(sqs, url)["queue.visibility"].status == "ok"


def test_no_body_is_ever_shown(sqs: EmbeddedSqs, client: Any) -> None:
    """Nor a receipt handle, which would let others delete a message."""
    url, dead = new_queue(sqs, client)
    send(client, url, 3)
    send(client, dead, 3)
    handle = client.receive_message(QueueUrl=url)["Messages"][0]["ReceiptHandle"]
    said = "\n".join(f"{r.found} {r.advice}" for r in examine(sqs, url).values())
    for secret in (BODY, handle, rights.MADE_UP_HANDLE, "AQEB"):
        assert secret not in said
