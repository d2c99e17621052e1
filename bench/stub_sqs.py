"""A queue that costs almost nothing: SQS's JSON protocol, answered from prepared bytes.

`bench.stub` starts it as ``python -m bench.stub_sqs BODIES N``, and it ends with its parent. It
serves N messages once, then gives empty answers, and it counts deletes. It has no visibility
timeout: a message that was served is served again only after a change of its visibility to 0.

It searches requests for the few parts that matter and never parses a whole request, so that a
benchmark measures the client. A delayed answer delays no other connection. `GET /counts` returns
what happened so far. This is one file because the messages, their answers and their connection
share the prepared bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import ssl
import time
from collections import deque
from email.utils import formatdate
from functools import partial
from pathlib import Path

from etl.embedded import lifeline

TENS = 10
VISIBILITY_SECONDS = 30  # SQS's default

# A receipt handle of SQS has about 400 characters, and every delete sends ten of them.
HANDLE_PADDING = "x" * 370

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ACTION = re.compile(rb"\r\nx-amz-target: *AmazonSQS\.(\w+)", re.IGNORECASE)
_LIMIT = re.compile(rb'"MaxNumberOfMessages": *(\d+)')
_WAIT = re.compile(rb'"WaitTimeSeconds": *(\d+)')
_ID = re.compile(rb'"Id": *"([^"]*)"')
_SERIAL = re.compile(rb'"ReceiptHandle": *"stub-(\d+)-')
_VISIBILITY = re.compile(rb'"VisibilityTimeout": *(\d+)')

_WAITING, _IN_FLIGHT, _DELETED = range(3)  # the states of a message


class Messages:
    """N messages made from prepared pieces, and which of them were served and deleted."""

    def __init__(self, bodies: list[str], count: int) -> None:
        sent = f',"Attributes":{{"SentTimestamp":"{time.time_ns() // 1_000_000}"}}}}'.encode()
        tails = [_tail(body) for body in bodies]
        self._tails_alone = [tail + b"}" for tail in tails]
        self._tails_with_attributes = [tail + sent for tail in tails]
        # Random, like the ids of SQS: how ids spread over an index is part of the ledger's cost.
        self._random = os.urandom(16 * count).hex()
        self.count = count
        self.served = 0  # messages, each counted once
        self.deleted = 0  # likewise
        self.released = 0  # entries of changes of the visibility to 0
        self._states = bytearray(count)
        self._again: deque[int] = deque()  # messages that are visible again

    @property
    def visible(self) -> int:
        """Messages that the next receives would bring."""
        return self.count - self.served + len(self._again)

    def take(self, limit: int, *, attributes: bool) -> bytes:
        """Serve the next messages as the inner part of a JSON list."""
        stop = min(self.served + limit, self.count)
        serials = [*range(self.served, stop)]
        self.served = stop
        while self._again and len(serials) < limit:
            serials.append(self._again.popleft())
        for serial in serials:
            self._states[serial] = _IN_FLIGHT
        tails = self._tails_with_attributes if attributes else self._tails_alone
        return b",".join([self._head(serial) + tails[serial % len(tails)] for serial in serials])

    def _head(self, serial: int) -> bytes:
        digits = self._random[32 * serial : 32 * serial + 32]
        message_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        handle = f"stub-{serial}-{HANDLE_PADDING}"
        return f'{{"MessageId":"{message_id}","ReceiptHandle":"{handle}"'.encode()

    def delete(self, serial: int) -> None:
        """Delete a message that is in flight."""
        if self._states[serial] == _IN_FLIGHT:
            self._states[serial] = _DELETED
            self.deleted += 1

    def release(self, serial: int) -> None:
        """Show a message that is in flight again."""
        self.released += 1
        if self._states[serial] == _IN_FLIGHT:
            self._states[serial] = _WAITING
            self._again.append(serial)


def _tail(body: str) -> bytes:
    md5 = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    return f',"MD5OfBody":"{md5}","Body":{json.dumps(body)}'.encode()


class Service:
    """Answers the actions of SQS that a consumer needs."""

    def __init__(
        self, messages: Messages, empty_seconds: float, answer_seconds: float = 0.0
    ) -> None:
        self._messages = messages
        self._empty_seconds = empty_seconds
        self._answer_seconds = answer_seconds
        self._usual_ids = tuple(b"%d" % position for position in range(TENS))
        self._usual_answer = _successful(self._usual_ids)
        # Calls, except that "extended" counts the entries of the calls.
        self._counts = {"receives": 0, "empty": 0, "deletes": 0, "extends": 0, "extended": 0}
        self._began = time.process_time()

    def answer(self, action: bytes, body: bytes) -> bytes | None:
        """Return the answer to a request, or None for an unknown action."""
        if action == b"ReceiveMessage":
            return self._receive(body)
        if action == b"DeleteMessageBatch":
            self._counts["deletes"] += 1
            for serial in _SERIAL.findall(body):
                self._messages.delete(int(serial))
            return self._batch(body)
        if action == b"ChangeMessageVisibilityBatch":
            return self._change_visibility(body)
        return self._attributes() if action == b"GetQueueAttributes" else None

    def pause_seconds(self, action: bytes, body: bytes) -> float:
        """Return how long to delay an answer: on an empty queue, also by a shortened long poll.

        That is not zero, because a client that polls the empty queue would then spend its last
        second in a busy loop.
        """
        if action != b"ReceiveMessage" or self._messages.visible:
            return self._answer_seconds
        poll_seconds = min(float(_number(_WAIT, body, 0)), self._empty_seconds)
        return self._answer_seconds + poll_seconds

    def _receive(self, body: bytes) -> bytes:
        self._counts["receives"] += 1
        limit = _number(_LIMIT, body, 1)
        served = self._messages.take(limit, attributes=b"SentTimestamp" in body)
        if not served:
            self._counts["empty"] += 1
            return b"{}"
        return b'{"Messages":[' + served + b"]}"

    def _change_visibility(self, body: bytes) -> bytes:
        """Extend or release the messages, by the timeout of the first entry, as clients do."""
        serials = _SERIAL.findall(body)
        self._counts["extends"] += 1
        self._counts["extended"] += len(serials)
        if _number(_VISIBILITY, body, VISIBILITY_SECONDS) == 0:
            for serial in serials:
                self._messages.release(int(serial))
        return self._batch(body)

    def _batch(self, body: bytes) -> bytes:
        ids = tuple(_ID.findall(body))
        return self._usual_answer if ids == self._usual_ids else _successful(ids)

    def _attributes(self) -> bytes:
        messages = self._messages
        values = {
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "ApproximateNumberOfMessages": messages.visible,
            "ApproximateNumberOfMessagesNotVisible": (
                messages.count - messages.visible - messages.deleted
            ),
        }
        attributes = {name: str(value) for name, value in values.items()}
        return json.dumps({"Attributes": attributes}).encode()

    def counts(self) -> bytes:
        """Return what happened so far, as JSON."""
        return json.dumps(
            {
                **self._counts,
                "served": self._messages.served,
                "deleted": self._messages.deleted,
                "released": self._messages.released,
                "cpu_seconds": time.process_time() - self._began,
            }
        ).encode()


def _number(pattern: re.Pattern[bytes], body: bytes, default: int) -> int:
    match = pattern.search(body)
    return int(match[1]) if match else default


def _successful(ids: tuple[bytes, ...]) -> bytes:
    entries = b",".join([b'{"Id":"%b"}' % entry_id for entry_id in ids])
    return b'{"Successful":[' + entries + b"]}"


class Connection(asyncio.Protocol):
    """One keep-alive connection; a client sends the next request after the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
        # As many headers as SQS sends, because a client spends time on each.
        self._head = (
            "HTTP/1.1 %d %s\r\n"
            "x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n"
            f"Date: {formatdate(usegmt=True)}\r\n"
            "Content-Type: application/x-amz-json-1.0\r\n"
            "Connection: keep-alive\r\n"
            "Content-Length: %d\r\n\r\n"
        )
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write answers to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the request as soon as it is complete."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _number(_LENGTH, self._buffer[:end], 0)
        if len(self._buffer) < end + 4 + length:
            return
        head, body = self._buffer[:end], self._buffer[end + 4 :]
        self._buffer = b""
        self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET /counts "):
            self._write(200, self._service.counts())
            return
        action = _ACTION.search(head)
        name = action[1] if action else b""
        pause_seconds = self._service.pause_seconds(name, body)
        if pause_seconds:
            asyncio.get_running_loop().call_later(pause_seconds, self._answer, name, body)
        else:
            self._answer(name, body)

    def _answer(self, name: bytes, body: bytes) -> None:
        answer = self._service.answer(name, body)
        if answer is None:
            self._write(400, b'{"__type":"com.amazonaws.sqs#UnsupportedOperation"}')
        else:
            self._write(200, answer)

    def _write(self, status: int, body: bytes) -> None:
        if not self._transport.is_closing():
            reason = "OK" if status == 200 else "Bad Request"
            self._transport.write((self._head % (status, reason, len(body))).encode() + body)


