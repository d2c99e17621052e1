"""Each fault of the strict SQS, as a boto3 client sees it over HTTP.

This is one file because its tests share one server and the client that they call it with.
"""

from __future__ import annotations

import hashlib
import itertools
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from etl.embedded.sqs import CREDENTIAL, queue_arn
from tests.acceptance.job_processes import until
from tests.chaos.strict_sqs import StrictSqs

MIB = 1024 * 1024


class Consumer:
    """A queue, and a client that does not retry."""

    def __init__(
        self,
        sqs: StrictSqs,
        key: str = "consumer0",
        url: str | None = None,
        secret: str = CREDENTIAL,
    ) -> None:
        self.sqs = sqs
        self.url = url or sqs.create_queue(f"q-{uuid.uuid4().hex[:12]}", visibility_seconds=30)
        self.client = boto3.Session().client(
            "sqs",
            region_name="us-east-1",
            endpoint_url=sqs.endpoint_url,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )

    def send(self, *bodies: str) -> list[str]:
        """Send bodies; returns the message ids."""
        return [
            self.client.send_message(QueueUrl=self.url, MessageBody=b)["MessageId"] for b in bodies
        ]

    def receive(self, limit: int = 10, **more: Any) -> list[Any]:
        """Receive once; returns the messages."""
        answer = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=limit, **more)
        return answer.get("Messages", [])

    def delete(self, messages: list[Any]) -> Any:
        """Delete messages in one batch; returns the answer."""
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
    server.set_rates()


def error_code(call: Any, *arguments: Any) -> str:
    """Make a call that must fail; returns the code of its error."""
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
    """Only the second entry has no effect; the others are deleted."""
    consumer.send("1", "2", "3")
    before = consumer.sqs.fired()["stale_handle"]
    consumer.sqs.schedule_fault("DeleteMessageBatch", "stale_handle", entry=1)
    assert len(consumer.delete(consumer.receive())["Successful"]) == 3
    assert consumer.left() == 1
    assert consumer.sqs.fired()["stale_handle"] == before + 1


def test_equal_entry_ids_refuse_the_batch(consumer: Consumer) -> None:
    consumer.send("1", "2")
    entries = [{"Id": "0", "ReceiptHandle": m["ReceiptHandle"]} for m in consumer.receive()]
    with pytest.raises(ClientError, match="BatchEntryIdsNotDistinct"):
        consumer.client.delete_message_batch(QueueUrl=consumer.url, Entries=entries)
    assert consumer.left() == 2


