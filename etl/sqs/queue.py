"""One SQS queue: receive, send, acknowledge, release, extend visibility.

Answers are taken literally. A batch call can answer 200 and list failed entries inside, so each
call returns what did not work. Entry ids must be distinct, so positions serve as ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from etl.aws import answers
from etl.errors import QueueRefused
from etl.sqs.attributes import Wanted
from etl.sqs.message import Handle, Message, in_tens, read_message
from etl.sqs.redrive import RedrivePolicy, read_policy

# Of each message. Asked for under both names: older emulators and proxies know only AttributeNames.
SYSTEM_ATTRIBUTES = ["SentTimestamp", "ApproximateReceiveCount"]
FIFO_ATTRIBUTES = [*SYSTEM_ATTRIBUTES, "MessageGroupId"]


class Caller(Protocol):
    """Makes calls to SQS, and raises QueueRefused or QueueUnavailable for those that fail."""

    def __call__(self, name: str, /, **parameters: Any) -> Any:
        """Make the call of this name; return its answer."""


@dataclass(frozen=True)
class FailedEntry:
    """An entry of a batch call that failed although the call succeeded."""

    handle: Handle
    code: str
    final: bool  # SQS blames the entry itself (SenderFault), so sending it again cannot help


@dataclass(frozen=True)
class QueueState:
    """The queue's own numbers; the counts are approximate."""

    visibility_seconds: int
    visible: int
    in_flight: int
    delayed: int = 0
    redrive: RedrivePolicy | None = None  # None: the queue has no dead-letter queue

    @property
    def max_receive_count(self) -> int | None:
        """Receives after which a message goes to the dead-letter queue; None for no limit."""
        return self.redrive.max_receive_count if self.redrive else None


class Queue:
    """One SQS queue. Safe to use from several threads, as botocore's clients are."""

    def __init__(self, calls: Caller, url: str, wanted: Wanted | None = None) -> None:
        """Make calls about one queue.

        :param calls: makes a call of SQS, by the name of botocore's method
        :param wanted: attributes to ask for besides those that the program itself needs
        """
        self._calls = calls
        self.url = url
        self._wanted = wanted
        names = FIFO_ATTRIBUTES if self.is_fifo else SYSTEM_ATTRIBUTES
        of_sqs = list(dict.fromkeys([*names, *wanted.of_sqs.values()])) if wanted else names
        self._attributes: dict[str, Any] = {
            "MessageSystemAttributeNames": of_sqs,
            "AttributeNames": of_sqs,
        }
        if wanted and wanted.of_sender:
            self._attributes["MessageAttributeNames"] = list(wanted.of_sender.values())

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue, whose name always ends like this."""
        return self.url.rstrip("/").endswith(".fifo")

    def state(self) -> QueueState:
        """Ask for the visibility timeout and the approximate counts.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        answer = self._calls(
            "get_queue_attributes",
            QueueUrl=self.url,
            AttributeNames=[
                "VisibilityTimeout",
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
                "RedrivePolicy",
            ],
        )
        attributes = answer.get("Attributes", {})
        try:
            return QueueState(
                visibility_seconds=int(attributes["VisibilityTimeout"]),
                visible=int(attributes["ApproximateNumberOfMessages"]),
                in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
                delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
                redrive=read_policy(attributes.get("RedrivePolicy")),
            )
        except (KeyError, TypeError, ValueError):
            raise QueueRefused(
                "what answers is not SQS, as it gives no visibility timeout and counts: check "
                "AWS_ENDPOINT_URL"
            ) from None

    def neighbour(self, name: str, account: str) -> Queue:
        """Find another queue of this region.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        answer = self._calls("get_queue_url", QueueName=name, QueueOwnerAWSAccountId=account)
        return Queue(self._calls, answer["QueueUrl"])

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Wait for messages by a long poll. An empty answer does not mean an empty queue.

        :param limit: return at most this many messages, 1 to 10
        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now, or too many messages are in flight
        """
        answer = self._calls(
            "receive_message",
            QueueUrl=self.url,
            MaxNumberOfMessages=limit,
            WaitTimeSeconds=wait_seconds,
            **self._attributes,
        )
        return [read_message(entry, self._wanted) for entry in answer.get("Messages", [])]

    def deduplicates_by_content(self) -> bool:
        """Whether this FIFO queue takes two equal bodies for one message by itself.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        name = "ContentBasedDeduplication"
        answer = self._calls("get_queue_attributes", QueueUrl=self.url, AttributeNames=[name])
        return bool(answer.get("Attributes", {}).get(name) == "true")

    def send(self, bodies: Sequence[str], fifo: Sequence[dict[str, str]] = ()) -> list[int]:
        """Send at most ten bodies; return the positions of those that SQS did not take.

        :param fifo: of each message to a FIFO queue, its ``MessageGroupId`` and, unless the queue
            deduplicates by content, its ``MessageDeduplicationId``
        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
        for entry, parameters in zip(entries, fifo, strict=False):
            entry.update(parameters)
        answer = self._calls("send_message_batch", QueueUrl=self.url, Entries=entries)
        return [int(entry["Id"]) for entry in answer.get("Failed", [])]

    def acknowledge(self, handles: Sequence[Handle]) -> list[FailedEntry]:
        """Delete the messages; return those that SQS did not delete.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now; some messages may be deleted
        """
        failed = self._call_in_tens("delete_message_batch", handles, {})
        for code in {entry.code for entry in failed}:
            # A receipt handle that is stale is the entry's own fault; a missing right is not.
            if words := answers.refusal(code, "DeleteMessageBatch"):
                raise QueueRefused(f"SQS answered {code!r} to an entry of a delete: {words}")
        return failed

    def extend(self, handles: Sequence[Handle], seconds: int) -> list[FailedEntry]:
        """Hide the messages for *seconds* from now; return those that SQS did not extend.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        return self._call_in_tens(
            "change_message_visibility_batch", handles, {"VisibilityTimeout": seconds}
        )

    def release(self, handles: Sequence[Handle]) -> list[FailedEntry]:
        """Give the messages back at once; return those that stay hidden until their timeout."""
        return self.extend(handles, 0)

    def _call_in_tens(
        self, name: str, handles: Sequence[Handle], parameters: dict[str, int]
    ) -> list[FailedEntry]:
        failed: list[FailedEntry] = []
        for ten in in_tens(handles):
            entries = [
                {"Id": str(i), "ReceiptHandle": handle.receipt_handle, **parameters}
                for i, handle in enumerate(ten)
            ]
            answer = self._calls(name, QueueUrl=self.url, Entries=entries)
            failed += [
                FailedEntry(ten[int(entry["Id"])], entry["Code"], entry["SenderFault"])
                for entry in answer.get("Failed", [])
            ]
        return failed
