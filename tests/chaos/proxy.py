"""A TCP proxy that drops, delays or holds chosen requests and replies, and counts each fault.

with Proxy(port, RandomFaults(seed=1, shares={Fault.UNANSWERED: 0.1})) as proxy:
    run(DATABASE_URL=via_proxy(url, proxy.port))
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


class Fault(Enum):
    """The treatment of a request by the proxy; the names are keys of the campaigns' results."""

    NONE = 0
    LOST = 1  # the server sees neither this request nor any later one of the connection
    UNANSWERED = 2  # the server executes it, and the connection ends before the reply
    DELAYED = 3  # it reaches the server after ``delay_seconds``
    HELD = 4  # the connection stays open, but nothing passes any more in either direction
    SILENT = 5  # the server executes it; then nothing passes any more, as for HELD


FaultPolicy = Callable[[bytes], Fault]


def no_faults(request: bytes) -> Fault:
    """Pass everything: for a proxy that only the test cuts or makes a black hole."""
    return Fault.NONE


def is_commit(request: bytes) -> bool:
    """Whether a Postgres client asks to commit."""
    return b"COMMIT\0" in request


class RandomFaults:
    """Draws faults; the same seed and the same sequence of requests give the same faults."""

    def __init__(
        self,
        seed: int,
        shares: Mapping[Fault, float],
        *,
        among: Callable[[bytes], bool] = is_commit,
        max_faults: int | None = None,
    ) -> None:
        """Take the share of requests, 0 to 1, that suffers each fault.

        :param among: selects the requests that can suffer a fault
        :param max_faults: stop after this number of faults
        """
        self._random = random.Random(seed)
        self._faults = [*shares, Fault.NONE]
        self._shares = [*shares.values(), 1 - sum(shares.values())]
        self._among = among
        self._left = max_faults
        self._lock = threading.Lock()

    def __call__(self, request: bytes) -> Fault:
        """Draw the fault for a request."""
        if not self._among(request):
            return Fault.NONE
        with self._lock:
            (fault,) = self._random.choices(self._faults, self._shares)
            if fault is not Fault.NONE and self._left is not None:
                if self._left == 0:
                    return Fault.NONE
                self._left -= 1
            return fault


def via_proxy(url: str, port: int) -> str:
    """The same URL, but through a proxy's port on this machine."""
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{port}"))


class Proxy:
    """Sits in front of a server on this machine; *policy* sees each chunk that a client sends.

    ``fired`` counts the faults by name, and the connections that :meth:`cut` ended as ``cut``.
    """

    def __init__(
        self, port: int, policy: FaultPolicy = no_faults, *, delay_seconds: float = 0.5
    ) -> None:
        self._server_port = port
        self._policy = policy
        self._delay_seconds = delay_seconds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.fired: Counter[str] = Counter()
        self._connections: set[_ProxiedConnection] = set()
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _shut_down(self._listener)
        self._acceptor.join()
        self._listener.close()
        self._open.set()
        for connection in self._live_connections():
            connection.end()
            connection.join()

    def cut(self) -> int:
        """End every connection now; returns how many there were."""
        connections = self._live_connections()
        for connection in connections:
            connection.end()
        with self._lock:
            self.fired["cut"] += len(connections)
        return len(connections)

    @contextlib.contextmanager
    def black_hole(self) -> Iterator[None]:
        """Pass nothing while the block lasts, not even the end of a connection; then resume."""
        self._open.clear()
        with self._lock:
            self.fired["black hole"] += 1
        try:
            yield
        finally:
            self._open.set()

    def choose_fault(self, request: bytes) -> Fault:
        """Ask the policy about a request, count the fault, and wait if it is a delay."""
        fault = self._policy(request)
        if fault is not Fault.NONE:
            with self._lock:
                self.fired[fault.name.lower()] += 1
        if fault is Fault.DELAYED:
            time.sleep(self._delay_seconds)
        return fault

    def wait_until_open(self) -> None:
        """Wait for the end of a black hole."""
        self._open.wait()

    def forget(self, connection: _ProxiedConnection) -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._connections.discard(connection)

    def _live_connections(self) -> list[_ProxiedConnection]:
        with self._lock:
            return list(self._connections)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._server_port))
                except OSError:
                    client.close()  # the server is down, and that is what the client sees
                    continue
                connection = _ProxiedConnection(self, client, server)
                with self._lock:
                    self._connections.add(connection)
                connection.start()


class _ProxiedConnection:
    """A client's connection, and the connection to the server behind it."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._held = threading.Event()
        self._unanswered = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._forward_requests, self._forward_replies)
        ]

    def start(self) -> None:
        """Start to forward in both directions."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait until both directions have ended."""
        for thread in self._threads:
            thread.join()

    def end(self) -> None:
        """End the connection for both sides."""
        _shut_down(self._client)
        _shut_down(self._server)

    def _forward_requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                self._proxy.wait_until_open()
                if self._held.is_set():
                    continue
                fault = self._proxy.choose_fault(data)
                if fault is Fault.LOST:
                    break
                if fault is Fault.UNANSWERED:
                    self._unanswered.set()
                if fault in (Fault.HELD, Fault.SILENT):
                    self._held.set()
                if fault is not Fault.HELD:
                    self._server.sendall(data)
        self._proxy.wait_until_open()
        _shut_down(self._server)

    def _forward_replies(self) -> None:
        with contextlib.suppress(OSError):
            # Wait for the reply before dropping it: it shows that the server has done the work.
            while (data := self._server.recv(65536)) and not self._unanswered.is_set():
                self._proxy.wait_until_open()
                if not self._held.is_set():
                    self._client.sendall(data)
        self._proxy.wait_until_open()
        if self._held.is_set():
            # The client must not notice that the server has closed the connection.
            self._threads[0].join()
        self.end()
        self._threads[0].join()
        self._client.close()
        self._server.close()
        self._proxy.forget(self)


def _shut_down(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
