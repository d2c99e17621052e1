"""The embedded SQS: Amazon SQS's JSON protocol over HTTP/1.1, in a process of its own.

    python -m etl.embedded.sqs_server --foreground --port 9324

It is for development and tests. Signatures are not verified, nothing is kept on disk, and bodies
are never logged. Tags are taken and forgotten; ``sqs_model`` says what else AWS has and this has
not. Protocol: "Making Query API requests using AWS JSON protocol", Amazon SQS Developer Guide.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from etl.embedded import lifeline
from etl.embedded.sqs_model import (
    ACCOUNT_ID,
    MAXIMUM_BYTES,
    MAXIMUM_VISIBILITY_SECONDS,
    Account,
    Message,
    Queue,
    Redelivery,
    Refusal,
    attributes_md5,
    invalid,
    missing,
    size_bytes,
)

Answer = dict[str, Any]

TARGET_PREFIX = "AmazonSQS."
MAXIMUM_HEADER_BYTES = 65_536
# JSON writes some characters in six bytes, and a batch too long shall get AWS's own refusal.
MAXIMUM_REQUEST_BYTES = 64 * MAXIMUM_BYTES
MAXIMUM_ENTRIES = 10
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
HTTP_STATUS = {"InternalFailure": 500, "OverLimit": 403, "ReceiptHandleIsInvalid": 404}
HTTP_REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
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


class Parameters:
    """The members of a request, or of one entry of its batch, each checked for its type."""

    def __init__(self, members: object, path: str = "") -> None:
        """Take the decoded JSON; *path* stands before a member's name in a refusal."""
        if not isinstance(members, dict):
            raise Refusal("SerializationException", "A JSON object was expected.")
        self._members: dict[str, Any] = members
        self._path = path

    def _member(self, name: str, kind: type, default: Any) -> Any:
        value = self._members.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return value

    def has(self, name: str) -> bool:
        """Whether the member was given."""
        return self._members.get(name) is not None

    def text(self, name: str) -> str:
        """Return a string that must be there."""
        if not (value := self.optional_text(name)):
            raise missing(self._path + name)
        return value

    def optional_text(self, name: str) -> str:
        """Return a string, or "" without it."""
        value: str = self._member(name, str, "")
        return value

    def integer(self, name: str) -> int | None:
        """Return an integer, or None without it."""
        value: int | None = self._member(name, int, None)
        return value

    def required_integer(self, name: str) -> int:
        """Return an integer that must be there."""
        if (value := self.integer(name)) is None:
            raise missing(self._path + name)
        return value

    def ranged(self, name: str, default: int, low: int, high: int) -> int:
        """Return an integer from *low* to *high*, or *default* without it."""
        value = self.integer(name)
        if value is None:
            return default
        if not low <= value <= high:
            raise invalid(name, value, f"Must be between {low} and {high}, if provided")
        return value

    def names(self, name: str) -> list[str]:
        """Return a list of strings."""
        values: list[str] = self._member(name, list, [])
        if not all(isinstance(value, str) for value in values):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return values

    def mapping(self, name: str) -> dict[str, str]:
        """Return a map from string to string."""
        values: dict[str, str] = self._member(name, dict, {})
        if not all(isinstance(value, str) for value in values.values()):
            raise Refusal("SerializationException", f"{self._path}{name} has the wrong type.")
        return values

    def message_attributes(self) -> dict[str, dict[str, str]]:
        """Return the message attributes, with only the members that SQS stores."""
        values = self._member("MessageAttributes", dict, None)
        if not values:
            return {}
        wanted = ("DataType", "StringValue", "BinaryValue")
        stored = {}
        for name, value in values.items():
            members = Parameters(value, f"{self._path}MessageAttributes.{name}.")
            given = {member: members.optional_text(member) for member in wanted}
            stored[name] = {member: text for member, text in given.items() if text}
        return stored

    def entries(self, entry_name: str) -> list[Parameters]:
        """Return the batch's entries, after the checks that refuse a batch as a whole."""
        values = self._member("Entries", list, [])
        if not values:
            raise Refusal(
                "EmptyBatchRequest", f"There should be at least one {entry_name} in the request."
            )
        if len(values) > MAXIMUM_ENTRIES:
            raise Refusal(
                "TooManyEntriesInBatchRequest",
                f"Maximum number of entries per request are {MAXIMUM_ENTRIES}. "
                f"You have sent {len(values)}.",
            )
        entries = [Parameters(v, f"{entry_name}.{n}.") for n, v in enumerate(values, 1)]
        _check_entry_ids([entry.text("Id") for entry in entries])
        return entries


