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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import psycopg2
import sqlalchemy as sa

from etl.config import DatabaseSettings
from etl.postgres.engine import open_engine

log = logging.getLogger(__name__)

# How long a block may go on once nobody wants to wait for it: enough for one that only works.
STOPPED_SECONDS = 2.0
TICK_SECONDS = 0.1  # between two checks whether it is still wanted


@contextmanager
def limited_engine(
    settings: DatabaseSettings, is_stopped: Callable[[], bool] | None = None
) -> Iterator[sa.Engine]:
    """Open an engine for one short task, which a watchdog limits.

    :param is_stopped: as for :meth:`Watchdog.limited`
    """
    engine = open_engine(settings)
    try:
        with Watchdog(engine, settings.answer_seconds).limited(is_stopped):
            yield engine
    finally:
        engine.dispose()


class Watchdog:
    """Limits how long one transaction on an engine may take."""

    def __init__(self, engine: sa.Engine, seconds: float, level: int = logging.WARNING) -> None:
        """Prepare for the engine's transactions.

        :param level: of the log lines that say that a transaction was ended
        """
        self._seconds = seconds
        self._level = level
        self._connections: WeakSet[Any] = WeakSet()
        # Before the first statement on a new connection, which may hang already.
        sa.event.listen(engine, "connect", self._note, insert=True)

    @contextmanager
    def limited(self, is_stopped: Callable[[], bool] | None = None) -> Iterator[None]:
        """End every connection of the engine when the block lasts too long.

        To the waiting thread it looks as if the server had ended the connection. So the transaction
        fails as an outage, and it is unclear whether it was committed.

        :param is_stopped: whether the block is not worth a wait any more
        """
        done = threading.Event()
        watch = threading.Thread(
            target=self._watch, args=(done, is_stopped), name="watchdog", daemon=True
        )
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _note(self, connection: Any, _record: Any) -> None:
        self._connections.add(connection)

    def _watch(self, done: threading.Event, is_stopped: Callable[[], bool] | None) -> None:
        # Repeatedly, because the pool replaces a connection that it finds ended.
        while not self._ends_in_time(done, is_stopped):
            if is_stopped is not None and is_stopped():
                log.log(
                    self._level, "the run is to stop, but the database keeps it waiting; hanging up"
                )
            else:
                log.log(
                    self._level,
                    "a transaction has taken longer than database.answer_seconds (%g s); closing "
                    "its connection",
                    self._seconds,
                )
            for connection in list(self._connections):
                with (
                    contextlib.suppress(OSError, psycopg2.Error),
                    # Closes only a copy of the descriptor: the original belongs to libpq.
                    socket.socket(fileno=os.dup(connection.fileno())) as copy,
                ):
                    copy.shutdown(socket.SHUT_RDWR)

    def _ends_in_time(self, done: threading.Event, is_stopped: Callable[[], bool] | None) -> bool:
        """Wait until the block has ended, or must not last any longer."""
        if is_stopped is None:
            return done.wait(self._seconds)
        ends_at = time.monotonic() + self._seconds
        while not done.wait(TICK_SECONDS):
            now = time.monotonic()
            if is_stopped():
                ends_at = min(ends_at, now + STOPPED_SECONDS)
            if now >= ends_at:
                return False
        return True
