"""Queues and messages that behave as Amazon SQS documents, without I/O and without a clock.

Every method that depends on the time takes *now_ms*, milliseconds since the epoch that never go
back. Every operation costs at most the logarithm of the queue's depth, so a queue of a million
messages is as quick as an empty one.

Standard queues only. Not here, because nothing in this project asks for it: FIFO queues, policies,
encryption, tags, move tasks, and the 60 seconds in which AWS refuses a deleted queue's name.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import heapq
import itertools
import json
import random
import re
import struct
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ACCOUNT_ID = "000000000000"
ARN_PREFIX = f"arn:aws:sqs:us-east-1:{ACCOUNT_ID}:"

# "Amazon SQS message quotas", Amazon SQS Developer Guide (1 MiB since August 2025).
MAXIMUM_BYTES = 1_048_576
MAXIMUM_VISIBILITY_SECONDS = 43_200
MAXIMUM_DELAY_SECONDS = 900
MAXIMUM_IN_FLIGHT = 120_000
MAXIMUM_MESSAGE_ATTRIBUTES = 10

# Long enough that a redelivered message is not part of the very next receive, short enough that a
# job which drains the queue still meets it.
REDELIVERY_MS = 200

DEFAULT_ATTRIBUTES = {
    "DelaySeconds": "0",
    "MaximumMessageSize": str(MAXIMUM_BYTES),
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
ATTRIBUTE_RANGES = {
    "DelaySeconds": (0, MAXIMUM_DELAY_SECONDS),
    "MaximumMessageSize": (1024, MAXIMUM_BYTES),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, MAXIMUM_VISIBILITY_SECONDS),
}
UNSUPPORTED_ATTRIBUTES = frozenset(
    {
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoQueue",
        "FifoThroughputLimit",
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "Policy",
        "RedriveAllowPolicy",
        "SqsManagedSseEnabled",
    }
)

_QUEUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")
_DATA_TYPE = re.compile(r"(String|Number|Binary)(\.[A-Za-z0-9_.-]{1,249})?")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_.-]{1,256}")
# API_SendMessage: "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF".
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HANDLE = struct.Struct(">QQI")


class Refusal(Exception):  # noqa: N818  (an answer of the service, not a failure of it)
    """What AWS answers to a request that it will not do; *code* is the error's shape name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(parameter: str, value: object, reason: str) -> Refusal:
    """Return the refusal of a parameter's value, in AWS's words."""
    return Refusal(
        "InvalidParameterValue",
        f"Value {value} for parameter {parameter} is invalid. Reason: {reason}.",
    )


def missing(parameter: str) -> Refusal:
    """Return the refusal of a request that lacks a parameter."""
    return Refusal("MissingParameter", f"The request must contain the parameter {parameter}.")


class Deadlines:
    """Keys with a moment each, in milliseconds; finds the due ones without looking at the rest."""

    def __init__(self) -> None:
        self._moments: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._moments)

    def __contains__(self, key: int) -> bool:
        return key in self._moments

    def set(self, key: int, moment_ms: int) -> None:
        """Give *key* a moment, in place of the one it may have had."""
        self._moments[key] = moment_ms
        heapq.heappush(self._heap, (moment_ms, key))
        # What was discarded or moved stays in the heap until it is due, which a heartbeat that
        # pushes a moment further every second would make hours; so the heap is rebuilt at times.
        if len(self._heap) > 2 * len(self._moments) + 64:
            self._heap = [(moment, key) for key, moment in self._moments.items()]
            heapq.heapify(self._heap)

    def discard(self, key: int) -> None:
        """Forget *key*, if it is known."""
        self._moments.pop(key, None)

    def due(self, now_ms: int) -> list[int]:
        """Forget and return the keys whose moment has come, the earliest first."""
        keys: list[int] = []
        while self._heap and self._heap[0][0] <= now_ms:
            moment, key = heapq.heappop(self._heap)
            if self._moments.get(key) == moment:
                del self._moments[key]
                keys.append(key)
        return keys

    def next_ms(self) -> int | None:
        """Return the earliest moment, or None when there is none."""
        while self._heap and self._moments.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


