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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from etl.embedded import lifeline
from etl.embedded.sqs_model import MAXIMUM_BYTES, Redelivery, Refusal, SqsAccount
from etl.embedded.sqs_service import QUERY_CODES, Answer, Receive, Service

TARGET_PREFIX = "AmazonSQS."
MAXIMUM_HEADER_BYTES = 65_536
# JSON writes some characters in six bytes, and a batch too long shall get AWS's own refusal.
MAXIMUM_REQUEST_BYTES = 64 * MAXIMUM_BYTES
DAY_NS = 86_400 * 10**9
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

    def __init__(self, server: SqsServer) -> None:
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


class SqsServer:
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


def clock(days_behind: int = 0) -> Callable[[], int]:
    """Return a clock of milliseconds since the epoch that a change of the system's time spares."""
    offset = time.time_ns() - time.monotonic_ns() - days_behind * DAY_NS
    return lambda: (time.monotonic_ns() + offset) // 1_000_000


async def serve(options: argparse.Namespace) -> None:
    """Serve until the parent ends, or until SIGTERM or SIGINT."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    account = SqsAccount(Redelivery(options.redeliver_fraction, options.seed))
    server = SqsServer(Service(account, clock(options.days_behind)))
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
        "--days-behind", type=int, default=0, metavar="D", help="live so many days in the past"
    )
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="run until SIGTERM or Ctrl-C instead of until standard input ends",
    )
    asyncio.run(serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
