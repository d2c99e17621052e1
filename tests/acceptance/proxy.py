"""A TCP proxy that loses chosen requests or replies."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from enum import Enum
from typing import Self


class Fate(Enum):
    """What becomes of what a client sends."""

    PASSED = 0
    LOST = 1  # the server never sees it, nor anything more of this connection
    UNANSWERED = 2  # the server does it, and the connection ends before the reply


class Proxy:
    """Stands before a server on this machine; *judge* sees each piece that a client sends."""

    def __init__(self, port: int, judge: Callable[[bytes], Fate]) -> None:
        self._server_port = port
        self._judge = judge
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            _end(each)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _start(self, act: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=act, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets.append(server)
                cut = threading.Event()
                self._start(self._requests, client, server, cut)
                self._start(self._replies, client, server, cut)

    def _requests(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                fate = self._judge(data)
                if fate is Fate.LOST:
                    return
                if fate is Fate.UNANSWERED:
                    cut.set()
                server.sendall(data)
        _end(server)

    def _replies(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            # The reply that is dropped tells that the server has done what it was asked for.
            while (data := server.recv(65536)) and not cut.is_set():
                client.sendall(data)
        _end(client)
        _end(server)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
