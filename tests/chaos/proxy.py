"""A TCP proxy that loses, delays and swallows chosen requests or replies, and counts what it did.

with Proxy(port, Chance(seed=1, shares={Fate.UNANSWERED: 0.1})) as proxy:
run(DATABASE_URL=detour(url, proxy.port))
proxy.cut()
print(proxy.fired)
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class Fate(Enum):
    """What becomes of what a client sends."""

    PASSED = 0
    LOST = 1  # the server never sees it, nor anything more of this connection
    UNANSWERED = 2  # the server does it, and the connection ends before the reply
    DELAYED = 3  # it reaches the server after ``delay_seconds``
    HELD = 4  # nothing of this connection passes any more, in either direction, and it stays open
    SILENT = 5  # the server does it, then nothing passes any more, and the connection stays open


Judge = Callable[[bytes], Fate]


def passed(request: bytes) -> Fate:
    """Judge nothing: for a proxy that is only cut, or made a black hole, by hand."""
    return Fate.PASSED


def commits(request: bytes) -> bool:
    """Whether a Postgres client asks to commit."""
    return b"COMMIT\0" in request


class Chance:
    """Judges by chance, the same for the same seed and the same requests in the same order."""

    def __init__(
        self,
        seed: int,
        shares: Mapping[Fate, float],
        *,
        among: Callable[[bytes], bool] = commits,
        most: int | None = None,
    ) -> None:
        """Take the share of the requests that each fate befalls.

        :param among: which requests can meet another fate than to pass
        :param most: so many times at most
        """
        self._random = random.Random(seed)
        self._fates = [*shares, Fate.PASSED]
        self._shares = [*shares.values(), 1 - sum(shares.values())]
        self._among = among
        self._left = most
        self._lock = threading.Lock()

    def __call__(self, request: bytes) -> Fate:
        """Draw the request's fate."""
        if not self._among(request):
            return Fate.PASSED
        with self._lock:
            (fate,) = self._random.choices(self._fates, self._shares)
            if fate is not Fate.PASSED and self._left is not None:
                if self._left == 0:
                    return Fate.PASSED
                self._left -= 1
            return fate


def detour(url: str, port: int) -> str:
    """The same URL by way of a proxy's port on this machine."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))


class Proxy:
    """Stands before a server on this machine; *judge* sees each piece that a client sends.

    ``fired`` counts the fates by name, ``cut`` the connections ended by :meth:`cut`.
    """

    def __init__(self, port: int, judge: Judge = passed, *, delay_seconds: float = 0.5) -> None:
        self._server_port = port
        self._judge = judge
        self._delay_seconds = delay_seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.fired: Counter[str] = Counter()
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._listener)
        self._acceptor.join()
        self._listener.close()
        self._open.set()
        for line in self._live():
            line.end()
            line.join()

    def cut(self) -> int:
        """End every connection now; returns how many there were."""
        lines = self._live()
        for line in lines:
            line.end()
        with self._lock:
            self.fired["cut"] += len(lines)
        return len(lines)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Let nothing pass while the block lasts, nor any end be noticed; then all goes on."""
        self._open.clear()
        with self._lock:
            self.fired["black hole"] += 1
        try:
            yield
        finally:
            self._open.set()

    def judge(self, request: bytes) -> Fate:
        """Say what becomes of a request, and count it."""
        fate = self._judge(request)
        if fate is not Fate.PASSED:
            with self._lock:
                self.fired[fate.name.lower()] += 1
        if fate is Fate.DELAYED:
            time.sleep(self._delay_seconds)
        return fate

    def wait_until_open(self) -> None:
        """Wait for the end of a black hole."""
        self._open.wait()

    def forget(self, line: _Line) -> None:
        """Keep no more of a connection that has ended."""
        with self._lock:
            self._lines.discard(line)

    def _live(self) -> list[_Line]:
        with self._lock:
            return list(self._lines)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()  # the server is down, and the client sees just that
                    continue
                line = _Line(self, client, server)
                with self._lock:
                    self._lines.add(line)
                line.start()


class _Line:
    """One client's connection and the one to the server behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._held = threading.Event()
        self._unanswered = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._requests, self._replies)
        ]

    def start(self) -> None:
        """Let it pass what both sides send."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until both directions have ended."""
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """End it for both sides."""
        _end(self._client)
        _end(self._server)

    def _requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                self._proxy.wait_until_open()
                if self._held.is_set():
                    continue
                fate = self._proxy.judge(data)
                if fate is Fate.LOST:
                    break
                if fate is Fate.UNANSWERED:
                    self._unanswered.set()
                if fate in (Fate.HELD, Fate.SILENT):
                    self._held.set()
                if fate is not Fate.HELD:
                    self._server.sendall(data)
        self._proxy.wait_until_open()
        _end(self._server)

    def _replies(self) -> None:
        with contextlib.suppress(OSError):
            # The reply that is dropped tells that the server has done what it was asked for.
            while (data := self._server.recv(65536)) and not self._unanswered.is_set():
                self._proxy.wait_until_open()
                if not self._held.is_set():
                    self._client.sendall(data)
        self._proxy.wait_until_open()
        if self._held.is_set():
            # The client hears nothing of the server's end either.
            self._threads[0].join()
        self.end()
        self._threads[0].join()
        self._client.close()
        self._server.close()
        self._proxy.forget(self)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
