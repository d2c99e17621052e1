"""Hangs up on a database that accepts a statement and never answers.

TCP itself notices a network that loses packets: see ``_CONNECTION`` in etl/postgres/engine.py. But
a connection pooler, a load balancer, or a server whose storage hangs can keep a connection alive
indefinitely. libpq then waits indefinitely, and Python runs no signal handler meanwhile.
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
    """Limits how long one transaction on an engine may take."""

    def __init__(self, engine: sa.Engine, seconds: float) -> None:
        self._seconds = seconds
        self._connections: WeakSet[Any] = WeakSet()
        sa.event.listen(
            engine, "connect", lambda connection, _record: self._connections.add(connection)
        )

    @contextmanager
    def limited(self) -> Iterator[None]:
        """End every connection of the engine when the block lasts too long.

        To the waiting thread it looks as if the server had ended the connection. So the transaction
        fails as an outage, and it is unclear whether it was committed.
        """
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), name="watchdog", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, done: threading.Event) -> None:
        # Repeatedly, because the pool replaces a connection that it finds ended.
        while not done.wait(self._seconds):
            log.warning(
                "a transaction has taken longer than database.answer_seconds (%g s); closing its "
                "connection",
                self._seconds,
            )
            for connection in list(self._connections):
                with (
                    contextlib.suppress(OSError, psycopg2.Error),
                    # Closes only a copy of the descriptor: the original belongs to libpq.
                    socket.socket(fileno=os.dup(connection.fileno())) as copy,
                ):
                    copy.shutdown(socket.SHUT_RDWR)