def test_single_entries_fail_in_an_answer_of_200(consumer: Consumer) -> None:
    consumer.send("1", "2", "3")
    consumer.sqs.schedule_fault("DeleteMessageBatch", "failed_entry", entry=2)
    answer = consumer.delete(consumer.receive())
    assert [entry["Id"] for entry in answer["Successful"]] == ["0", "1"]
    (failed,) = answer["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("2", "InternalError", False)
    assert consumer.left() == 1


def test_a_receive_may_be_empty_though_messages_wait(consumer: Consumer) -> None:
    consumer.send("{}")
    consumer.sqs.schedule_fault("ReceiveMessage", "false_empty")
    assert consumer.receive(WaitTimeSeconds=5) == []
    assert len(consumer.receive()) == 1


def test_a_deleted_message_may_be_delivered_once_more(consumer: Consumer) -> None:
    (message_id,) = consumer.send("{}")
    consumer.sqs.set_rates(redelivered=1.0)
    consumer.delete(consumer.receive())
    (again,) = consumer.receive(WaitTimeSeconds=5)
    assert again["MessageId"] == message_id
    consumer.delete([again])
    assert consumer.receive(WaitTimeSeconds=1) == []


def test_a_message_may_be_delivered_twice_at_once(consumer: Consumer) -> None:
    (message_id,) = consumer.send("{}")
    consumer.sqs.set_rates(twice=1.0)
    messages = [consumer.receive()[0] for _ in range(2)]
    assert [message["MessageId"] for message in messages] == [message_id] * 2
    assert messages[0]["ReceiptHandle"] != messages[1]["ReceiptHandle"]


def test_requests_are_throttled_with_both_codes_of_aws(consumer: Consumer) -> None:
    consumer.sqs.set_rates(throttled=1.0)
    codes = {error_code(consumer.receive) for _ in range(20)}
    assert codes == {"RequestThrottled", "ThrottlingException"}


@pytest.mark.parametrize(
    ("kind", "code"), [("failed", "InternalFailure"), ("unavailable", "ServiceUnavailable")]
)
def test_a_request_fails_with_nothing_done(consumer: Consumer, kind: str, code: str) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.schedule_fault("DeleteMessageBatch", kind)
    assert error_code(consumer.delete, messages) == code
    assert consumer.left() == 1


def test_a_request_fails_after_it_was_done(consumer: Consumer) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.schedule_fault("DeleteMessageBatch", "failed_after")
    assert error_code(consumer.delete, messages) == "InternalFailure"
    assert consumer.left() == 0


@pytest.mark.parametrize(("kind", "left"), [("cut_before", 1), ("cut_after", 0)])
def test_a_connection_is_cut_before_or_after_the_effect(
    consumer: Consumer, kind: str, left: int
) -> None:
    consumer.send("{}")
    messages = consumer.receive()
    consumer.sqs.schedule_fault("DeleteMessageBatch", kind)
    with pytest.raises(ConnectionClosedError):
        consumer.delete(messages)
    assert consumer.left() == left


def test_a_lost_answer_to_a_receive_hides_the_messages(consumer: Consumer) -> None:
    """They become visible again when their visibility timeout has passed, and not before."""
    consumer.send("{}")
    consumer.sqs.schedule_fault("ReceiveMessage", "cut_after")
    with pytest.raises(ConnectionClosedError):
        consumer.receive(VisibilityTimeout=5)
    assert consumer.receive() == []
    assert len(consumer.receive(WaitTimeSeconds=20)) == 1


def test_an_answer_may_be_slow(consumer: Consumer) -> None:
    consumer.send("{}")
    consumer.sqs.set_rates(slow=1.0, slow_seconds=0.6)
    started = time.monotonic()
    assert len(consumer.receive()) == 1
    assert time.monotonic() - started >= 0.6


def test_credentials_expire_for_a_while(consumer: Consumer) -> None:
    consumer.sqs.expire_credentials(3600)
    assert error_code(consumer.receive) == "ExpiredToken"
    consumer.sqs.expire_credentials(0.2)
    until(lambda: can_receive(consumer))


def can_receive(consumer: Consumer) -> bool:
    """Whether a receive succeeds."""
    try:
        consumer.receive()
    except ClientError:
        return False
    return True


def test_more_than_the_limit_in_flight_is_refused_in_a_long_poll_too(consumer: Consumer) -> None:
    consumer.send("1", "2", "3")
    consumer.sqs.set_rates(in_flight=2)
    consumer.receive(2)
    assert error_code(lambda: consumer.receive(WaitTimeSeconds=1)) == "OverLimit"


def test_a_message_becomes_visible_again_when_its_timeout_has_passed(consumer: Consumer) -> None:
    """Its old receipt handle no longer deletes it."""
    consumer.send("{}")
    (old,) = consumer.receive(VisibilityTimeout=1)
    (new,) = consumer.receive(WaitTimeSeconds=10)
    assert new["MessageId"] == old["MessageId"]
    consumer.delete([old])
    assert consumer.left() == 1
    consumer.delete([new])
    assert consumer.left() == 0


def test_a_message_gets_new_ids_on_its_way_through_the_dead_letter_queue(server: StrictSqs) -> None:
    """It gets one when it is moved there, and another when it is sent back."""
    url = server.create_queue(f"q-{uuid.uuid4().hex[:12]}", max_receive_count=1)
    consumer = Consumer(server, url=url)
    dead = Consumer(server, url=f"{url}-dead")
    (first,) = consumer.send("{}")
    consumer.receive(VisibilityTimeout=0)
    assert consumer.receive() == []
    (second,) = (m["MessageId"] for m in dead.receive(VisibilityTimeout=0))
    arns = [queue_arn(queue.client, queue.url) for queue in (dead, consumer)]
    dead.client.start_message_move_task(SourceArn=arns[0], DestinationArn=arns[1])
    (third,) = (m["MessageId"] for m in consumer.receive())
    assert len({first, second, third}) == 3
    assert dead.left() == 0


def test_a_body_may_have_one_mebibyte_and_not_a_byte_more(consumer: Consumer) -> None:
    consumer.send("x" * MIB)
    (message,) = consumer.receive()
    assert len(message["Body"]) == MIB
    assert error_code(consumer.send, "x" * (MIB + 1)) == "InvalidParameterValue"


@pytest.mark.parametrize("body", ["a\0b", "\x1f", "\ufffe", "\x0b"])
def test_characters_that_aws_forbids_are_refused(consumer: Consumer, body: str) -> None:
    assert error_code(consumer.send, body) == "InvalidMessageContents"


def test_opposite_orders_deliver_each_message_to_three_of_four(server: StrictSqs) -> None:
    """Even consumers get them forwards and odd ones backwards, even those already deleted."""
    first = Consumer(server)
    ids = first.send(*map(str, range(8)))
    server.set_rates(opposite_chunk=8)
    deliveries: list[list[str]] = []
    for number in range(4):
        consumer = Consumer(server, f"consumer{number}", first.url)
        messages = consumer.receive()
        consumer.delete(messages)
        deliveries.append([message["MessageId"] for message in messages])
    server.set_rates()
    assert sorted(itertools.chain.from_iterable(deliveries)) == sorted(ids * 3)
    for number, delivered in enumerate(deliveries):
        positions = [ids.index(message_id) for message_id in delivered]
        assert positions == sorted(positions, reverse=bool(number % 2))


def test_the_same_seed_produces_the_same_faults() -> None:
    """They hit the same requests."""

    def outcomes() -> list[bool]:
        with StrictSqs(seed=3) as sqs:
            consumer = Consumer(sqs)
            sqs.set_rates(throttled=0.5)
            return [can_receive(consumer) for _ in range(20)]

    first = outcomes()
    assert first == outcomes()
    assert set(first) == {True, False}


def test_a_rate_that_does_not_exist_is_an_error(server: StrictSqs) -> None:
    """Otherwise a campaign with a misspelled rate would run without its fault."""
    with pytest.raises(ValueError, match="throtled"):
        server.set_rates(throtled=0.1)


def test_a_frozen_consumer_receives_nothing_and_its_last_receives_are_known(
    server: StrictSqs,
) -> None:
    """So a campaign can tell, without a race, whether a worker holds what nobody may receive."""
    url = server.create_queue(f"q-{uuid.uuid4().hex[:12]}", max_receive_count=2)
    first, second = (Consumer(server, f"consumer{number}", url) for number in (1, 2))
    first.send("a", "b")
    before = server.received()
    held = first.receive(VisibilityTimeout=0)
    assert server.freeze(1) is None
    assert first.receive() == first.receive(WaitTimeSeconds=1) == []
    again = second.receive()
    assert len(held) == len(again) == 2
    assert server.freeze(1) is None
    seconds = server.freeze(2)
    assert seconds is not None
    assert seconds >= 0
    second.delete(again)
    assert server.freeze(2) is None
    for number in (1, 2):
        server.unfreeze(number)
    assert [after - b for after, b in zip(server.received(), before, strict=True)] == [0, 2, 2, 0]


@pytest.mark.parametrize("rates", [{"damaged": 1.0}, {"damaged_receives": 1}])
def test_a_damaged_message_differs_from_its_md5(consumer: Consumer, rates: dict[str, Any]) -> None:
    """In its body or in the checksum itself; the copy in the queue is whole."""
    consumer.send(*(f'{{"number": {number}}}' for number in range(10)))
    consumer.sqs.set_rates(**rates)
    for message in consumer.receive(VisibilityTimeout=0):
        md5 = hashlib.md5(message["Body"].encode(), usedforsecurity=False).hexdigest()
        assert md5 != message["MD5OfBody"]
    consumer.sqs.set_rates()
    for message in consumer.receive():
        md5 = hashlib.md5(message["Body"].encode(), usedforsecurity=False).hexdigest()
        assert md5 == message["MD5OfBody"]


def test_a_message_can_come_without_its_time(consumer: Consumer) -> None:
    """As from an emulator that does not know the attribute."""
    consumer.send("a")
    consumer.sqs.set_rates(no_sent_timestamp=1.0)
    (message,) = consumer.receive(MessageSystemAttributeNames=["All"])
    assert "SentTimestamp" not in message["Attributes"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"


def test_a_wrong_signature_is_refused_and_everything_after_it() -> None:
    """So that a client cannot hide it by trying again in another way."""
    with StrictSqs() as sqs:
        right = Consumer(sqs)
        right.send("a")
        wrong = Consumer(sqs, url=right.url, secret="another")
        assert error_code(wrong.receive) == "SignatureDoesNotMatch"
        assert error_code(right.receive) == "SignatureDoesNotMatch"
        assert sqs.fired() == {"wrong_signature": 2}
