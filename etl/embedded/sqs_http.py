"""HTTP/1.1 for the embedded SQS: requests in, responses out, over keep-alive connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from etl.embedded.sqs_messages import MAX_BYTES

MAX_HEADER_BYTES = 65_536
# JSON writes some characters as six bytes, and a batch that is too long should get AWS's refusal,
# not this server's.
MAX_REQUEST_BYTES = 64 * MAX_BYTES
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


class Malformed(Exception):  # noqa: N818  (a fault of the client, answered to the client)
    """The bytes are not an HTTP request that this server can read; the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTP_REASONS[status])
        self.status = status


@dataclass(frozen=True)
class Request:
    """One HTTP request, with header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def parse_head(head: str) -> tuple[str, str, dict[str, str]]:
    """Split the head of a request, without its final empty line, into method, path and headers.

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


class RequestHandler(Protocol):
    """The server, as a connection uses it."""

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer *request* on *connection*, now or later."""

    def abandon(self, connection: Connection) -> None:
        """Forget a connection that has ended."""


class Connection(asyncio.Protocol):
    """One client's keep-alive connection; its requests are answered one at a time, in order."""

    def __init__(self, server: RequestHandler) -> None:
        self._server = server
        self._buffer = bytearray()
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._waiting = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport to write answers to."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        """Withdraw a receive that may still be waiting."""
        self._server.abandon(self)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        self._advance()

    def close(self) -> None:
        """End the connection once all answers have been written."""
        self._transport.close()

    def _advance(self) -> None:
        try:
            # No request is handled while a receive waits: answers keep the order of the requests.
            while not self._waiting and not self._transport.is_closing():
                if (request := self._next_request()) is None:
                    break
                self._waiting = True
                self._server.handle(request, self)
            if len(self._buffer) > MAX_REQUEST_BYTES + MAX_HEADER_BYTES:
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
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_HEADER_BYTES:
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
        if len(length) > 10 or int(length) > MAX_REQUEST_BYTES:
            raise Malformed(413)
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Write the answer to the current request."""
        self._waiting = False
        lines = [f"HTTP/1.1 {status} {HTTP_REASONS[status]}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def resume(self) -> None:
        """Continue with the requests that arrived while a receive was waiting."""
        self._advance()
