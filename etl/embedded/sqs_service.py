"""The actions of the embedded SQS over its model: parameters in, answer out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from etl.embedded.sqs_model import (
    ACCOUNT_ID,
    MAXIMUM_BYTES,
    MAXIMUM_VISIBILITY_SECONDS,
    Refusal,
    SqsAccount,
    StoredMessage,
    StoredQueue,
    attributes_md5,
    size_bytes,
)
from etl.embedded.sqs_parameters import Parameters

Answer = dict[str, Any]

MAXIMUM_WAIT_SECONDS = 20
SENDER_ID = "AIDAEMBEDDEDSQSSENDER"

# Shape name -> the code of the older query protocol, which boto3 shows as Error.Code (awsQueryError
# in the service's Smithy model). The batch answers' Failed entries carry the same code.
QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    **{
        name: f"AWS.SimpleQueueService.{name}"
        for name in (
            "BatchEntryIdsNotDistinct",
            "BatchRequestTooLong",
            "EmptyBatchRequest",
            "InvalidBatchEntryId",
            "MessageNotInflight",
            "TooManyEntriesInBatchRequest",
            "UnsupportedOperation",
        )
    },
}
UNSUPPORTED_ACTIONS = frozenset(
    {
        "AddPermission",
        "CancelMessageMoveTask",
        "ListDeadLetterSourceQueues",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "RemovePermission",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    }
)
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
    """A ReceiveMessage request; one that finds nothing waits until *deadline_ms*."""

    queue: StoredQueue
    limit: int
    visibility_seconds: int | None
    system_names: frozenset[str]
    attribute_names: tuple[str, ...]
    deadline_ms: int


class Service:
    """SQS's actions over the model: parameters in, answer out, or a Receive that has to wait."""

    def __init__(self, account: SqsAccount, now_ms: Callable[[], int]) -> None:
        """Serve *account*; *now_ms* gives milliseconds since the epoch that never go back."""
        self._account = account
        self.now_ms = now_ms
        self._actions: dict[str, Callable[[Parameters, str], Answer | Receive]] = {
            "ChangeMessageVisibility": self._change_message_visibility,
            "ChangeMessageVisibilityBatch": self._change_message_visibility_batch,
            "CreateQueue": self._create_queue,
            "DeleteMessage": self._delete_message,
            "DeleteMessageBatch": self._delete_message_batch,
            "DeleteQueue": self._delete_queue,
            "GetQueueAttributes": self._get_queue_attributes,
            "GetQueueUrl": self._get_queue_url,
            "ListQueues": self._list_queues,
            "PurgeQueue": self._purge_queue,
            "ReceiveMessage": self._receive_message,
            "SendMessage": self._send_message,
            "SendMessageBatch": self._send_message_batch,
            "SetQueueAttributes": self._set_queue_attributes,
        }

    def answer(self, action: str, members: object, base_url: str) -> Answer | Receive:
        """Do *action*; queue URLs in the answer start with *base_url*.

        :raises Refusal: AWS would refuse the request.
        """
        if act := self._actions.get(action):
            return act(Parameters(members), base_url)
        if action in UNSUPPORTED_ACTIONS:
            raise Refusal("UnsupportedOperation", f"The embedded SQS has no {action}.")
        raise Refusal("InvalidAction", "The action is not valid for this service.")

    def _queue(self, parameters: Parameters) -> StoredQueue:
        # The last segment alone, whatever the host: inside and outside a container they differ.
        return self._account.queue(parameters.text("QueueUrl").rstrip("/").rsplit("/", 1)[-1])

    # Queues

    def _create_queue(self, parameters: Parameters, base_url: str) -> Answer:
        name, attributes = parameters.text("QueueName"), parameters.mapping("Attributes")
        queue = self._account.create(name, attributes, self.now_ms())
        return {"QueueUrl": _url(base_url, queue.name)}

    def _get_queue_url(self, parameters: Parameters, base_url: str) -> Answer:
        queue = self._account.queue(parameters.text("QueueName"))
        if parameters.optional_text("QueueOwnerAWSAccountId") not in {"", ACCOUNT_ID}:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        return {"QueueUrl": _url(base_url, queue.name)}

    def _list_queues(self, parameters: Parameters, base_url: str) -> Answer:
        names = self._account.names(parameters.optional_text("QueueNamePrefix"))
        after = parameters.optional_text("NextToken")
        limit = parameters.ranged("MaxResults", 1000, 1, 1000)
        rest = [name for name in names if name > after]
        page = rest[:limit]
        answer: Answer = {"QueueUrls": [_url(base_url, name) for name in page]} if page else {}
        # AWS gives a token only to who asked for pages.
        if len(rest) > limit and parameters.integer("MaxResults") is not None:
            answer["NextToken"] = page[-1]
        return answer

    def _delete_queue(self, parameters: Parameters, _: str) -> Answer:
        self._account.delete(self._queue(parameters).name)
        return {}

    def _purge_queue(self, parameters: Parameters, _: str) -> Answer:
        self._queue(parameters).purge()
        return {}

    def _get_queue_attributes(self, parameters: Parameters, _: str) -> Answer:
        known = self._queue(parameters).describe(self.now_ms())
        wanted = parameters.names("AttributeNames")
        for name in wanted:
            if name not in known and name not in {"All", "RedrivePolicy"}:
                raise Refusal("InvalidAttributeName", f"Unknown Attribute {name}.")
        chosen = {n: v for n, v in known.items() if n in wanted or "All" in wanted}
        return {"Attributes": chosen} if chosen else {}

    def _set_queue_attributes(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        queue.set_attributes(parameters.mapping("Attributes"), self.now_ms())
        return {}

    # Messages

    def _batch(
        self, entries: list[Parameters], act: Callable[[Parameters], Answer], required: str
    ) -> Answer:
        # One entry without its handle or body is a malformed request: AWS refuses the whole of it.
        for entry in entries:
            entry.text(required)
        successful, failed = [], []
        for entry in entries:
            try:
                successful.append({"Id": entry.text("Id"), **act(entry)})
            except Refusal as refusal:
                failed.append(_failed(entry.text("Id"), refusal))
        return {"Successful": successful, "Failed": failed}

    def _send(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        for name in ("MessageDeduplicationId", "MessageGroupId", "MessageSystemAttributes"):
            if parameters.has(name):
                raise Refusal("UnsupportedOperation", f"The embedded SQS does not support {name}.")
        message = queue.send(
            parameters.text("MessageBody"),
            parameters.message_attributes(),
            parameters.integer("DelaySeconds"),
            self.now_ms(),
        )
        answer = {"MessageId": message.id, "MD5OfMessageBody": message.body_md5}
        if message.attributes_md5:
            answer["MD5OfMessageAttributes"] = message.attributes_md5
        return answer

    def _send_message(self, parameters: Parameters, _: str) -> Answer:
        return self._send(self._queue(parameters), parameters)

    def _send_message_batch(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        entries = parameters.entries("SendMessageBatchRequestEntry")
        total = sum(
            size_bytes(entry.optional_text("MessageBody"), entry.message_attributes())
            for entry in entries
        )
        if total > MAXIMUM_BYTES:
            raise Refusal(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {MAXIMUM_BYTES} bytes. "
                f"You have sent {total} bytes.",
            )
        return self._batch(entries, lambda entry: self._send(queue, entry), "MessageBody")

    def _receive_message(self, parameters: Parameters, _: str) -> Answer | Receive:
        queue = self._queue(parameters)
        default_wait = int(queue.attributes["ReceiveMessageWaitTimeSeconds"])
        wait = parameters.ranged("WaitTimeSeconds", default_wait, 0, MAXIMUM_WAIT_SECONDS)
        # -1 stands for "not given", which must stay apart from 0.
        visibility = parameters.ranged("VisibilityTimeout", -1, 0, MAXIMUM_VISIBILITY_SECONDS)
        names = parameters.names("AttributeNames")
        names = names + parameters.names("MessageSystemAttributeNames")
        for name in names:
            if name not in SYSTEM_ATTRIBUTES and name != "All":
                raise Refusal("InvalidAttributeName", f"Unknown Attribute {name}.")
        receive = Receive(
            queue,
            parameters.ranged("MaxNumberOfMessages", 1, 1, 10),
            None if visibility < 0 else visibility,
            SYSTEM_ATTRIBUTES if "All" in names else frozenset(names),
            tuple(parameters.names("MessageAttributeNames")),
            self.now_ms() + 1000 * wait,
        )
        if wait == 0:
            return self._render(receive, self._take(receive))
        return self.retry(receive) or receive

    def _take(self, receive: Receive) -> list[StoredMessage]:
        return receive.queue.receive(receive.limit, receive.visibility_seconds, self.now_ms())

    def retry(self, receive: Receive) -> Answer | None:
        """Answer a receive that waits, or None while it has to go on waiting.

        :raises Refusal: the queue was deleted meanwhile.
        """
        if self._account.queue(receive.queue.name) is not receive.queue:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        messages: list[StoredMessage] = []
        if receive.queue.has_visible(self.now_ms()):
            # "When using long polling, SQS returns no error messages" (message quotas).
            with contextlib.suppress(Refusal):
                messages = self._take(receive)
        if messages or self.now_ms() >= receive.deadline_ms:
            return self._render(receive, messages)
        return None

    def _render(self, receive: Receive, messages: list[StoredMessage]) -> Answer:
        if not messages:
            return {}
        return {"Messages": [_render_message(receive, message) for message in messages]}

    def _delete_message(self, parameters: Parameters, _: str) -> Answer:
        self._delete(self._queue(parameters), parameters)
        return {}

    def _delete_message_batch(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        entries = parameters.entries("DeleteMessageBatchRequestEntry")
        return self._batch(entries, lambda entry: self._delete(queue, entry), "ReceiptHandle")

    def _delete(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        queue.delete(parameters.text("ReceiptHandle"), self.now_ms())
        return {}

    def _change_message_visibility(self, parameters: Parameters, _: str) -> Answer:
        return self._change(self._queue(parameters), parameters)

    def _change_message_visibility_batch(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        entries = parameters.entries("ChangeMessageVisibilityBatchRequestEntry")
        return self._batch(entries, lambda entry: self._change(queue, entry), "ReceiptHandle")

    def _change(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        handle = parameters.text("ReceiptHandle")
        seconds = parameters.required_integer("VisibilityTimeout")
        queue.change_visibility(handle, seconds, self.now_ms())
        return {}


def _failed(entry_id: str, refusal: Refusal) -> Answer:
    return {
        "Id": entry_id,
        "SenderFault": True,
        "Code": QUERY_CODES.get(refusal.code, refusal.code),
        "Message": refusal.message,
    }


def _url(base_url: str, name: str) -> str:
    return f"{base_url}/{ACCOUNT_ID}/{name}"


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
        # Of what is returned, not of what was sent: clients check it against what they see.
        answer["MD5OfMessageAttributes"] = attributes_md5(chosen)
    return answer


def _system_attributes(names: frozenset[str], message: StoredMessage) -> dict[str, str]:
    values = {
        "SenderId": SENDER_ID,
        "SentTimestamp": str(message.sent_ms),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": str(message.first_received_ms),
        "DeadLetterQueueSourceArn": message.dead_letter_source_arn,
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
