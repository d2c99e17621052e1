"""A server on this machine whose answers are bytes, so that a test can cut them anywhere."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, with header names in small letters."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int  # in the order in which they were made

    @property
    def is_of_botocore(self) -> bool:
        """Whether botocore sent it, and not libcurl."""
        return "amz-sdk-invocation-id" in self.headers

    @property
    def parameters(self) -> dict[str, Any]:
        """What the call asks for."""
        parameters: dict[str, Any] = json.loads(self.body)
        return parameters


@dataclass(frozen=True)
class Reply:
    """What is written, and whether the connection is closed then."""

    data: bytes
    closes: bool = False


@dataclass
class RawServer:
    """What has arrived so far."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    def counts(self) -> tuple[int, int]:
        """How many requests came over libcurl, and how many from botocore."""
        botocore = sum(request.is_of_botocore for request in self.requests)
        return len(self.requests) - botocore, botocore


def reply(body: str | bytes = "{}", status: int = 200, **headers: str) -> bytes:
    """An answer of HTTP/1.1; underscores in header names become hyphens."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Some", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@contextmanager
def serve_raw(
    answer: Callable[[Request], Reply | bytes], tls: ssl.SSLContext | None = None
) -> Iterator[RawServer]:
    """Answer each request by a function, on as many connections as are made."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = RawServer(f"{'https' if tls else 'http'}://127.0.0.1:{port}")
    sockets = [listener]

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.connections += 1
                arguments = (connection, server.connections)
                threads.append(threading.Thread(target=talk, args=arguments, daemon=True))
                threads[-1].start()

    def talk(connection: socket.socket, number: int) -> None:
        sockets.append(connection)
        with connection, contextlib.suppress(OSError, ValueError):
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
                sockets.append(connection)
            with connection, connection.makefile("rb") as stream:
                while request := read_request(stream, number):
                    server.requests.append(request)
                    given = answer(request)
                    given = given if isinstance(given, Reply) else Reply(given)
                    connection.sendall(given.data)
                    if given.closes:
                        connection.shutdown(socket.SHUT_RDWR)
                        break

    threads = [threading.Thread(target=accept, daemon=True)]
    threads[0].start()
    try:
        yield server
    finally:
        for opened in sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
        listener.close()


def read_request(stream: Any, number: int) -> Request | None:
    """Read one request; None at the end of the connection."""
    line = stream.readline().decode().rstrip("\r\n")
    if not line:
        return None
    headers = {}
    while text := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = text.partition(": ")
        headers[name.lower()] = value
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(line, headers, body, number)