def large(body: str, length: int) -> str:
    """Lengthen an event to *length* characters, with a field that no column reads."""
    room = length - len(body) - len(', "padding": ""')
    return f'{body[:-1]}, "padding": "{"x" * room}"}}' if room > 0 else body


async def serve(options: argparse.Namespace) -> None:
    """Serve until the parent ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    bodies = options.bodies.read_text(encoding="utf-8").split("\n")
    if options.body_bytes:
        # A few are enough, and many large ones would fill the memory.
        bodies = [large(body, options.body_bytes) for body in bodies[:50]]
    service = Service(
        Messages(bodies, options.messages), options.empty_seconds, options.answer_ms / 1000
    )
    tls = _tls_context(options.tls) if options.tls else None
    listener = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, ssl=tls)
    lifeline.when_parent_ends(partial(_end, loop, ended))
    port = listener.sockets[0].getsockname()[1]
    lifeline.report(endpoint_url=f"{'https' if tls else 'http'}://127.0.0.1:{port}")
    await ended.wait()


def _tls_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def _end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    loop.call_soon_threadsafe(ended.set)


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.stub_sqs",
        description="Serve a stub of SQS and print its endpoint_url as one JSON line.",
    )
    parser.add_argument("bodies", type=Path, help="file of message bodies, one per line")
    parser.add_argument("messages", type=int, help="number of messages to serve")
    parser.add_argument(
        "--body-bytes", type=int, default=0, help="lengthen every body to this many bytes"
    )
    parser.add_argument(
        "--empty-seconds", type=float, default=0.2, help="maximum wait of an empty poll in seconds"
    )
    parser.add_argument(
        "--answer-ms", type=float, default=0, help="delay every answer by this many milliseconds"
    )
    parser.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="serve https, with ca.pem and key.pem from here"
    )
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
