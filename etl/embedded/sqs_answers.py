"""The answers of the embedded SQS: messages, batch failures and queue URLs, in boto3's shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from etl.embedded.sqs_messages import StoredMessage, attributes_md5
from etl.embedded.sqs_model import ACCOUNT_ID, StoredQueue
from etl.embedded.sqs_refusals import Refusal

Answer = dict[str, Any]

SENDER_ID = "AIDAEMBEDDEDSQSSENDER"
SYSTEM_ATTRIBUTES = frozenset(
    {
        "AWSTraceHeader",
        "ApproximateFirstReceiveTimestamp",
        "ApproximateReceiveCount",
        "DeadLetterQueueSourceArn",
        "MessageDeduplicationId",
        "MessageGroupId",
        "SenderId",
        "SentTimestamp",
        "SequenceNumber",
    }
)


@dataclass(frozen=True, eq=False)
class Receive:
    """A ReceiveMessage request; if it finds nothing, it waits until *deadline_ms*."""

    queue: StoredQueue
    limit: int
    visibility_seconds: int | None
    system_names: frozenset[str]
    attribute_names: tuple[str, ...]
    deadline_ms: int


def render_messages(receive: Receive, messages: list[StoredMessage]) -> Answer:
    """Return the answer to *receive*; without messages it is empty, as AWS's is."""
    if not messages:
        return {}
    return {"Messages": [_render_message(receive, message) for message in messages]}


def _render_message(receive: Receive, message: StoredMessage) -> Answer:
    answer: Answer = {
        "MessageId": message.id,
        "ReceiptHandle": receive.queue.handle(message),
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    }
    if receive.system_names:
        answer["Attributes"] = _system_attributes(receive.system_names, message)
    if chosen := choose_attributes(message.attributes, receive.attribute_names):
        answer["MessageAttributes"] = chosen
        # The digest of the attributes that are returned, not of all that were sent: a client checks
        # it against what it received.
        answer["MD5OfMessageAttributes"] = attributes_md5(chosen)
    return answer


def _system_attributes(names: frozenset[str], message: StoredMessage) -> dict[str, str]:
    values = {
        "SenderId": SENDER_ID,
        "SentTimestamp": str(message.sent_ms),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
        "DeadLetterQueueSourceArn": message.dead_letter_source_arn,
        "MessageGroupId": message.group,
        "MessageDeduplicationId": message.deduplication_id,
        "SequenceNumber": message.sequence_number,
    }
    return {name: value for name, value in values.items() if value and name in names}


def choose_attributes(
    attributes: dict[str, dict[str, str]], wanted: tuple[str, ...]
) -> dict[str, dict[str, str]]:
    """Return the attributes that MessageAttributeNames asks for: names, ``prefix.*``, or All."""
    if not attributes or not wanted:
        return {}
    prefixes = tuple(name[:-2] for name in wanted if name.endswith(".*"))
    return {
        name: value
        for name, value in attributes.items()
        if "All" in wanted or name in wanted or (prefixes and name.startswith(prefixes))
    }


def render_failure(entry_id: str, refusal: Refusal) -> Answer:
    """Return an entry of Failed in the answer to a batch."""
    return {
        "Id": entry_id,
        "SenderFault": True,
        "Code": refusal.query_code,
        "Message": refusal.message,
    }


def queue_url(base_url: str, name: str) -> str:
    """Return the URL of a queue."""
    return f"{base_url}/{ACCOUNT_ID}/{name}"
