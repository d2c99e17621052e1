"""Receive, acknowledge, release, extend visibility: the only code that calls SQS.

What SQS answers is taken literally: a batch call can answer 200 with failed entries inside, so
each call returns what did not work; entry ids must be distinct, so they are positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from etl.config import QueueSettings
from etl.errors import SettingsError
from etl.sqs.client import call_sqs, make_client

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Item = TypeVar("Item")


TENS = 10  # entries in a batch call, and messages in a receive, at most
LONGEST_VISIBILITY_SECONDS = 12 * 3600  # counted from the receive, however often extended


@dataclass(slots=True, eq=False)
class Message:
    """One SQS message as received; its repr shows the id only."""

    message_id: str
    body: str = field(repr=False)
    receipt_handle: str = field(repr=False)
    sent_ms: int | None = field(repr=False)  # SentTimestamp: milliseconds since 1970 UTC
    md5: str | None = field(repr=False)  # MD5OfBody, which botocore does not check
    deliveries: int = field(default=1, repr=False)  # times it came while it was held here


@dataclass(frozen=True)
class Handle:
    """What SQS wants to hear about a message that it delivered."""

    message_id: str
    receipt_handle: str = field(repr=False)


@dataclass(frozen=True)
class Refused:
    """An entry of a batch call that did not work though the call did."""

    handle: Handle
    code: str
    final: bool  # the entry itself is wrong (SenderFault): sending it again cannot help


@dataclass(frozen=True)
class QueueState:
    """The queue's own numbers; the counts are approximate."""

    visibility_seconds: int
    visible: int
    in_flight: int


class Queue:
    """One SQS queue. Safe to use from several threads, as boto3 clients are."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self.url = url

    def state(self) -> QueueState:
        """Ask for the visibility timeout and the approximate counts.

        :raises QueueRefused: no such queue, no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        answer = call_sqs(
            self._client.get_queue_attributes,
            QueueUrl=self.url,
            AttributeNames=[
                "VisibilityTimeout",
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        attributes = answer["Attributes"]
        return QueueState(
            visibility_seconds=int(attributes["VisibilityTimeout"]),
            visible=int(attributes["ApproximateNumberOfMessages"]),
            in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        )

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Wait for messages by a long poll; none does not mean that the queue is empty.

        :param limit: at most so many, 1 to 10
        :raises QueueRefused: no such queue, no permission
        :raises QueueUnavailable: SQS does not answer for now, or too many messages are in flight
        """
        answer = call_sqs(
            self._client.receive_message,
            QueueUrl=self.url,
            MaxNumberOfMessages=limit,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return [_message(entry) for entry in answer.get("Messages", [])]

    def send(self, bodies: Sequence[str]) -> list[int]:
        """Send the bodies, at most ten; returns the positions that SQS did not take.

        :raises QueueRefused: a body is one that SQS does not take, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
        answer = call_sqs(self._client.send_message_batch, QueueUrl=self.url, Entries=entries)
        return [int(entry["Id"]) for entry in answer.get("Failed", [])]

    def acknowledge(self, handles: Sequence[Handle]) -> list[Refused]:
        """Delete the messages; returns those that SQS did not delete.

        :raises QueueRefused: no such queue, no permission
        :raises QueueUnavailable: SQS does not answer for now; some may be deleted
        """
        return self._in_tens(self._client.delete_message_batch, handles, {})

    def extend(self, handles: Sequence[Handle], seconds: int) -> list[Refused]:
        """Keep the messages hidden for *seconds* from now; returns those that were not.

        :raises QueueRefused: no such queue, no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        return self._in_tens(
            self._client.change_message_visibility_batch, handles, {"VisibilityTimeout": seconds}
        )

    def release(self, handles: Sequence[Handle]) -> list[Refused]:
        """Give the messages back at once; returns those that wait out their timeout instead."""
        return self.extend(handles, 0)

    def _in_tens(
        self, call: Callable[..., Any], handles: Sequence[Handle], more: dict[str, int]
    ) -> list[Refused]:
        refused: list[Refused] = []
        for ten in tens(handles):
            entries = [
                {"Id": str(i), "ReceiptHandle": handle.receipt_handle, **more}
                for i, handle in enumerate(ten)
            ]
            answer = call_sqs(call, QueueUrl=self.url, Entries=entries)
            refused += [
                Refused(ten[int(entry["Id"])], entry["Code"], entry["SenderFault"])
                for entry in answer.get("Failed", [])
            ]
        return refused


def open_queue(settings: QueueSettings) -> Queue:
    """Make the queue of the settings from the standard AWS variables; calls nothing yet.

    :raises SettingsError: no queue URL, or no region
    """
    if not settings.url:
        raise SettingsError("no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL")
    return Queue(make_client(settings), settings.url)


def tens(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items ten at a time."""
    for start in range(0, len(items), TENS):
        yield items[start : start + TENS]


def _message(entry: Any) -> Message:
    sent = entry.get("Attributes", {}).get("SentTimestamp")
    return Message(
        message_id=entry["MessageId"],
        body=entry.get("Body", ""),
        receipt_handle=entry["ReceiptHandle"],
        sent_ms=int(sent) if sent is not None else None,
        md5=entry.get("MD5OfBody"),
    )
