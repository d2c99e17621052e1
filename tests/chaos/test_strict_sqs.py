"""Each thing that the strict SQS does to a client, as boto3 sees it over HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from etl.embedded.sqs import queue_arn
from tests.acceptance.job_processes import until
from tests.chaos.strict_sqs import StrictSqs

MIB = 1024 * 1024


class Consumer:
    """One queue and a client that tries nothing twice."""

    def __init__(self, sqs: StrictSqs, key: str = "consumer0", url: str | None = None) -> None:
        self.sqs = sqs
        self.url = url or sqs.create_queue(f"q-{uuid.uuid4().hex[:12]}", visibility_seconds=30)
        self.client = boto3.Session().client(
            "sqs",
            region_name="us-east-1",
            endpoint_url=sqs.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key="x",
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def send(self, *bodies: str) -> list[str]:
        """Send; the message ids."""
        return [
            self.client.send_message(QueueUrl=self.url, MessageBody=b)["MessageId"] for b in bodies
        ]

    def receive(self, limit: int = 10, **more: Any) -> list[Any]:
        """Receive once; the messages."""
        answer = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=limit, **more)
        return answer.get("Messages", [])

    def delete(self, messages: list[Any]) -> Any:
        """Delete in one batch; the answer."""
        entries = [
            {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)
        ]
        return self.client.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def left(self) -> int:
        """Messages in the queue, visible or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))


@pytest.fixture(scope="module")
def server() -> Iterator[StrictSqs]:
    with StrictSqs(seed=7) as sqs:
        yield sqs


@pytest.fixture
def consumer(server: StrictSqs) -> Iterator[Consumer]:
    yield Consumer(server)
    server.commit()


def fired(consumer: Consumer, kind: str) -> int:
    return consumer.sqs.fired()[kind]


def refused(call: Any, *arguments: Any) -> str:
    """The code of the error that the call ends in."""
    with pytest.raises(ClientError) as caught:
        call(*arguments)
    return str(caught.value.response["Error"]["Code"])


def test_a_stale_handle_succeeds_and_deletes_nothing(consumer: Consumer) -> None:
    consumer.send("{}")
    (old,) = consumer.receive(VisibilityTimeout=0)
    consumer.receive()
    assert [entry["Id"] for entry in consumer.delete([old])["Successful"]] == ["0"]
    assert consumer.left() == 1


def test_a_fresh_handle_may_turn_out_stale(consumer: Consumer) -> None:
    """At the second entry, by script; the rest of the call is done."""
    consumer.send("1", "2", "3")
    before = fired(consumer, "stale_handle")
    consumer.sqs.script("DeleteMessageBatch", "stale_handle", entry=1)
    assert len(consumer.delete(consumer.receive())["Successful"]) == 3
    assert consumer.left() == 1
    assert fired(consumer, "stale_handle") == before + 1


def test_equal_entry_ids_refuse_the_batch(consumer: Consumer) -> None:
    consumer.send("1", "2")
    entries = [{"Id": "0", "ReceiptHandle": m["ReceiptHandle"]} for m in consumer.receive()]
    with pytest.raises(ClientError, match="BatchEntryIdsNotDistinct"):
        consumer.client.delete_message_batch(QueueUrl=consumer.url, Entries=entries)
    assert consumer.left() == 2


def test_single_entries_fail_in_an_answer_of_200(consumer: Consumer) -> None:
    consumer.send("1", "2", "3")
    consumer.sqs.script("DeleteMessageBatch", "failed_entry", entry=2)
    answer = consumer.delete(consumer.receive())
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "1"]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("2", "InternalError", False)
    assert consumer.left() == 1


def test_a_receive_may_be_empty_though_messages_wait(consumer: Consumer) -> None:
    consumer.send("{}")
    consumer.sqs.script("ReceiveMessage", "false_empty")
    assert consumer.receive(WaitTimeSeconds=5) == []
    assert len(consumer.receive()) == 1


def test_a_deleted_message_comes_once_more(consumer: Consumer) -> None:
    (message_id,) = consumer.send("{}")
    consumer.sqs.commit(redelivered=1.0)
    consumer.delete(consumer.receive())
    (again,) = consumer.receive(WaitTimeSeconds=5)
    assert again["MessageId"] == message_id
    consumer.delete([again])
    assert consumer.receive(WaitTimeSeconds=1) == []


def test_a_message_may_be_delivered_twice_at_once(consumer: Consumer) -> None:
    (message_id,) = consumer.send("{}")
    consumer.sqs.commit(twice=1.0)
    got = [consumer.receive()[0] for _ in range(2)]
    assert [message["MessageId"] for message in got] == [message_id] * 2
    assert got[0]["ReceiptHandle"] != got[1]["ReceiptHandle"]


def test_requests_are_throttled_in_both_ways_that_aws_has(consumer: Consumer) -> None:
    consumer.sqs.commit(throttled=1.0)
    codes = {refused(consumer.receive) for _ in range(20)}
    assert codes == {"RequestThrottled", "ThrottlingException"}


@pytest.mark.parametrize(
    ("kind", "code"), [("failed", "InternalFailure"), ("unavailable", "ServiceUnavailable")]
)
def test_a_request_fails_with_nothing_done(consumer: Consumer, kind: str, code: str) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.script("DeleteMessageBatch", kind)
    assert refused(consumer.delete, messages) == code
    assert consumer.left() == 1


