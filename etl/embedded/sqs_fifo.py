"""What a FIFO queue adds: its attributes, message groups and deduplication."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping

from etl.embedded.sqs_messages import StoredMessage
from etl.embedded.sqs_refusals import Refusal, invalid, missing

SUFFIX = ".fifo"

# "Exactly-once processing in Amazon SQS", Amazon SQS Developer Guide: five minutes, whether the
# message has been received and deleted in the meantime or not.
DEDUPLICATION_MS = 300_000

DEFAULT_ATTRIBUTES = {
    "FifoQueue": "true",
    "ContentBasedDeduplication": "false",
    "DeduplicationScope": "queue",
    "FifoThroughputLimit": "perQueue",
}
ALLOWED_VALUES = {
    "FifoQueue": ("true",),
    "ContentBasedDeduplication": ("true", "false"),
    "DeduplicationScope": ("queue", "messageGroup"),
    "FifoThroughputLimit": ("perQueue", "perMessageGroupId"),
}

# API_SendMessage: at most 128 letters, digits and punctuation marks.
_NAME = re.compile(r"[!-~]{1,128}")


def check_fifo_attribute(name: str, value: str) -> None:
    """Refuse a value of an attribute that only FIFO queues have."""
    if value not in ALLOWED_VALUES[name]:
        raise Refusal("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def check_throughput(attributes: Mapping[str, str]) -> None:
    """Refuse high throughput without deduplication by message group."""
    if (
        attributes.get("FifoThroughputLimit") == "perMessageGroupId"
        and attributes["DeduplicationScope"] != "messageGroup"
    ):
        raise Refusal(
            "InvalidAttributeValue",
            "FifoThroughputLimit can be set to perMessageGroupId only if DeduplicationScope is "
            "messageGroup.",
        )


def check_group(group: str) -> None:
    """Refuse a MessageGroupId that SQS does not allow."""
    if not _NAME.fullmatch(group):
        raise _not_allowed("MessageGroupId", group)


def deduplication_id(given: str, body: str, attributes: Mapping[str, str]) -> str:
    """The MessageDeduplicationId of a message to a FIFO queue, given or made from its body."""
    if given:
        if not _NAME.fullmatch(given):
            raise _not_allowed("MessageDeduplicationId", given)
        return given
    if attributes["ContentBasedDeduplication"] == "true":
        return hashlib.sha256(body.encode()).hexdigest()
    raise Refusal(
        "InvalidParameterValue",
        "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
        "provided explicitly",
    )


def check_fifo_send(group: str, delay_seconds: int | None) -> None:
    """Refuse a message to a FIFO queue without a group, or with a delay of its own."""
    if not group:
        raise missing("MessageGroupId")
    if delay_seconds:
        raise not_for_this_type("DelaySeconds", delay_seconds)


def not_for_this_type(parameter: str, value: object) -> Refusal:
    """The refusal of a parameter that the other type of queue has."""
    reason = "The request include parameter that is not valid for this queue type"
    return invalid(parameter, value, reason)


def _not_allowed(parameter: str, value: str) -> Refusal:
    reason = (
        f"{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length"
    )
    return invalid(parameter, value, reason)


class Deduplication:
    """The messages sent to a FIFO queue in the last five minutes."""

    def __init__(self) -> None:
        self._sent: OrderedDict[tuple[str, str], StoredMessage] = OrderedDict()

    def find(self, key: tuple[str, str], now_ms: int) -> StoredMessage | None:
        """Return the message that was sent with this key in the last five minutes, or None."""
        while self._sent:
            oldest = next(iter(self._sent))
            if self._sent[oldest].sent_ms + DEDUPLICATION_MS > now_ms:
                break
            del self._sent[oldest]
        return self._sent.get(key)

    def add(self, key: tuple[str, str], message: StoredMessage) -> None:
        """Remember a message that was sent now."""
        self._sent[key] = message
