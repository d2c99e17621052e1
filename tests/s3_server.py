"""A small S3 that answers GET of objects over real HTTP, with the faults that tests need.

It takes both kinds of addresses: ``/bucket/key``, and ``/key`` at the host ``bucket.s3.test``, also
through itself as a proxy. It checks no signature, but notes which access key signed a request.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

HOST = "s3.test"
BUCKET = "payloads"
KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "Sw0rdfish",
    "AWS_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}

Fault = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class S3Server:
    """The objects by bucket and key, the faults by key, and what was asked for."""

    url: str = ""
    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    buckets: set[str] = field(default_factory=lambda: {BUCKET})
    # What answers in place of an object; the first of the list, and then the object.
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)  # by key, or "" for each of them
    may_list: bool = True  # without this right, an object that does not exist is denied
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, bucket, key
    hosts: set[str] = field(default_factory=set)
    signers: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_progress: int = 0
    most_in_progress: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a job finds it."""
        return {**KEYS, "AWS_ENDPOINT_URL_S3": self.url}

    def put(self, key: str, content: bytes | str, bucket: str = BUCKET) -> str:
        """Store an object; returns the body of a message that points to it."""
        self.objects[bucket, key] = content.encode() if isinstance(content, str) else content
        return pointer(key, bucket)

    def keys(self) -> list[str]:
        """The keys that were asked for, in order, but for the question at the start."""
        return [key for _, _, key in self.asked if key != "etl/no-such-object"]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        parts = urlsplit(handler.path)
        host = (parts.hostname or handler.headers["Host"].partition(":")[0]).lower()
        path = unquote(parts.path).removeprefix("/")
        if host.endswith(f".{HOST}"):
            bucket, key = host.removesuffix(f".{HOST}"), path
        else:
            bucket, _, key = path.partition("/")
        signed = re.search(r"Credential=(\w+)/", handler.headers.get("Authorization", ""))
        with self.lock:
            self.asked.append((handler.command, bucket, key))
            self.hosts.add(host)
            self.signers.add(signed[1] if signed else "")
            queued = self.faults.get(key) or []
            fault = queued.pop(0) if queued else self.always.get(key) or self.always.get("")
        content = self.objects.get((bucket, key), b"")
        if fault:
            fault(handler, content)
        elif bucket not in self.buckets:
            error(404, "NoSuchBucket")(handler, b"")
        elif (bucket, key) in self.objects:
            whole(handler, content)
        elif self.may_list:
            error(404, "NoSuchKey")(handler, b"")
        else:
            error(403, "AccessDenied")(handler, b"")


def pointer(key: str, bucket: str = BUCKET, name: str = "") -> str:
    """The body of a message whose own body is in S3."""
    name = name or "software.amazon.payloadoffloading.PayloadS3Pointer"
    return f'["{name}",{{"s3BucketName":"{bucket}","s3Key":"{key}"}}]'


def whole(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """The object."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def error(status: int, code: str) -> Fault:
    """An error of S3, as XML; its text quotes the key, as that of S3 does."""

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        body = f"<Error><Code>{code}</Code><Message>{handler.path}</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def cut(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Half of the object, and then the end of the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.close_connection = True


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    """Bytes without a length, until nobody reads them: 128 MiB, so that a bug fills no memory."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    with suppress(OSError):
        for _chunk in range(2048):
            handler.wfile.write(b" " * 65536)


def dripping(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """A byte now and then, which keeps a connection alive; after some seconds the rest, wrong."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    with suppress(OSError):
        for _byte in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.05)
        handler.wfile.write(b"x" * (len(content) - 60))


def waiting_for(event: threading.Event) -> Fault:
    """Half of the object at once, and the rest when something has happened."""

    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2])
        event.wait()
        with suppress(OSError):
            handler.wfile.write(content[len(content) // 2 :])

    return answer


@contextmanager
def serve_s3() -> Iterator[S3Server]:
    """Run a server."""
    state = S3Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with state.lock:
                state.in_progress += 1
                state.most_in_progress = max(state.most_in_progress, state.in_progress)
            try:
                state.answer(self)
            finally:
                with state.lock:
                    state.in_progress -= 1

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 (names that the server calls)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that has read enough ends the connection."""

    server = Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
