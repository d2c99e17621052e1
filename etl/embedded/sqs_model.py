"""Queues and messages that behave as Amazon SQS documents, without I/O and without a clock.

Every method that depends on the time takes *now_ms*: milliseconds since the epoch, which never go
back. No operation costs more than the logarithm of the queue's depth, so a queue of a million
messages is as quick as an empty one.

This project needs none of these, so they are left out: policies, encryption, tags, move tasks, and
the 60 seconds during which AWS refuses the name of a deleted queue. This is one file because a
queue and its account need each other: a queue looks up its dead-letter queue in the account, and
the account creates queues.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
import uuid
from collections.abc import Mapping

from etl.embedded.sqs_attributes import (
    DEFAULT_ATTRIBUTES,
    MAX_DELAY_SECONDS,
    MAX_VISIBILITY_SECONDS,
    RedrivePolicy,
    check_attribute,
    parse_redrive_policy,
)
from etl.embedded.sqs_deadlines import Deadlines
from etl.embedded.sqs_fifo import (
    DEFAULT_ATTRIBUTES as FIFO_ATTRIBUTES,
)
from etl.embedded.sqs_fifo import (
    SUFFIX,
    Deduplication,
    check_fifo_send,
    check_group,
    check_throughput,
    deduplication_id,
    not_for_this_type,
)
from etl.embedded.sqs_messages import (
    StoredMessage,
    attributes_md5,
    check_body,
    check_message_attributes,
    size_bytes,
)
from etl.embedded.sqs_order import ArrivalOrder, GroupOrder, Order
from etl.embedded.sqs_receipts import make_handle, read_handle
from etl.embedded.sqs_refusals import Refusal, invalid

ACCOUNT_ID = "000000000000"
ARN_PREFIX = f"arn:aws:sqs:us-east-1:{ACCOUNT_ID}:"
MAX_IN_FLIGHT = 120_000

# Long enough that a redelivered message is not part of the very next receive, short enough that a
# job which drains the queue still receives it.
REDELIVERY_MS = 200

MAX_NAME = 80
FIRST_SEQUENCE_NUMBER = 18_850_000_000_000_000_000  # AWS's have twenty digits too

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class Redelivery:
    """Chooses which deleted messages are delivered again; the same *seed* makes the same choice."""

    def __init__(self, fraction: float = 0.0, seed: int = 0) -> None:
        self._fraction = fraction
        self._random = random.Random(seed)  # noqa: S311  (repeatable, not secret)

    def chooses(self) -> bool:
        """Whether to deliver the message deleted now once more."""
        return self._fraction > 0 and self._random.random() < self._fraction


class StoredQueue:
    """One queue: its visible, in-flight and delayed messages, and when each expires."""

    def __init__(self, name: str, tag: int, now_ms: int, account: SqsAccount) -> None:
        self.name = name
        self.arn = ARN_PREFIX + name
        self.is_fifo = name.endswith(SUFFIX)
        self.attributes = DEFAULT_ATTRIBUTES | (FIFO_ATTRIBUTES if self.is_fifo else {})
        self.created_ms = self.modified_ms = now_ms
        self._tag = tag
        self._account = account
        self._redrive_policy: RedrivePolicy | None = None
        self._deduplication = Deduplication()
        self.purge()

    def purge(self) -> None:
        """Forget every message, in flight or not."""
        self._messages: dict[int, StoredMessage] = {}
        self._visible: Order = GroupOrder() if self.is_fifo else ArrivalOrder()
        self._in_flight = Deadlines()
        self._delayed = Deadlines()
        self._retained = Deadlines()
        self._returning = Deadlines()
        self._returning_messages: dict[int, StoredMessage] = {}

    # Attributes

    def set_attributes(self, given: Mapping[str, str], now_ms: int) -> None:
        """Change the queue's settings: all of *given*, or none if one is refused."""
        policy = self._redrive_policy
        for name, value in given.items():
            if name == "RedrivePolicy":
                policy = self._read_redrive_policy(value)
            else:
                check_attribute(name, value, is_fifo=self.is_fifo)
        check_throughput({**self.attributes, **given})
        retention = self.attributes["MessageRetentionPeriod"]
        self.attributes.update(given)
        self.modified_ms = now_ms
        self._redrive_policy = policy
        if policy is None:
            self.attributes.pop("RedrivePolicy", None)
        if self.attributes["MessageRetentionPeriod"] != retention:
            for message in self._messages.values():
                self._retain(message)

    def _read_redrive_policy(self, text: str) -> RedrivePolicy | None:
        if not text:
            return None
        policy = parse_redrive_policy(text)
        # A queue that were its own dead-letter queue would move a message to itself without end.
        target = self._account.find(policy.target_arn)
        if policy.target_arn == self.arn or target is None:
            raise invalid("RedrivePolicy", text, "Dead letter target does not exist")
        if target.is_fifo != self.is_fifo:
            reason = "Dead-letter queue must be same type of queue as the source"
            raise invalid("RedrivePolicy", text, reason)
        return policy

    def describe(self, now_ms: int) -> dict[str, str]:
        """Return every attribute that GetQueueAttributes can answer."""
        self.advance(now_ms)
        return {
            **self.attributes,
            "ApproximateNumberOfMessages": str(len(self._visible)),
            "ApproximateNumberOfMessagesNotVisible": str(len(self._in_flight)),
            "ApproximateNumberOfMessagesDelayed": str(len(self._delayed)),
            "CreatedTimestamp": str(self.created_ms // 1000),
            "LastModifiedTimestamp": str(self.modified_ms // 1000),
            "QueueArn": self.arn,
        }

    # Time

    def advance(self, now_ms: int) -> None:
        """Make the messages visible whose time has come, and drop those that have expired."""
        for number in self._delayed.due(now_ms):
            self._visible.show(self._messages[number])
        for number in self._in_flight.due(now_ms):
            self._visible.show(self._messages[number])
        for number in self._returning.due(now_ms):
            self._admit(self._returning_messages.pop(number))
        for number in self._retained.due(now_ms):
            self._forget(self._messages[number])

    def has_visible(self, now_ms: int) -> bool:
        """Whether a receive would find a message."""
        self.advance(now_ms)
        return self._visible.can_take()

    def next_change_ms(self) -> int | None:
        """Return when the next message becomes visible without a request, or None."""
        waiting = (self._in_flight, self._delayed, self._returning)
        moments = [deadlines.next_ms() for deadlines in waiting]
        return min((moment for moment in moments if moment is not None), default=None)

    # Messages

    def send(
        self,
        body: str,
        attributes: dict[str, dict[str, str]],
        delay_seconds: int | None,
        now_ms: int,
        *,
        group: str = "",
        dedup_id: str = "",
    ) -> StoredMessage:
        """Add a message that becomes visible after *delay_seconds* (None: the queue's delay).

        To a FIFO queue, a message that was sent in the last five minutes is not added again.
        """
        if group:
            check_group(group)
        if self.is_fifo:
            check_fifo_send(group, delay_seconds)
            delay_seconds = None
            dedup_id = deduplication_id(dedup_id, body, self.attributes)
        elif dedup_id:
            raise not_for_this_type("MessageDeduplicationId", dedup_id)
        check_body(body)
        check_message_attributes(attributes)
        limit = int(self.attributes["MaximumMessageSize"])
        if size_bytes(body, attributes) > limit:
            raise Refusal(
                "InvalidParameterValue",
                "One or more parameters are invalid. Reason: Message must be shorter than "
                f"{limit} bytes.",
            )
        if delay_seconds is None:
            delay_seconds = int(self.attributes["DelaySeconds"])
        if not 0 <= delay_seconds <= MAX_DELAY_SECONDS:
            reason = f"DelaySeconds must be >= 0 and <= {MAX_DELAY_SECONDS}"
            raise invalid("DelaySeconds", delay_seconds, reason)
        is_by_group = self.attributes.get("DeduplicationScope") == "messageGroup"
        key = (group if is_by_group else "", dedup_id)
        if dedup_id and (earlier := self._deduplication.find(key, now_ms)):
            return earlier
        message = StoredMessage(
            number=next(self._account.numbers),
            id=str(uuid.uuid4()),
            body=body,
            body_md5=hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            attributes=attributes,
            attributes_md5=attributes_md5(attributes),
            sent_ms=now_ms,
            group=group,
            deduplication_id=dedup_id,
        )
        if self.is_fifo:
            message.sequence_number = str(FIRST_SEQUENCE_NUMBER + message.number)
            self._deduplication.add(key, message)
        self._admit(message, now_ms + 1000 * delay_seconds if delay_seconds else 0)
        return message

    def _admit(self, message: StoredMessage, visible_ms: int = 0) -> None:
        self._messages[message.number] = message
        self._retain(message)
        if visible_ms:
            self._delayed.set(message.number, visible_ms)
        else:
            self._visible.show(message)

    def _retain(self, message: StoredMessage) -> None:
        # Counted from the send, even in a dead-letter queue: AWS keeps the original timestamp.
        retention_ms = 1000 * int(self.attributes["MessageRetentionPeriod"])
        self._retained.set(message.number, message.sent_ms + retention_ms)

    def _forget(self, message: StoredMessage) -> None:
        del self._messages[message.number]
        self._visible.discard(message)
        for deadlines in (self._in_flight, self._delayed, self._retained):
            deadlines.discard(message.number)

    def receive(
        self, limit: int, visibility_seconds: int | None, now_ms: int
    ) -> list[StoredMessage]:
        """Hand out up to *limit* messages and hide them for *visibility_seconds*.

        :param visibility_seconds: None means the visibility timeout of the queue.
        :raises Refusal: OverLimit, because the queue already has the maximum number in flight.
        """
        self.advance(now_ms)
        room = MAX_IN_FLIGHT - len(self._in_flight)
        if room <= 0:
            raise Refusal("OverLimit", "Too many messages in flight.")
        taken: list[StoredMessage] = []
        while len(taken) < min(limit, room) and (number := self._visible.take()) is not None:
            message = self._messages[number]
            if not self._moves_to_dead_letters(message):
                taken.append(message)
        if visibility_seconds is None:
            visibility_seconds = int(self.attributes["VisibilityTimeout"])
        # Not in the loop above: with a visibility timeout of 0 a message is visible again at once,
        # and one answer must not contain it twice.
        for message in taken:
            self._hand_out(message, visibility_seconds, now_ms)
        return taken

    def _hand_out(self, message: StoredMessage, visibility_seconds: int, now_ms: int) -> None:
        message.receive_count += 1
        message.received_ms = now_ms
        message.first_received_ms = message.first_received_ms or now_ms
        if visibility_seconds:
            self._in_flight.set(message.number, now_ms + 1000 * visibility_seconds)
            self._visible.hold(message)
        else:
            self._visible.show(message)

    def _moves_to_dead_letters(self, message: StoredMessage) -> bool:
        policy = self._redrive_policy
        if policy is None or message.receive_count < policy.max_receives:
            return False
        target = self._account.find(policy.target_arn)
        if target is None:
            return False
        self._forget(message)
        # An automatic move keeps the message id, the sent timestamp and the receive count. Only a
        # redrive task, which moves messages back, sends them as new messages with new ids.
        message.dead_letter_source_arn = self.arn
        target._admit(message)  # noqa: SLF001  (another queue, the same class)
        return True

    def handle(self, message: StoredMessage) -> str:
        """Return the receipt handle of the message's latest receive."""
        return make_handle(self._tag, message.number, message.receive_count)

    def delete(self, handle: str, now_ms: int) -> None:
        """Delete the message if *handle* is from its latest receive; otherwise change nothing.

        API_DeleteMessage: with an old receipt handle "the request succeeds, but the message might
        not be deleted". Here it never is, so that a client that relies on luck fails.
        """
        number, receive = read_handle(handle, self._tag)
        self.advance(now_ms)
        message = self._messages.get(number)
        if message is None:
            return
        if self.is_fifo and (number not in self._in_flight or message.receive_count != receive):
            # Unlike a standard queue's answer, this one is an error.
            raise invalid("ReceiptHandle", handle, "The receipt handle has expired")
        if message.receive_count != receive:
            return
        if receive == message.deleted_receive:
            return  # a repeated delete with the same handle does not cancel the redelivery
        self._forget(message)
        if not self.is_fifo and not message.deleted_receive and self._account.redelivery.chooses():
            message.deleted_receive = receive
            self._returning_messages[number] = message
            self._returning.set(number, now_ms + REDELIVERY_MS)

    def change_visibility(self, handle: str, visibility_seconds: int, now_ms: int) -> None:
        """Make a message in flight visible *visibility_seconds* from now; 0 means at once."""
        number, receive = read_handle(handle, self._tag)
        if not 0 <= visibility_seconds <= MAX_VISIBILITY_SECONDS:
            reason = f"VisibilityTimeout must be between 0 and {MAX_VISIBILITY_SECONDS}"
            raise invalid("VisibilityTimeout", visibility_seconds, reason)
        self.advance(now_ms)
        message = self._messages.get(number)
        if message is None:
            reason = "Message does not exist or is not available for visibility timeout change"
            raise invalid("ReceiptHandle", handle, reason)
        if number not in self._in_flight or message.receive_count != receive:
            raise Refusal("MessageNotInflight", "The specified message isn't in flight.")
        until_ms = now_ms + 1000 * visibility_seconds
        if until_ms > message.received_ms + 1000 * MAX_VISIBILITY_SECONDS:
            reason = (
                "Total VisibilityTimeout for the message is beyond the limit "
                f"[{MAX_VISIBILITY_SECONDS} seconds]"
            )
            raise invalid("VisibilityTimeout", visibility_seconds, reason)
        if visibility_seconds:
            self._in_flight.set(number, until_ms)
        else:
            self._in_flight.discard(number)
            self._visible.show(message)


class SqsAccount:
    """All queues of the only account, in its only region."""

    def __init__(
        self, redelivery: Redelivery | None = None, queue_class: type[StoredQueue] = StoredQueue
    ) -> None:
        self.redelivery = redelivery or Redelivery()
        self._queue_class = queue_class
        self.numbers = itertools.count(1)
        self._queues: dict[str, StoredQueue] = {}

    def find(self, arn: str) -> StoredQueue | None:
        """Return the queue with this ARN, or None."""
        prefix, name = arn[: len(ARN_PREFIX)], arn[len(ARN_PREFIX) :]
        return self._queues.get(name) if prefix == ARN_PREFIX else None

    def queue(self, name: str) -> StoredQueue:
        """Return the queue with this name.

        :raises Refusal: QueueDoesNotExist.
        """
        if (queue := self._queues.get(name)) is None:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        return queue

    def names(self, prefix: str = "") -> list[str]:
        """Return the names of the queues that start with *prefix*, in order."""
        return sorted(name for name in self._queues if name.startswith(prefix))

    def create(self, name: str, attributes: Mapping[str, str], now_ms: int) -> StoredQueue:
        """Return a new queue, or the existing one of this name if its attributes are the same.

        :raises Refusal: the name is invalid, or the existing queue has other attributes.
        """
        _check_name(name, is_fifo=attributes.get("FifoQueue") == "true")
        if (queue := self._queues.get(name)) is not None:
            _check_same_attributes(queue, attributes)
            return queue
        queue = self._queue_class(name, next(self.numbers), now_ms, self)
        queue.set_attributes(attributes, now_ms)
        self._queues[name] = queue
        return queue

    def delete(self, name: str) -> None:
        """Delete the queue and every message in it."""
        del self._queues[self.queue(name).name]


def _check_name(name: str, *, is_fifo: bool) -> None:
    stem = name.removesuffix(SUFFIX) if is_fifo else name
    if len(name) > MAX_NAME or not _QUEUE_NAME.fullmatch(stem) or (is_fifo and stem == name):
        suffix = f", and must end with {SUFFIX} suffix" if is_fifo else ""
        raise Refusal(
            "InvalidParameterValue",
            f"Can only include alphanumeric characters, hyphens, or underscores{suffix}. "
            f"1 to {MAX_NAME} in length",
        )


def _check_same_attributes(queue: StoredQueue, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        if queue.attributes.get(name, "") != value:
            raise Refusal(
                "QueueNameExists",
                "A queue already exists with the same name and a different value for attribute "
                f"{name}",
            )
