"""The embedded SQS: Amazon SQS's JSON protocol over HTTP/1.1, in a separate process.

    python -m etl.embedded.sqs_server --foreground --port 9324

It is for development and tests. It does not verify signatures, keeps nothing on disk and never logs
a body. CreateQueue accepts tags and ignores them; `etl.embedded.sqs_model` says what else AWS has
and this server lacks. Protocol: "Making Query API requests using AWS JSON protocol", Amazon SQS
Developer Guide.
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
from functools import partial

from etl.embedded import lifeline
from etl.embedded.sqs_answers import Answer, Receive
from etl.embedded.sqs_http import Connection, Request
from etl.embedded.sqs_model import Redelivery, SqsAccount
from etl.embedded.sqs_refusals import Refusal
from etl.embedded.sqs_service import Service

TARGET_PREFIX = "AmazonSQS."
DAY_NS = 86_400 * 10**9
# By the code of a refusal; for any other code it is 400.
HTTP_STATUS = {"InternalFailure": 500, "OverLimit": 403, "ReceiptHandleIsInvalid": 404}


class SqsServer:
    """Answers requests, and holds the receives that wait for a message."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._receives: dict[Connection, Receive] = {}
        self._closing: set[Connection] = set()
        self._request_ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer *request* now or when its receive ends, then any receives it made possible."""
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
        """Call *act* and write its answer or refusal; return whether there was one to write."""
        try:
            answer = act()
        except Refusal as refusal:
            self._refuse(connection, refusal)
            return True
        except Exception as error:  # noqa: BLE001  (a client must not wait without end)
            # Log the place but not the text of the error, which may quote a body.
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
        fault = "Sender" if status < 500 else "Receiver"
        body = {"__type": f"com.amazonaws.sqs#{refusal.code}", "message": refusal.message}
        headers = {"x-amzn-query-error": f"{refusal.query_code};{fault}"}
        self._write_json(connection, status, body, headers)

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
        """Forget a connection that has ended, so that no message is handed out on it."""
        self._receives.pop(connection, None)
        self._closing.discard(connection)

    def _serve_receives(self) -> None:
        """Answer the receives that can be answered, the one that has waited longest first."""
        for connection, receive in list(self._receives.items()):
            if self._answer(connection, lambda r=receive: self._service.retry(r)):  # type: ignore[misc]
                del self._receives[connection]
                # Later, not within this loop: it may add and remove receives.
                asyncio.get_running_loop().call_soon(connection.resume)
        self._wake_at(min(map(_next_look_ms, self._receives.values()), default=None))

    def _wake_at(self, moment_ms: int | None) -> None:
        if moment_ms == self._timer_ms:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = None
        self._timer_ms = moment_ms
        if moment_ms is not None:
            seconds = max(0, moment_ms - self._service.now_ms()) / 1000
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds + 0.001, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_ms = None
        self._serve_receives()


def _next_look_ms(receive: Receive) -> int:
    change_ms = receive.queue.next_change_ms()
    return receive.deadline_ms if change_ms is None else min(receive.deadline_ms, change_ms)


def clock(days_behind: int = 0) -> Callable[[], int]:
    """Return a clock of milliseconds since the epoch that ignores changes of the system's time."""
    offset = time.time_ns() - time.monotonic_ns() - days_behind * DAY_NS
    return lambda: (time.monotonic_ns() + offset) // 1_000_000


async def serve(options: argparse.Namespace) -> None:
    """Serve until the parent ends, or until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
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
    # The end of the process closes the connections, which also ends every waiting receive.
    listener.close()


def _stop(loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> None:
    # When a signal and the end of the parent coincide, the loop may have ended already.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stopping.set)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m etl.embedded.sqs_server",
        description="Serve an in-memory SQS and print its endpoint_url as one JSON line.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument(
        "--redeliver-fraction",
        type=_fraction,
        default=0.0,
        metavar="F",
        help="deliver this fraction of the deleted messages again (0 to 1)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="choose the messages to deliver again by N"
    )
    parser.add_argument(
        "--days-behind", type=int, default=0, metavar="N", help="set the clock back by N days"
    )
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="run until SIGTERM or Ctrl-C, not until standard input ends",
    )
    asyncio.run(serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