def _check_entry_ids(ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for entry_id in ids:
        plain = entry_id.replace("-", "").replace("_", "")
        if len(entry_id) > 80 or not (entry_id.isascii() and (plain.isalnum() or not plain)):
            raise Refusal(
                "InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and "
                "underscores. It can be at most 80 letters long.",
            )
        if entry_id in seen:
            raise Refusal("BatchEntryIdsNotDistinct", f"Id {entry_id} repeated.")
        seen.add(entry_id)


@dataclass(frozen=True, eq=False)
class Receive:
    """A ReceiveMessage request; one that finds nothing waits until *deadline_ms*."""

    queue: Queue
    limit: int
    visibility_seconds: int | None
    system_names: frozenset[str]
    attribute_names: tuple[str, ...]
    deadline_ms: int


class Service:
    """SQS's actions over the model: parameters in, answer out, or a Receive that has to wait."""

    def __init__(self, account: Account, now_ms: Callable[[], int]) -> None:
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

    def _queue(self, parameters: Parameters) -> Queue:
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

    def _send(self, queue: Queue, parameters: Parameters) -> Answer:
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

    def _take(self, receive: Receive) -> list[Message]:
        return receive.queue.receive(receive.limit, receive.visibility_seconds, self.now_ms())

    def retry(self, receive: Receive) -> Answer | None:
        """Answer a receive that waits, or None while it has to go on waiting.

        :raises Refusal: the queue was deleted meanwhile.
        """
        if self._account.queue(receive.queue.name) is not receive.queue:
            raise Refusal("QueueDoesNotExist", "The specified queue does not exist.")
        messages: list[Message] = []
        if receive.queue.has_visible(self.now_ms()):
            # "When using long polling, SQS returns no error messages" (message quotas).
            with contextlib.suppress(Refusal):
                messages = self._take(receive)
        if messages or self.now_ms() >= receive.deadline_ms:
            return self._render(receive, messages)
        return None

    def _render(self, receive: Receive, messages: list[Message]) -> Answer:
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

    def _delete(self, queue: Queue, parameters: Parameters) -> Answer:
        queue.delete(parameters.text("ReceiptHandle"), self.now_ms())
        return {}

    def _change_message_visibility(self, parameters: Parameters, _: str) -> Answer:
        return self._change(self._queue(parameters), parameters)

    def _change_message_visibility_batch(self, parameters: Parameters, _: str) -> Answer:
        queue = self._queue(parameters)
        entries = parameters.entries("ChangeMessageVisibilityBatchRequestEntry")
        return self._batch(entries, lambda entry: self._change(queue, entry), "ReceiptHandle")

    def _change(self, queue: Queue, parameters: Parameters) -> Answer:
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


def _render_message(receive: Receive, message: Message) -> Answer:
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


def _system_attributes(names: frozenset[str], message: Message) -> dict[str, str]:
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


class Malformed(Exception):  # noqa: N818  (what the client sent, told to the client)
    """Bytes that are no HTTP request which this server reads; the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTP_REASONS[status])
        self.status = status


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def parse_head(head: str) -> tuple[str, str, dict[str, str]]:
    """Split a request's head, without its last empty line, into method, path and headers.

    :raises Malformed: it is not HTTP/1.
    """
    first, *lines = head.split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Malformed(400)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise Malformed(400)
        headers[name.lower()] = value.strip()
    if words[2] == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return words[0], words[1], headers


class Connection(asyncio.Protocol):
    """One client's keep-alive connection; its requests are answered one after the other."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._waiting = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back to the client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """Leave the server, and with it the receive that may be waiting."""
        self._server.abandon(self)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete by now."""
        self._buffer += data
        self._advance()

    def close(self) -> None:
        """End the connection once what was answered has been written."""
        self._transport.close()

    def _advance(self) -> None:
        try:
            # Nothing is read while a receive waits: answers must keep the order of requests.
            while not self._waiting and not self._transport.is_closing():
                if (request := self._next_request()) is None:
                    break
                self._waiting = True
                self._server.handle(request, self)
            if len(self._buffer) > MAXIMUM_REQUEST_BYTES + MAXIMUM_HEADER_BYTES:
                raise Malformed(413)
        except Malformed as problem:
            self.respond(problem.status, b"", {"Connection": "close"})
            self.close()

    def _next_request(self) -> Request | None:
        if self._head is None:
            self._head = self._next_head()
        if self._head is None:
            return None
        method, path, headers = self._head
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        return Request(method, path, headers, body)

    def _next_head(self) -> tuple[str, str, dict[str, str]] | None:
        end = self._buffer.find(b"\r\n\r\n", 0, MAXIMUM_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) >= MAXIMUM_HEADER_BYTES:
                raise Malformed(431)
            return None
        head = parse_head(self._buffer[:end].decode("latin-1"))
        del self._buffer[: end + 4]
        self._check_length(head[2])
        return head

    def _check_length(self, headers: dict[str, str]) -> None:
        if "transfer-encoding" in headers:
            raise Malformed(501)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise Malformed(400)
        if len(length) > 10 or int(length) > MAXIMUM_REQUEST_BYTES:
            raise Malformed(413)
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Write the answer to the request in hand."""
        self._waiting = False
        lines = [f"HTTP/1.1 {status} {HTTP_REASONS[status]}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def resume(self) -> None:
        """Go on with the requests that came while a receive was waiting."""
        self._advance()


class Server:
    """Answers requests, and keeps the receives that wait for a message."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._receives: dict[Connection, Receive] = {}
        self._closing: set[Connection] = set()
        self._request_ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer *request*, now or when its receive ends; then the receives that it served."""
        if request.headers.get("connection", "").lower() == "close":
            self._closing.add(connection)
        if request.method == "GET" and request.path == "/health":
            self._write(connection, 200, b"OK", {"Content-Type": "text/plain"})
        elif request.method != "POST":
            self._write(connection, 405, b"", {})
        else:
            self._answer(connection, lambda: self._act(request, connection))
        self._serve_receives()

    def _act(self, request: Request, connection: Connection) -> Answer | None:
        target = request.headers.get("x-amz-target", "")
        if not target.startswith(TARGET_PREFIX):
            raise Refusal(
                "MissingAction", f"The request must carry X-Amz-Target: {TARGET_PREFIX}<Action>."
            )
        try:
            members = json.loads(request.body or b"{}")
        except (ValueError, RecursionError):
            raise Refusal("SerializationException", "The body is not JSON.") from None
        base_url = "http://" + request.headers.get("host", "localhost")
        answer = self._service.answer(target.removeprefix(TARGET_PREFIX), members, base_url)
        if isinstance(answer, Receive):
            self._receives[connection] = answer
            return None
        return answer

    def _answer(self, connection: Connection, act: Callable[[], Answer | None]) -> bool:
        """Do *act* and write what comes of it; whether there was something to write."""
        try:
            answer = act()
        except Refusal as refusal:
            self._refuse(connection, refusal)
            return True
        except Exception as error:  # noqa: BLE001  (a client must never wait for an answer in vain)
            # Where, but not what: an error's text may quote a body.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            sys.stderr.write(f"{type(error).__name__} in {frame.name}, line {frame.lineno}\n")
            self._refuse(connection, Refusal("InternalFailure", "The embedded SQS has a defect."))
            return True
        if answer is None:
            return False
        self._write_json(connection, 200, answer, {})
        return True

    def _refuse(self, connection: Connection, refusal: Refusal) -> None:
        status = HTTP_STATUS.get(refusal.code, 400)
        code = QUERY_CODES.get(refusal.code, refusal.code)
        fault = "Sender" if status < 500 else "Receiver"
        body = {"__type": f"com.amazonaws.sqs#{refusal.code}", "message": refusal.message}
        self._write_json(connection, status, body, {"x-amzn-query-error": f"{code};{fault}"})

    def _write_json(
        self, connection: Connection, status: int, body: Answer, headers: dict[str, str]
    ) -> None:
        headers["Content-Type"] = "application/x-amz-json-1.0"
        self._write(connection, status, json.dumps(body).encode(), headers)

    def _write(
        self, connection: Connection, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        headers["x-amzn-RequestId"] = f"00000000-0000-4000-8000-{next(self._request_ids):012x}"
        if connection in self._closing:
            headers["Connection"] = "close"
        connection.respond(status, body, headers)
        if connection in self._closing:
            connection.close()

    # Receives that wait

    def abandon(self, connection: Connection) -> None:
        """Forget a client that is gone, before a message is handed to nobody."""
        self._receives.pop(connection, None)
        self._closing.discard(connection)

    def _serve_receives(self) -> None:
        """Answer the receives that can be answered, the longest waiting first."""
        for connection, receive in list(self._receives.items()):
            if self._answer(connection, lambda r=receive: self._service.retry(r)):  # type: ignore[misc]
                del self._receives[connection]
                # Not from within this loop: what it does may change the receives again.
                asyncio.get_running_loop().call_soon(connection.resume)
        self._wake_at(min(map(_next_look_ms, self._receives.values()), default=None))

    def _wake_at(self, moment_ms: int | None) -> None:
        if moment_ms == self._timer_ms:
            return
        if self._timer:
            self._timer.cancel()
        self._timer, self._timer_ms = None, moment_ms
        if moment_ms is not None:
            seconds = max(0, moment_ms - self._service.now_ms()) / 1000
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds + 0.001, self._wake)

    def _wake(self) -> None:
        self._timer, self._timer_ms = None, None
        self._serve_receives()


def _next_look_ms(receive: Receive) -> int:
    change_ms = receive.queue.next_change_ms()
    return receive.deadline_ms if change_ms is None else min(receive.deadline_ms, change_ms)


def clock() -> Callable[[], int]:
    """Return a clock of milliseconds since the epoch that a change of the system's time spares."""
    offset = time.time_ns() - time.monotonic_ns()
    return lambda: (time.monotonic_ns() + offset) // 1_000_000


async def serve(options: argparse.Namespace) -> None:
    """Serve until the parent ends, or until SIGTERM or SIGINT."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    account = Account(Redelivery(options.redeliver_fraction, options.seed))
    server = Server(Service(account, clock()))
    listener = await loop.create_server(lambda: Connection(server), options.host, options.port)
    port = listener.sockets[0].getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    if not options.foreground:
        lifeline.when_parent_ends(partial(_stop, loop, stopping))
    lifeline.report(endpoint_url=f"http://{host}:{port}")
    await stopping.wait()
    # The end of the process closes the connections; whoever waits on one sees it break off.
    listener.close()


def _stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    # The loop may be gone already when a signal and the end of the parent come together.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stopping.set)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m etl.embedded.sqs_server",
        description="Serve an embedded, in-memory SQS; print one JSON line with its endpoint_url.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument(
        "--redeliver-fraction",
        type=_fraction,
        default=0.0,
        metavar="F",
        help="deliver this fraction of the deleted messages once more (0 to 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="decides which messages come once more"
    )
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="run until SIGTERM or Ctrl-C instead of until standard input ends",
    )
    asyncio.run(serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