class Redelivery:
    """Decides which deleted messages come once more: a *fraction* of them, the same for a seed."""

    def __init__(self, fraction: float = 0.0, seed: int = 0) -> None:
        self._fraction = fraction
        self._random = random.Random(seed)  # noqa: S311  (repeatable, not secret)

    def chooses(self) -> bool:
        """Whether the message deleted now will be delivered once more."""
        return self._fraction > 0 and self._random.random() < self._fraction


@dataclass(slots=True)
class StoredMessage:
    """One message; *number* is its place in the order of all sends."""

    number: int
    id: str
    body: str = field(repr=False)
    body_md5: str
    attributes: dict[str, dict[str, str]] = field(repr=False)
    attributes_md5: str
    sent_ms: int
    receive_count: int = 0
    first_received_ms: int = 0
    received_ms: int = 0
    deleted_receive: int = 0  # the receive whose handle deleted it, if it is redelivered
    dead_letter_source_arn: str = ""


def check_body(body: str) -> None:
    """Refuse a body that is empty or holds a character which SQS does not carry."""
    if not body:
        raise missing("MessageBody")
    # isprintable is many times faster than the pattern and true of nearly every JSON text.
    if body.isascii() and body.isprintable():
        return
    if found := _FORBIDDEN.search(body):
        raise Refusal(
            "InvalidMessageContents",
            f"Invalid binary character '#x{ord(found[0]):X}' was found in the message body, the "
            "set of allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
            "#x10000 to #x10FFFF",
        )


def check_message_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse message attributes whose name, type or value SQS does not take."""
    if len(attributes) > MAXIMUM_MESSAGE_ATTRIBUTES:
        raise Refusal(
            "InvalidParameterValue",
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum "
            f"[{MAXIMUM_MESSAGE_ATTRIBUTES}].",
        )
    for name, value in attributes.items():
        if not _ATTRIBUTE_NAME.fullmatch(name) or name[0] == "." or name[-1] == "." or ".." in name:
            raise Refusal("InvalidParameterValue", f"Message attribute name {name!r} is invalid.")
        _value_bytes(name, value)


def _value_bytes(name: str, value: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return how MD5OfMessageAttributes marks the value's transport type, and its bytes."""
    kind = _DATA_TYPE.fullmatch(value.get("DataType") or "")
    text, binary = value.get("StringValue") or "", value.get("BinaryValue") or ""
    if kind and kind[1] == "Binary" and binary:
        with contextlib.suppress(ValueError):
            return 2, base64.b64decode(binary, validate=True)
    elif kind and text and not _FORBIDDEN.search(text):
        return 1, text.encode()
    raise Refusal(
        "InvalidParameterValue",
        f"The message attribute {name!r} must have a type that starts with Binary, Number or "
        "String, and a non-empty value of that type.",
    )


