"""How many rows the next batch may have: as many as the load needs, and no more.

What is held when the process is killed comes again after the visibility timeout, and has used up
one of the receives that the queue allows. So the first batch is small, and the batches grow while
they are loaded. Larger batches cost less for each row, so they grow until the fixed cost of a
batch hardly counts. A process never holds much more than it has already loaded: a crash loop thus
moves on, instead of receiving the same messages again and again.

The caller passes the time in, in monotonic seconds, so these rules need no clock of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from etl.sqs.message import CALL_ENTRIES, Message

# A batch takes this long, or longer if its fixed cost, whatever its rows, would be a larger share.
# That is mostly 20 to 50 ms, but more if the database is far away or the machine is busy.
BATCH_SECONDS = 2.0
FIXED_SHARE = 0.03
# A batch is gathered while the one before it is loaded. In this share of the visibility timeout the
# two need no extension.
VISIBILITY_SHARE = 1 / 5
# A run with max_seconds finishes the batch that is in progress then, which may take this share of
# it. Until a load has been timed, a batch may have this many rows for each second of that
# share.
RUN_SHARE = 1 / 10
SLOW_ROWS = 100
NEWER_WEIGHT = 1.1  # of a load, compared with the load before it

# Messages held for each second of the visibility timeout, by both batches together. An extension
# costs 0.1 to 0.2 ms of CPU a message, twice in each visibility timeout.
HELD_PER_SECOND = 700
# When every message is due at once, the calls may take this share of the visibility timeout.
EXTENDING_SHARE = 1 / 4

MIN_ROWS = 100  # a load that takes long is not made longer by the cost of ever smaller batches
MAX_GROWTH = 2  # from one batch to the next
# The loader that waited for this share of the time had to wait for the receivers, not they for it.
WAIT_SHARE = 0.1


class Caution(NamedTuple):
    """How many rows a batch may have, by the receives that its messages have left."""

    first_rows: int  # as long as little has been loaded
    share: float  # of the rows that this process has loaded
    max_rows: float


FRESH = Caution(1_000, 1, float("inf"))
# Somebody held the message and did not handle it. A process that crashes does so soon.
REDELIVERED = Caution(500, 1 / 4, float("inf"))
# One receive after this one, and then none: the next crash would move it to the dead-letter queue.
NEARLY_LAST = Caution(200, 1 / 16, 4_000)
LAST = Caution(20, 1 / 64, 1_000)
FEW_LEFT = 2  # receives; with fewer a message is nearly lost


class LoadTimes:
    """How long loads take: a fixed part and a part for each row, by least squares.

    The first load does not count, because it opens the connection.
    """

    def __init__(self) -> None:
        self.fixed_seconds = 0.0  # as last known: loads of equal rows cannot tell it
        self._is_first = True
        self._is_known = False
        self._loads = self._rows = self._seconds = 0.0  # sums, by weight
        self._rows_squared = self._products = 0.0

    def add(self, rows: int, seconds: float) -> None:
        """Note a load."""
        if self._is_first:
            self._is_first = False
            return
        self._loads = self._loads / NEWER_WEIGHT + 1
        self._rows = self._rows / NEWER_WEIGHT + rows
        self._seconds = self._seconds / NEWER_WEIGHT + seconds
        self._rows_squared = self._rows_squared / NEWER_WEIGHT + rows * rows
        self._products = self._products / NEWER_WEIGHT + rows * seconds
        spread = self._loads * self._rows_squared - self._rows**2
        if spread > self._rows**2 / 100:  # the rows differ by a tenth or more
            fixed = self._seconds * self._rows_squared - self._rows * self._products
            self.fixed_seconds = max(fixed / spread, 0.0)
            self._is_known = True

    @property
    def need_another_size(self) -> bool:
        """Whether the fixed part is not known, because all loads had about the same rows."""
        return self._loads > 3 and not self._is_known


class Pace:
    """The number of rows of the batch that is being gathered."""

    def __init__(
        self,
        max_rows: int,
        visibility_seconds: float,
        heartbeat_threads: int,
        max_receive_count: int | None = None,
        *,
        max_seconds: float | None = None,
        grows: bool = True,
    ) -> None:
        """Start with a small batch.

        :param max_rows: ``batch.rows``
        :param heartbeat_threads: extensions that can be in progress at once
        :param max_receive_count: of the queue; None if it has no dead-letter queue
        :param max_seconds: how long the run may last
        :param grows: whether the batches grow; or else each has *max_rows*
        """
        self._max_rows = max_rows
        self._visibility_seconds = visibility_seconds
        self._heartbeat_threads = heartbeat_threads
        self._max_receive_count = max_receive_count
        self._grows = grows
        self._max_seconds = visibility_seconds * VISIBILITY_SHARE
        self._by_speed = float(FRESH.first_rows)
        if max_seconds is not None:
            self._max_seconds = min(self._max_seconds, max_seconds * RUN_SHARE)
            self._by_speed = min(self._by_speed, max_seconds * RUN_SHARE * SLOW_ROWS)
        self._seconds = min(BATCH_SECONDS, self._max_seconds)
        self._load_times = LoadTimes()
        self._loaded = 0  # rows of this process
        self._loading = 0  # rows of the batch that was taken last
        self._taken_at = 0.0
        self._free_at = 0.0  # when that batch was loaded
        self._caution = FRESH
        self.rows = self._next_rows(call_seconds=0)

    def messages_came(self, messages: Iterable[Message]) -> None:
        """Close the batch earlier if it holds messages that have few receives left."""
        # The more often a message was received, the fewer receives it has left.
        receives = max((message.receive_count for message in messages), default=0)
        caution = self._caution_for(receives)
        if caution < self._caution and self._grows:
            self._caution = caution
            self.rows = min(self.rows, self._cautious_rows())

    @property
    def is_careful(self) -> bool:
        """Whether the batch holds messages that have few receives left."""
        return self._caution <= NEARLY_LAST

    def loader_is_free(self, now: float) -> None:
        """Note that the batch taken last is loaded, and the next one is wanted."""
        self._loaded += self._loading
        self._free_at = now
        if not self._loading:
            return
        seconds = now - self._taken_at
        self._load_times.add(self._loading, seconds)
        enough = max(BATCH_SECONDS, self._load_times.fixed_seconds / FIXED_SHARE)
        self._seconds = min(enough, self._max_seconds)
        if seconds > self._seconds:
            self._by_speed = min(self._by_speed, self._loading / seconds * self._seconds)

    def batch_was_taken(self, rows: int, now: float, call_seconds: float) -> None:
        """Set the rows of the next batch.

        :param rows: of the batch that was taken
        :param call_seconds: what a call to SQS with ten messages takes
        """
        if rows >= self.rows:  # else it closed for another reason, and tells nothing of the speed
            self._grow_to(rows, now)
        self._taken_at = now
        self._loading = rows
        self._caution = FRESH
        self.rows = self._next_rows(call_seconds)

    def _grow_to(self, rows: int, now: float) -> None:
        """Let the next batch have more rows, if both loading and receiving are quick enough."""
        fitting = float(rows * MAX_GROWTH)
        if self._loading:
            load_seconds = self._free_at - self._taken_at
            fitting = min(fitting, self._loading * self._seconds / max(load_seconds, 1e-6))
            seconds = now - self._taken_at
            if now - self._free_at > seconds * WAIT_SHARE:
                by_receiving = rows * self._seconds / seconds
                fitting = min(fitting, by_receiving)
                if seconds > self._seconds:
                    self._by_speed = min(self._by_speed, by_receiving)
        self._by_speed = max(self._by_speed, fitting)

    def _next_rows(self, call_seconds: float) -> int:
        if not self._grows:
            return self._max_rows
        held = HELD_PER_SECOND * self._visibility_seconds
        if call_seconds:
            calls = self._heartbeat_threads * self._visibility_seconds * EXTENDING_SHARE
            held = min(held, calls / call_seconds * CALL_ENTRIES)
        self._by_speed = max(self._by_speed, MIN_ROWS)
        rows = int(min(self._by_speed, held / 2, self._cautious_rows()))
        return max(1, rows // 2 if self._load_times.need_another_size else rows)

    def _cautious_rows(self) -> int:
        caution = self._caution
        rows = min(max(caution.first_rows, self._loaded * caution.share), caution.max_rows)
        return int(min(rows, self._max_rows))

    def _caution_for(self, receives: int) -> Caution:
        left = FEW_LEFT  # receives after this one
        if receives and self._max_receive_count is not None:
            left = self._max_receive_count - receives
        if left < FEW_LEFT:
            return LAST if left <= 0 else NEARLY_LAST
        return REDELIVERED if receives > 1 else FRESH
