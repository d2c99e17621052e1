"""A queue that costs next to nothing: SQS's JSON protocol, answered from prepared bytes.

Started by `bench.stub` as ``python -m bench.stub_sqs BODIES N``; ends with its parent. It serves N
messages once and then empty answers, and counts what is deleted. There is no visibility timeout: a
message that was served never comes again.

Requests are searched for the few things that matter and never parsed as a whole, so that a client
is what a benchmark measures. `GET /counts` tells what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import time
from email.utils import formatdate
from functools import partial
from pathlib import Path

from etl.embedded import lifeline

TENS = 10
VISIBILITY_SECONDS = 30  # SQS's default

# A handle of SQS has some 400 characters, and every delete sends ten of them.
HANDLE_PADDING = "x" * 370

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ACTION = re.compile(rb"\r\nx-amz-target: *AmazonSQS\.(\w+)", re.IGNORECASE)
_LIMIT = re.compile(rb'"MaxNumberOfMessages": *(\d+)')
_WAIT = re.compile(rb'"WaitTimeSeconds": *(\d+)')
_ID = re.compile(rb'"Id": *"([^"]*)"')
_SERIAL = re.compile(rb'"ReceiptHandle": *"stub-(\d+)-')


class Messages:
    """N messages made from prepared pieces, and which of them were served and deleted."""

    def __init__(self, bodies: list[str], count: int) -> None:
        sent = f',"Attributes":{{"SentTimestamp":"{time.time_ns() // 1_000_000}"}}}}'.encode()
        plain = [_tail(body) for body in bodies]
        self._tails = {False: [tail + b"}" for tail in plain], True: [t + sent for t in plain]}
        # Random, as SQS's are: how ids spread over an index is part of what a ledger costs.
        self._random = os.urandom(16 * count).hex()
        self.count = count
        self.served = 0
        self.deleted = 0  # messages, each counted once
        self._is_deleted = bytearray(count)

    def take(self, limit: int, *, attributes: bool) -> bytes:
        """Serve the next messages as the inner part of a JSON list."""
        first, self.served = self.served, min(self.served + limit, self.count)
        tails = self._tails[attributes]
        return b",".join(
            [
                self._head(serial) + tails[serial % len(tails)]
                for serial in range(first, self.served)
            ]
        )

    def _head(self, serial: int) -> bytes:
        digits = self._random[32 * serial : 32 * serial + 32]
        message_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
        handle = f"stub-{serial}-{HANDLE_PADDING}"
        return f'{{"MessageId":"{message_id}","ReceiptHandle":"{handle}"'.encode()

    def delete(self, serial: int) -> None:
        """Note that a message was deleted."""
        self.deleted += not self._is_deleted[serial]
        self._is_deleted[serial] = 1


def _tail(body: str) -> bytes:
    md5 = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
    return f',"MD5OfBody":"{md5}","Body":{json.dumps(body)}'.encode()


class Service:
    """What each action answers."""

    def __init__(self, messages: Messages, empty_seconds: float) -> None:
        self._messages = messages
        self._empty_seconds = empty_seconds
        self._usual = tuple(b"%d" % i for i in range(TENS))
        self._usual_answer = _successful(self._usual)
        self._counts = {"receives": 0, "empty": 0, "deletes": 0, "extended": 0}
        self._began = time.process_time()

    def answer(self, action: bytes, body: bytes) -> bytes | None:
        """Answer a request; None for an action that is not served."""
        if action == b"ReceiveMessage":
            return self._receive(body)
        if action == b"DeleteMessageBatch":
            self._counts["deletes"] += 1
            for serial in _SERIAL.findall(body):
                self._messages.delete(int(serial))
            return self._batch(body)
        if action == b"ChangeMessageVisibilityBatch":
            self._counts["extended"] += len(_ID.findall(body))
            return self._batch(body)
        return self._attributes() if action == b"GetQueueAttributes" else None

    def pause_seconds(self, action: bytes, body: bytes) -> float:
        """How long to hold an answer back: a long poll on the empty queue is shortened, not zero.

        A client that polls an empty queue would otherwise spend its last second in a busy loop.
        """
        if action != b"ReceiveMessage" or self._messages.served < self._messages.count:
            return 0.0
        return min(float(_number(_WAIT, body, 0)), self._empty_seconds)

    def _receive(self, body: bytes) -> bytes:
        self._counts["receives"] += 1
        limit = _number(_LIMIT, body, 1)
        served = self._messages.take(limit, attributes=b"SentTimestamp" in body)
        if not served:
            self._counts["empty"] += 1
            return b"{}"
        return b'{"Messages":[' + served + b"]}"

    def _batch(self, body: bytes) -> bytes:
        ids = tuple(_ID.findall(body))
        return self._usual_answer if ids == self._usual else _successful(ids)

    def _attributes(self) -> bytes:
        messages = self._messages
        values = {
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "ApproximateNumberOfMessages": messages.count - messages.served,
            "ApproximateNumberOfMessagesNotVisible": messages.served - messages.deleted,
        }
        return json.dumps({"Attributes": {k: str(v) for k, v in values.items()}}).encode()

    def counts(self) -> bytes:
        """What happened so far, as JSON."""
        return json.dumps(
            {
                **self._counts,
                "served": self._messages.served,
                "deleted": self._messages.deleted,
                "cpu_seconds": time.process_time() - self._began,
            }
        ).encode()


def _number(pattern: re.Pattern[bytes], body: bytes, default: int) -> int:
    found = pattern.search(body)
    return int(found[1]) if found else default


def _successful(ids: tuple[bytes, ...]) -> bytes:
    return b'{"Successful":[' + b",".join(b'{"Id":"%b"}' % each for each in ids) + b"]}"


class Connection(asyncio.Protocol):
    """One keep-alive connection; a client sends the next request after the answer."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._buffer = b""
        # As many headers as SQS sends: a client reads them one by one.
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
        """Keep the way back to the client."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer as soon as the request is complete."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _number(_LENGTH, self._buffer[:end], 0)
        if len(self._buffer) < end + 4 + length:
            return
        head, body, self._buffer = self._buffer[:end], self._buffer[end + 4 :], b""
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
    """Lengthen an event to so many characters by a field that no column reads."""
    room = length - len(body) - len(', "padding": ""')
    return f'{body[:-1]}, "padding": "{"x" * room}"}}' if room > 0 else body


async def serve(options: argparse.Namespace) -> None:
    """Serve until the parent ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    bodies = options.bodies.read_text(encoding="utf-8").split("\n")
    if options.body_bytes:
        # A few are enough, and a pool of large ones would fill the memory.
        bodies = [large(body, options.body_bytes) for body in bodies[:50]]
    service = Service(Messages(bodies, options.messages), options.empty_seconds)
    listener = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)
    lifeline.when_parent_ends(partial(_end, loop, ended))
    port = listener.sockets[0].getsockname()[1]
    lifeline.report(endpoint_url=f"http://127.0.0.1:{port}")
    await ended.wait()


def _end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    loop.call_soon_threadsafe(ended.set)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.stub_sqs", description=__doc__)
    parser.add_argument("bodies", type=Path, help="file of message bodies, one a line")
    parser.add_argument("messages", type=int, help="serve so many messages")
    parser.add_argument("--body-bytes", type=int, default=0, help="lengthen bodies to so much")
    parser.add_argument("--empty-seconds", type=float, default=0.2, help="longest empty poll")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
