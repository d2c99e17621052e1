"""How long a run worked, apart from waiting for messages, and what it has in hand.

A run works while a message is being received, loaded, deleted or released. A long poll that waits
for messages is no work, also while some are gathered already.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# SQS answers a receive at once if it has messages. A receive that brought some after longer than
# this has waited for them until then.
MAX_RECEIVE_SECONDS = 0.25


@dataclass(frozen=True)
class Work:
    """How long a consumer worked, and how long it waited for messages."""

    seconds: float = 0.0
    waiting_seconds: float = 0.0


class WorkClock:
    """Adds up the time in which work is in progress. Safe to use from several threads.

    The caller passes the time in, in monotonic seconds, so these rules need no clock of their own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_progress = 0  # pieces of work
        self._seconds = 0.0  # until self._counted_to
        self._counted_to = float("-inf")
        self._began = 0.0  # the work in progress, if there is some

    def begin(self, now: float) -> None:
        """Note that a piece of work begins; others may be in progress."""
        with self._lock:
            if not self._in_progress:
                self._began = max(now, self._counted_to)
            self._in_progress += 1

    def end(self, now: float) -> None:
        """Note the end of a piece of work."""
        with self._lock:
            self._in_progress -= 1
            if not self._in_progress:
                self._count(self._began, now)

    def receive_brought_messages(self, began: float, now: float) -> None:
        """Note a receive that brought messages; only then was it work."""
        began = max(began, now - MAX_RECEIVE_SECONDS)
        with self._lock:
            if self._in_progress:
                self._began = min(self._began, max(began, self._counted_to))
            else:
                self._count(began, now)

    def seconds(self, now: float) -> float:
        """The seconds of work so far."""
        with self._lock:
            running = max(now - self._began, 0.0) if self._in_progress else 0.0
            return self._seconds + running

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the block as work."""
        self.begin(time.monotonic())
        try:
            yield
        finally:
            self.end(time.monotonic())

    def _count(self, began: float, ended: float) -> None:
        began = max(began, self._counted_to)
        if ended > began:
            self._seconds += ended - began
            self._counted_to = ended


class Workload:
    """What a consumer has in hand, and how long it has worked."""

    def __init__(self) -> None:
        self.clock = WorkClock()
        self.taken = 0  # deliveries in the batches that were taken to be loaded
        self.to_delete = 0  # handled messages that are still to be deleted
        self._lock = threading.Lock()  # guards to_delete
        self._is_loading = False
        self._opened_at = self._closed_at = 0.0  # monotonic seconds

    def open(self) -> None:
        """Begin to count the time."""
        self._opened_at = time.monotonic()

    def close(self) -> None:
        """End all of it."""
        self.batch_is_done()
        self._closed_at = time.monotonic()

    def batch_was_taken(self, deliveries: int) -> None:
        """Note that a batch is being loaded from now on; *deliveries* of it are new."""
        self.taken += deliveries
        self._is_loading = True
        self.clock.begin(time.monotonic())

    def batch_is_done(self) -> None:
        """Note that no batch is being loaded, if one was."""
        if self._is_loading:
            self._is_loading = False
            self.clock.end(time.monotonic())

    def was_deleted(self, messages: int) -> None:
        """Note that this many messages have been dealt with."""
        with self._lock:
            self.to_delete -= messages

    @property
    def work(self) -> Work:
        """How long the consumer has worked so far, and how long it has waited for messages."""
        now = self._closed_at or time.monotonic()
        seconds = self.clock.seconds(now)
        return Work(seconds, max(now - self._opened_at - seconds, 0.0))
