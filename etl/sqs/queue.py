"""One SQS queue: receive, send, acknowledge, release, extend visibility.

Answers are taken literally. A batch call can answer 200 and list failed entries inside, so each
call returns what did not work. Entry ids must be distinct, so positions serve as ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import QueueRefused, QueueUnavailable
from etl.sqs.message import Handle, Message, in_tens, read_message
from etl.sqs.redrive import RedrivePolicy, read_policy

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# Waiting does not help against these. Everything else (throttling, 5xx, the network) may pass.
REFUSALS = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "AccessDenied",
        "AccessDeniedException",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "IncompleteSignature",
        "KmsAccessDenied",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "KmsOptInRequired",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "UnsupportedOperation",
    }
)
# How AWS begins its text when the clocks differ by five minutes or more. The codes are
# InvalidSignatureException and SignatureDoesNotMatch, the same as for a wrong key. This one passes
# once the clock is set, or at once if it was the process that had been suspended.
CLOCK_SKEW = ("Signature expired", "Signature not yet current")
# Of each message. Asked for under both names: older emulators and proxies know only AttributeNames.
SYSTEM_ATTRIBUTES = ["SentTimestamp", "ApproximateReceiveCount"]
FIFO_ATTRIBUTES = [*SYSTEM_ATTRIBUTES, "MessageGroupId"]


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
    """One SQS queue. Safe to use from several threads, as boto3 clients are."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self.url = url

    @property
    def is_fifo(self) -> bool:
        """Whether it is a FIFO queue, whose name always ends like this."""
        return self.url.rstrip("/").endswith(".fifo")

    def state(self) -> QueueState:
        """Ask for the visibility timeout and the approximate counts.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        answer = _call(
            self._client.get_queue_attributes,
            QueueUrl=self.url,
            AttributeNames=[
                "VisibilityTimeout",
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
                "RedrivePolicy",
            ],
        )
        attributes = answer["Attributes"]
        return QueueState(
            visibility_seconds=int(attributes["VisibilityTimeout"]),
            visible=int(attributes["ApproximateNumberOfMessages"]),
            in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
            redrive=read_policy(attributes.get("RedrivePolicy")),
        )

    def neighbour(self, name: str, account: str) -> Queue:
        """Find another queue of this region.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        answer = _call(self._client.get_queue_url, QueueName=name, QueueOwnerAWSAccountId=account)
        return Queue(self._client, answer["QueueUrl"])

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Wait for messages by a long poll. An empty answer does not mean an empty queue.

        :param limit: return at most this many messages, 1 to 10
        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now, or too many messages are in flight
        """
        names = FIFO_ATTRIBUTES if self.is_fifo else SYSTEM_ATTRIBUTES
        answer = _call(
            self._client.receive_message,
            QueueUrl=self.url,
            MaxNumberOfMessages=limit,
            WaitTimeSeconds=wait_seconds,
            MessageSystemAttributeNames=names,
            AttributeNames=names,
        )
        return [read_message(entry) for entry in answer.get("Messages", [])]

    def deduplicates_by_content(self) -> bool:
        """Whether this FIFO queue takes two equal bodies for one message by itself.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        name = "ContentBasedDeduplication"
        answer = _call(self._client.get_queue_attributes, QueueUrl=self.url, AttributeNames=[name])
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
        answer = _call(self._client.send_message_batch, QueueUrl=self.url, Entries=entries)
        return [int(entry["Id"]) for entry in answer.get("Failed", [])]

    def acknowledge(self, handles: Sequence[Handle]) -> list[FailedEntry]:
        """Delete the messages; return those that SQS did not delete.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now; some messages may be deleted
        """
        return self._call_in_tens(self._client.delete_message_batch, handles, {})

    def extend(self, handles: Sequence[Handle], seconds: int) -> list[FailedEntry]:
        """Hide the messages for *seconds* from now; return those that SQS did not extend.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS does not answer for now
        """
        return self._call_in_tens(
            self._client.change_message_visibility_batch, handles, {"VisibilityTimeout": seconds}
        )

    def release(self, handles: Sequence[Handle]) -> list[FailedEntry]:
        """Give the messages back at once; return those that stay hidden until their timeout."""
        return self.extend(handles, 0)

    def _call_in_tens(
        self, call: Callable[..., Any], handles: Sequence[Handle], parameters: dict[str, int]
    ) -> list[FailedEntry]:
        failed: list[FailedEntry] = []
        for ten in in_tens(handles):
            entries = [
                {"Id": str(i), "ReceiptHandle": handle.receipt_handle, **parameters}
                for i, handle in enumerate(ten)
            ]
            answer = _call(call, QueueUrl=self.url, Entries=entries)
            failed += [
                FailedEntry(ten[int(entry["Id"])], entry["Code"], entry["SenderFault"])
                for entry in answer.get("Failed", [])
            ]
        return failed


def _call(call: Callable[..., Any], **arguments: Any) -> Any:
    """Call a method of the client; raise what its failure means, without quoting what was sent."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    name = getattr(call, "__name__", "call")
    try:
        return call(**arguments)
    except ClientError as error:
        details = error.response.get("Error", {})
        code = details.get("Code", "unknown")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if str(details.get("Message", "")).startswith(CLOCK_SKEW):
            raise QueueUnavailable(
                f"SQS rejected the request's signature time (HTTP {status}, {name!r}): correct "
                "this machine's clock; if the process was suspended, the retry will succeed"
            ) from None
        # The text of the error can repeat what was sent; its code cannot.
        kind = QueueRefused if code in REFUSALS else QueueUnavailable
        raise kind(f"SQS answered {code!r} (HTTP {status}) to {name!r}") from None
    except (NoCredentialsError, NoRegionError) as error:
        raise QueueRefused(
            f"{type(error).__name__}: set AWS_REGION and AWS credentials in the environment"
        ) from None
    except BotoCoreError as error:
        # Its message quotes the address, which can have a password in it.
        raise QueueUnavailable(
            f"no answer from SQS to {name!r} ({type(error).__name__}); check the network, "
            "AWS_REGION and AWS_ENDPOINT_URL"
        ) from None
    except ValueError:
        # Its message can quote the address, which can have a password in it.
        raise QueueRefused(f"no address for {name!r}: check AWS_ENDPOINT_URL") from None