def attributes_md5(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """MD5OfMessageAttributes, or "" without attributes.

    "Calculating the MD5 message digest for message attributes", Amazon SQS Developer Guide: names
    in order; of each the length and bytes of name, type and value, the value behind one byte that
    tells text from binary; lengths are four bytes, big-endian.
    """
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        transport, content = _value_bytes(name, attributes[name])
        for piece in (name.encode(), attributes[name]["DataType"].encode()):
            digest.update(struct.pack(">I", len(piece)) + piece)
        digest.update(struct.pack(">BI", transport, len(content)) + content)
    return digest.hexdigest()


def size_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Measure what counts towards the limits: body, and names, types and values of attributes."""
    total = _text_bytes(body)
    for name, value in attributes.items():
        total += _text_bytes(name) + _text_bytes(value.get("DataType") or "")
        total += _text_bytes(value.get("StringValue") or "")
        binary = value.get("BinaryValue") or ""
        total += 3 * (len(binary) // 4) - binary.count("=")
    return total


def _text_bytes(text: str) -> int:
    # A lone surrogate is refused elsewhere, with its own code; here it must only be measured.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class StoredQueue:
    """One standard queue: what is visible, in flight, delayed, and due to vanish."""

    def __init__(self, name: str, tag: int, now_ms: int, account: SqsAccount) -> None:
        self.name = name
        self.arn = ARN_PREFIX + name
        self.attributes = dict(DEFAULT_ATTRIBUTES)
        self.created_ms = self.modified_ms = now_ms
        self._tag = tag
        self._account = account
        self._dead_letter_arn, self._maximum_receives = "", 0
        self.purge()

    def purge(self) -> None:
        """Forget every message, in flight or not."""
        self._messages: dict[int, StoredMessage] = {}
        # Not a plain dict: taking the first of one scans the holes that earlier takes left.
        self._visible: OrderedDict[int, None] = OrderedDict()
        self._in_flight, self._delayed, self._retained = Deadlines(), Deadlines(), Deadlines()
        self._returning, self._returning_messages = Deadlines(), dict[int, StoredMessage]()

    # Attributes

    def set_attributes(self, given: Mapping[str, str], now_ms: int) -> None:
        """Change the queue's settings, all of *given* or, on a refusal, none."""
        for name, value in given.items():
            self._check_attribute(name, value)
        retention = self.attributes["MessageRetentionPeriod"]
        self.attributes.update(given)
        self.modified_ms = now_ms
        if "RedrivePolicy" in given:
            self._adopt_redrive_policy(given["RedrivePolicy"])
        if self.attributes["MessageRetentionPeriod"] != retention:
            for message in self._messages.values():
                self._retain(message)

    def _check_attribute(self, name: str, value: str) -> None:
        if name == "RedrivePolicy":
            self._parse_redrive_policy(value)
        elif name in UNSUPPORTED_ATTRIBUTES:
            raise Refusal("UnsupportedOperation", f"The embedded SQS does not support {name}.")
        elif name not in ATTRIBUTE_RANGES:
            raise Refusal("InvalidAttributeName", f"Unknown Attribute {name}.")
        else:
            low, high = ATTRIBUTE_RANGES[name]
            if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
                raise Refusal("InvalidAttributeValue", f"Invalid value for the parameter {name}.")

    def _parse_redrive_policy(self, text: str) -> tuple[str, int]:
        if not text:
            return "", 0
        try:
            policy = json.loads(text)
            arn, receives = str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise invalid("RedrivePolicy", text, "Redrive policy is not valid JSON map") from None
        if not 1 <= receives <= 1000:
            raise invalid("RedrivePolicy", text, "maxReceiveCount must be from 1 to 1000")
        # A queue that is its own dead-letter queue would hand a spent message to itself for ever.
        if self._account.find(arn) is None or arn == self.arn:
            raise invalid("RedrivePolicy", text, "Dead letter target does not exist")
        return arn, receives

    def _adopt_redrive_policy(self, text: str) -> None:
        self._dead_letter_arn, self._maximum_receives = self._parse_redrive_policy(text)
        if not text:
            del self.attributes["RedrivePolicy"]

    def describe(self, now_ms: int) -> dict[str, str]:
        """Every attribute that GetQueueAttributes knows of this queue."""
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
        """Make visible what has become so, and drop what has passed its retention period."""
        for number in self._delayed.due(now_ms):
            self._visible[number] = None
        for number in self._in_flight.due(now_ms):
            self._visible[number] = None
        for number in self._returning.due(now_ms):
            self._admit(self._returning_messages.pop(number))
        for number in self._retained.due(now_ms):
            self._forget(self._messages[number])

    def has_visible(self, now_ms: int) -> bool:
        """Whether a receive may get a message."""
        self.advance(now_ms)
        return bool(self._visible)

    def next_change_ms(self) -> int | None:
        """When the next message becomes visible by time alone, or None."""
        moments = [d.next_ms() for d in (self._in_flight, self._delayed, self._returning)]
        return min((moment for moment in moments if moment is not None), default=None)

    # Messages

    def send(
        self,
        body: str,
        attributes: dict[str, dict[str, str]],
        delay_seconds: int | None,
        now_ms: int,
    ) -> StoredMessage:
        """Add a message, visible after *delay_seconds* (None: the queue's own delay)."""
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
        if not 0 <= delay_seconds <= MAXIMUM_DELAY_SECONDS:
            reason = f"DelaySeconds must be >= 0 and <= {MAXIMUM_DELAY_SECONDS}"
            raise invalid("DelaySeconds", delay_seconds, reason)
        message = StoredMessage(
            next(self._account.numbers),
            str(uuid.uuid4()),
            body,
            hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
            attributes,
            attributes_md5(attributes),
            now_ms,
        )
        self._admit(message, now_ms + 1000 * delay_seconds if delay_seconds else 0)
        return message

    def _admit(self, message: StoredMessage, visible_ms: int = 0) -> None:
        self._messages[message.number] = message
        self._retain(message)
        if visible_ms:
            self._delayed.set(message.number, visible_ms)
        else:
            self._visible[message.number] = None

    def _retain(self, message: StoredMessage) -> None:
        # From the send, also in a dead-letter queue: AWS keeps the original enqueue timestamp.
        retention_ms = 1000 * int(self.attributes["MessageRetentionPeriod"])
        self._retained.set(message.number, message.sent_ms + retention_ms)

    def _forget(self, message: StoredMessage) -> None:
        del self._messages[message.number]
        self._visible.pop(message.number, None)
        for deadlines in (self._in_flight, self._delayed, self._retained):
            deadlines.discard(message.number)

    def receive(
        self, limit: int, visibility_seconds: int | None, now_ms: int
    ) -> list[StoredMessage]:
        """Hand out up to *limit* visible messages (None: the queue's own visibility timeout).

        :raises Refusal: OverLimit, as many messages are in flight as a queue may have.
        """
        self.advance(now_ms)
        room = MAXIMUM_IN_FLIGHT - len(self._in_flight)
        if room <= 0:
            raise Refusal("OverLimit", "Too many messages in flight.")
        taken: list[StoredMessage] = []
        while self._visible and len(taken) < min(limit, room):
            message = self._messages[self._visible.popitem(last=False)[0]]
            if not self._moves_to_dead_letters(message):
                taken.append(message)
        if visibility_seconds is None:
            visibility_seconds = int(self.attributes["VisibilityTimeout"])
        # Only now: with a visibility timeout of 0 a message is visible again at once, and must
        # not come twice in one answer.
        for message in taken:
            self._hand_out(message, visibility_seconds, now_ms)
        return taken

    def _hand_out(self, message: StoredMessage, visibility_seconds: int, now_ms: int) -> None:
        message.receive_count += 1
        message.received_ms = now_ms
        message.first_received_ms = message.first_received_ms or now_ms
        if visibility_seconds:
            self._in_flight.set(message.number, now_ms + 1000 * visibility_seconds)
        else:
            self._visible[message.number] = None

    def _moves_to_dead_letters(self, message: StoredMessage) -> bool:
        if not self._dead_letter_arn or message.receive_count < self._maximum_receives:
            return False
        target = self._account.find(self._dead_letter_arn)
        if target is None:
            return False
        self._forget(message)
        # An automatic move keeps the message id, the sent timestamp and the receive count. It is
        # the redrive task, back from the dead-letter queue, that sends a new message with a new id.
        message.dead_letter_source_arn = self.arn
        target._admit(message)  # noqa: SLF001  (another queue, the same class)
        return True

    def handle(self, message: StoredMessage) -> str:
        """Return the receipt handle of the message's newest receive."""
        packed = _HANDLE.pack(self._tag, message.number, message.receive_count)
        checksum = zlib.crc32(packed).to_bytes(4, "big")
        return "AQEB" + base64.urlsafe_b64encode(packed + checksum).decode()

    def _read_handle(self, handle: str) -> tuple[int, int]:
        """Return the message's number and the receive that *handle* was given out for."""
        try:
            packed = base64.b64decode(handle.removeprefix("AQEB"), b"-_", validate=True)
            tag, number, receive = _HANDLE.unpack(packed[:-4])
        except (ValueError, struct.error):
            tag, number, receive, packed = 0, 0, 0, b""
        genuine = handle.startswith("AQEB") and tag == self._tag
        if not genuine or zlib.crc32(packed[:-4]).to_bytes(4, "big") != packed[-4:]:
            raise Refusal(
                "ReceiptHandleIsInvalid",
                f'The input receipt handle "{handle}" is not a valid receipt handle.',
            )
        return number, receive

    def delete(self, handle: str, now_ms: int) -> None:
        """Delete the message, if *handle* is of its newest receive; otherwise change nothing.

        API_DeleteMessage: with an old receipt handle "the request succeeds, but the message might
        not be deleted". Here it never is, so that a client which relies on luck has none.
        """
        number, receive = self._read_handle(handle)
        self.advance(now_ms)
        message = self._messages.get(number)
        if message is None or message.receive_count != receive:
            return
        if receive == message.deleted_receive:
            return  # what was promised to come once more does, whoever deletes it twice meanwhile
        self._forget(message)
        if not message.deleted_receive and self._account.redelivery.chooses():
            message.deleted_receive = receive
            self._returning_messages[number] = message
            self._returning.set(number, now_ms + REDELIVERY_MS)

    def change_visibility(self, handle: str, visibility_seconds: int, now_ms: int) -> None:
        """Make a message in flight visible *visibility_seconds* from now, 0 being at once."""
        number, receive = self._read_handle(handle)
        if not 0 <= visibility_seconds <= MAXIMUM_VISIBILITY_SECONDS:
            reason = f"VisibilityTimeout must be between 0 and {MAXIMUM_VISIBILITY_SECONDS}"
            raise invalid("VisibilityTimeout", visibility_seconds, reason)
        self.advance(now_ms)
        message = self._messages.get(number)
        if message is None:
            reason = "Message does not exist or is not available for visibility timeout change"
            raise invalid("ReceiptHandle", handle, reason)
        if number not in self._in_flight or message.receive_count != receive:
            raise Refusal("MessageNotInflight", "The specified message isn't in flight.")
        until_ms = now_ms + 1000 * visibility_seconds
        if until_ms > message.received_ms + 1000 * MAXIMUM_VISIBILITY_SECONDS:
            reason = (
                "Total VisibilityTimeout for the message is beyond the limit "
                f"[{MAXIMUM_VISIBILITY_SECONDS} seconds]"
            )
            raise invalid("VisibilityTimeout", visibility_seconds, reason)
        if visibility_seconds:
            self._in_flight.set(number, until_ms)
        else:
            self._in_flight.discard(number)
            self._visible[number] = None


class SqsAccount:
    """All queues of the one account and region there is."""

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
        """Return a new queue, or the one of this name if it has just these attributes."""
        if name.endswith(".fifo"):
            raise Refusal("UnsupportedOperation", "The embedded SQS has no FIFO queues.")
        if not _QUEUE_NAME.fullmatch(name):
            raise Refusal(
                "InvalidParameterValue",
                "Can only include alphanumeric characters, hyphens, or underscores. "
                "1 to 80 in length",
            )
        if (queue := self._queues.get(name)) is not None:
            return _unchanged(queue, attributes)
        queue = self._queue_class(name, next(self.numbers), now_ms, self)
        queue.set_attributes(attributes, now_ms)
        self._queues[name] = queue
        return queue

    def delete(self, name: str) -> None:
        """Delete the queue with everything in it."""
        del self._queues[self.queue(name).name]


def _unchanged(queue: StoredQueue, attributes: Mapping[str, str]) -> StoredQueue:
    for name, value in attributes.items():
        if queue.attributes.get(name, "") != value:
            raise Refusal(
                "QueueNameExists",
                "A queue already exists with the same name and a different value for attribute "
                f"{name}",
            )
    return queue