def test_a_request_fails_after_it_was_done(consumer: Consumer) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.script("DeleteMessageBatch", "failed_after")
    assert refused(consumer.delete, messages) == "InternalFailure"
    assert consumer.left() == 0


@pytest.mark.parametrize(("kind", "left"), [("cut_before", 1), ("cut_after", 0)])
def test_a_connection_is_cut_before_or_after_the_effect(
    consumer: Consumer, kind: str, left: int
) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.script("DeleteMessageBatch", kind)
    with pytest.raises(ConnectionClosedError):
        consumer.delete(messages)
    assert consumer.left() == left


def test_a_lost_answer_to_a_receive_hides_the_messages(consumer: Consumer) -> None:
    """They come back when their visibility timeout has passed, and not before."""
    consumer.send("{}")
    consumer.sqs.script("ReceiveMessage", "cut_after")
    with pytest.raises(ConnectionClosedError):
        consumer.receive(VisibilityTimeout=1)
    assert consumer.receive() == []
    assert len(consumer.receive(WaitTimeSeconds=10)) == 1


def test_an_answer_may_be_slow(consumer: Consumer) -> None:
    consumer.send("{}")
    consumer.sqs.commit(slow=1.0, slow_seconds=0.6)
    began = time.monotonic()
    assert len(consumer.receive()) == 1
    assert time.monotonic() - began >= 0.6


def test_credentials_expire_for_a_while(consumer: Consumer) -> None:
    consumer.sqs.expire(1.0)
    assert refused(consumer.receive) == "ExpiredToken"
    until(lambda: _works(consumer))


def _works(consumer: Consumer) -> bool:
    try:
        consumer.receive()
    except ClientError:
        return False
    return True


def test_more_than_the_limit_in_flight_is_refused_in_a_long_poll_too(consumer: Consumer) -> None:
    consumer.send("1", "2", "3")
    consumer.sqs.commit(in_flight=2)
    consumer.receive(2)
    assert refused(lambda: consumer.receive(WaitTimeSeconds=1)) == "OverLimit"


def test_visibility_really_expires(consumer: Consumer) -> None:
    """The message comes again by itself; its old handle is good for nothing."""
    consumer.send("{}")
    (old,) = consumer.receive(VisibilityTimeout=1)
    (new,) = consumer.receive(WaitTimeSeconds=10)
    assert new["MessageId"] == old["MessageId"]
    consumer.delete([old])
    assert consumer.left() == 1
    consumer.delete([new])
    assert consumer.left() == 0


def test_a_message_gets_new_ids_on_its_way_through_the_dead_letter_queue(server: StrictSqs) -> None:
    """One when it is moved there, and one more when it is sent back."""
    url = server.create_queue(f"q-{uuid.uuid4().hex[:12]}", max_receive_count=1)
    consumer, dead = Consumer(server, url=url), Consumer(server, url=f"{url}-dead")
    (first,) = consumer.send("{}")
    consumer.receive(VisibilityTimeout=0)
    assert consumer.receive() == []
    (second,) = (m["MessageId"] for m in dead.receive(VisibilityTimeout=0))
    arns = [queue_arn(one.client, one.url) for one in (dead, consumer)]
    dead.client.start_message_move_task(SourceArn=arns[0], DestinationArn=arns[1])
    (third,) = (m["MessageId"] for m in consumer.receive())
    assert len({first, second, third}) == 3
    assert dead.left() == 0


def test_a_body_of_one_mebibyte_is_taken_and_not_a_byte_more(consumer: Consumer) -> None:
    consumer.send("x" * MIB)
    (message,) = consumer.receive()
    assert len(message["Body"]) == MIB
    assert refused(consumer.send, "x" * (MIB + 1)) == "InvalidParameterValue"


@pytest.mark.parametrize("body", ["a\0b", "\x1f", "\ufffe", "\x0b"])
def test_characters_that_aws_forbids_are_refused(consumer: Consumer, body: str) -> None:
    assert refused(consumer.send, body) == "InvalidMessageContents"


def test_opposite_orders_deliver_each_message_to_three_of_four(server: StrictSqs) -> None:
    """Forwards to the even ones, backwards to the odd ones; deleted or not."""
    first = Consumer(server)
    ids = first.send(*map(str, range(8)))
    server.commit(opposite_chunk=8)
    got: list[list[str]] = []
    for number in range(4):
        consumer = Consumer(server, f"consumer{number}", first.url)
        messages = consumer.receive()
        consumer.delete(messages)
        got.append([message["MessageId"] for message in messages])
    server.commit()
    assert sorted(message_id for line in got for message_id in line) == sorted(ids * 3)
    orders = [[ids.index(message_id) for message_id in line] for line in got]
    assert [line == sorted(line, reverse=bool(n % 2)) for n, line in enumerate(orders)] == [
        True
    ] * 4


def test_the_same_seed_commits_the_same_faults() -> None:
    """Request by request."""

    def outcomes() -> list[bool]:
        with StrictSqs(seed=3) as sqs:
            consumer = Consumer(sqs)
            sqs.commit(throttled=0.5)
            return [_works(consumer) for _ in range(20)]

    one = outcomes()
    assert one == outcomes()
    assert set(one) == {True, False}


def test_a_rate_that_does_not_exist_is_an_error(server: StrictSqs) -> None:
    """Or a campaign would go by without its faults."""
    with pytest.raises(ValueError, match="throtled"):
        server.commit(throtled=0.1)
