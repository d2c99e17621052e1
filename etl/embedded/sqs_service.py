"""The actions of the embedded SQS: parameters in, answer out, or a receive that has to wait."""

from __future__ import annotations

from collections.abc import Callable

from etl.embedded.sqs_answers import (
    SYSTEM_ATTRIBUTES,
    Answer,
    Receive,
    queue_url,
    render_failure,
    render_messages,
)
from etl.embedded.sqs_attributes import MAX_VISIBILITY_SECONDS
from etl.embedded.sqs_messages import MAX_BYTES, StoredMessage, size_bytes
from etl.embedded.sqs_model import ACCOUNT_ID, SqsAccount, StoredQueue
from etl.embedded.sqs_parameters import Parameters
from etl.embedded.sqs_refusals import Refusal

MAX_WAIT_SECONDS = 20
MAX_MESSAGES = 10  # in one receive
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


class Service:
    """SQS's actions on the queues of one account."""

    def __init__(self, account: SqsAccount, now_ms: Callable[[], int]) -> None:
        """Serve *account*; *now_ms* returns milliseconds since the epoch, which never go back."""
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
        """Carry out *action*; queue URLs in the answer start with *base_url*.

        :raises Refusal: AWS would refuse the request.
        """
        if act := self._actions.get(action):
            return act(Parameters(members), base_url)
        if action in UNSUPPORTED_ACTIONS:
            raise Refusal("UnsupportedOperation", f"The embedded SQS has no {action}.")
        raise Refusal("InvalidAction", "The action is not valid for this service.")

    def _queue(self, parameters: Parameters) -> StoredQueue:
        # Only the last segment counts: inside and outside a container the hosts differ.
        return self._account.queue(parameters.text("QueueUrl").rstrip("/").rsplit("/", 1)[-1])

    # Queues

    def _create_queue(self, parameters: Parameters, base_url: str) -> Answer:
        name = parameters.text("QueueName")
        queue = self._account.create(name, parameters.mapping("Attributes"), self.now_ms())
        return {"QueueUrl": queue_url(base_url, queue.name)}

    def _get_queue_url(self, parameters: Parameters, base_url: str) -> Answer:
        queue = self._account.queue(parameters.text("QueueName"))
        if parameters.optional_text("QueueOwnerAWSAccountId") not in {"", ACCOUNT_ID}:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        return {"QueueUrl": queue_url(base_url, queue.name)}

    def _list_queues(self, parameters: Parameters, base_url: str) -> Answer:
        names = self._account.names(parameters.optional_text("QueueNamePrefix"))
        after = parameters.optional_text("NextToken")
        limit = parameters.ranged("MaxResults", 1000, 1, 1000)
        rest = [name for name in names if name > after]
        page = rest[:limit]
        answer: Answer = {"QueueUrls": [queue_url(base_url, name) for name in page]} if page else {}
        # AWS returns a token only if the request asked for pages.
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
        chosen = {name: value for name, value in known.items() if name in wanted or "All" in wanted}
        return {"Attributes": chosen} if chosen else {}

    def _set_queue_attributes(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        queue.set_attributes(parameters.mapping("Attributes"), self.now_ms())
        return {}

    # Messages

    def _batch(
        self, entries: list[Parameters], act: Callable[[Parameters], Answer], required: str
    ) -> Answer:
        # An entry without its handle or body makes the request malformed: AWS refuses all of it.
        for entry in entries:
            entry.check_text(required)
        successful = []
        failed = []
        for entry in entries:
            try:
                successful.append({"Id": entry.text("Id"), **act(entry)})
            except Refusal as refusal:
                failed.append(render_failure(entry.text("Id"), refusal))
        return {"Successful": successful, "Failed": failed}

    def _send(self, queue: StoredQueue, parameters: Parameters) -> Answer:
        if parameters.has("MessageSystemAttributes"):
            raise Refusal(
                "UnsupportedOperation", "The embedded SQS does not support MessageSystemAttributes."
            )
        message = queue.send(
            parameters.text("MessageBody"),
            parameters.message_attributes(),
            parameters.integer("DelaySeconds"),
            self.now_ms(),
            group=parameters.optional_text("MessageGroupId"),
            dedup_id=parameters.optional_text("MessageDeduplicationId"),
        )
        answer = {"MessageId": message.id, "MD5OfMessageBody": message.body_md5}
        if message.sequence_number:
            answer["SequenceNumber"] = message.sequence_number
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
        if total > MAX_BYTES:
            raise Refusal(
                "BatchRequestTooLong",
                f"Batch requests cannot be longer than {MAX_BYTES} bytes. "
                f"You have sent {total} bytes.",
            )
        return self._batch(entries, lambda entry: self._send(queue, entry), "MessageBody")

    def _receive_message(self, parameters: Parameters, _: str) -> Answer | Receive:
        queue = self._queue(parameters)
        default_wait = int(queue.attributes["ReceiveMessageWaitTimeSeconds"])
        wait = parameters.ranged("WaitTimeSeconds", default_wait, 0, MAX_WAIT_SECONDS)
        # -1 means "not given", which differs from 0.
        visibility = parameters.ranged("VisibilityTimeout", -1, 0, MAX_VISIBILITY_SECONDS)
        names = parameters.names("AttributeNames")
        names = names + parameters.names("MessageSystemAttributeNames")
        for name in names:
            if name not in SYSTEM_ATTRIBUTES and name != "All":
                raise Refusal("InvalidAttributeName", f"Unknown Attribute {name}.")
        receive = Receive(
            queue=queue,
            limit=parameters.ranged("MaxNumberOfMessages", 1, 1, MAX_MESSAGES),
            visibility_seconds=None if visibility < 0 else visibility,
            system_names=SYSTEM_ATTRIBUTES if "All" in names else frozenset(names),
            attribute_names=tuple(parameters.names("MessageAttributeNames")),
            deadline_ms=self.now_ms() + 1000 * wait,
        )
        if wait == 0:
            return render_messages(receive, self._take(receive))
        return self.retry(receive) or receive

    def _take(self, receive: Receive) -> list[StoredMessage]:
        return receive.queue.receive(receive.limit, receive.visibility_seconds, self.now_ms())

    def retry(self, receive: Receive) -> Answer | None:
        """Return the answer to a waiting receive, or None if it has to wait longer.

        :raises Refusal: the queue was deleted in the meantime.
        """
        if self._account.queue(receive.queue.name) is not receive.queue:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        messages: list[StoredMessage] = []
        if receive.queue.has_visible(self.now_ms()):
            try:
                messages = self._take(receive)
            except Refusal:
                # "When using long polling, SQS returns no error messages" (message quotas). It
                # answers at once, and with nothing.
                return {}
        if messages or self.now_ms() >= receive.deadline_ms:
            return render_messages(receive, messages)
        return None

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
