"""Hanging up on a database that takes what is sent and does not answer.

A network that loses packets is noticed by TCP itself: see ``_CONNECTION`` in
etl/postgres/engine.py. What lies between, a connection pooler or a load balancer, or a server whose
storage hangs, can keep a connection alive for ever. libpq then waits for ever, and Python runs no
signal handler meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import psycopg2
import sqlalchemy as sa

log = logging.getLogger(__name__)


class Watchdog:
    """How long the connections of an engine may take for one transaction."""

    def __init__(self, engine: sa.Engine, seconds: float) -> None:
        self._seconds = seconds
        self._connections: WeakSet[Any] = WeakSet()
        sa.event.listen(engine, "connect", lambda made, _record: self._connections.add(made))

    @contextmanager
    def limited(self) -> Iterator[None]:
        """End every connection of the engine when the block lasts too long.

        To who waits it looks as if the server had ended it, so the transaction fails as an outage;
        whether it was committed is as unclear as ever.
        """
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), name="patience", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, done: threading.Event) -> None:
        # Again and again: the pool replaces a connection that its ping finds ended.
        while not done.wait(self._seconds):
            log.warning("no end of a transaction for %g s; hanging up", self._seconds)
            for connection in list(self._connections):
                with (
                    contextlib.suppress(OSError, psycopg2.Error),
                    # A copy of the descriptor is closed, the original stays libpq's own.
                    socket.socket(fileno=os.dup(connection.fileno())) as copy,
                ):
                    copy.shutdown(socket.SHUT_RDWR)
