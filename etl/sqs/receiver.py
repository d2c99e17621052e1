"""Receives in the background and gathers messages into batches, bounded in rows and bytes.

Several threads long-poll into one buffer, which is the next batch. While a batch is loaded the
buffer fills up to the batch's own limits and then the threads wait, so that no more than two
batches are ever in memory, and in flight. Where SQS answers at once only the first thread works:
the others could not receive meanwhile, and would take the interpreter from it.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque

from etl.backoff import Backoff
from etl.errors import EtlError, QueueUnavailable
from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Quota, Stop
from etl.sqs.queue import TENS, Message, Queue

# A receive takes some 0.7 ms of CPU. Whoever gets an answer in less than this has no wait worth
# filling with another one; from a queue within the same region it takes 5 ms and more.
QUICK_SECONDS = 0.003
RECENT = 16  # receives; the quickest of them counts, since any of them may have waited for its turn

TICK_SECONDS = 0.1  # how often a waiting thread looks whether it was asked to stop


class Receiver:
    """The receiving threads and the batch that they gather."""

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        limits: Limits,
        threads: int,
        stop: Stop,
        budget: Quota,
        errands: CallQueue | None = None,
    ) -> None:
        """Prepare the threads.

        :param errands: calls that the threads make between two receives
        """
        self._queue = queue
        self._heartbeat = heartbeat
        self._limits = limits
        self._stop = stop
        self._budget = budget
        self._errands = errands
        self._changed = threading.Condition()
        self._buffer: dict[str, Message] = {}
        self._buffer_bytes = 0
        self._reserved = 0  # rows that receives under way may yet bring
        self._first_at = math.inf  # monotonic seconds: first message in the buffer
        self._was_full = False
        self._quiet_since = self._started = time.monotonic()
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"receiver-{i}", daemon=True)
            for i in range(threads)
        ]
        self._took: deque[float] = deque(maxlen=RECENT)  # seconds
        self._working = 0
        self.received = 0  # deliveries
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to receive."""
        self._quiet_since = self._started = time.monotonic()
        self._working = len(self._threads)
        for thread in self._threads:
            thread.start()

    def take(self) -> list[Message] | None:
        """Wait for the next batch, with distinct message ids; None when receiving has ended.

        A message that came more than once while it waited stands in the batch once, with the
        number of its deliveries and its newest receipt handle.
        """
        with self._changed:
            while not self._closed():
                self._changed.wait(TICK_SECONDS)
                self._look_at_the_clock()
            if self._stop.give_back or not self._buffer:
                return None
            batch = self._empty()
            if self._was_full:
                # The threads had to wait, so the silence since then says nothing of the queue.
                self._quiet_since, self._was_full = time.monotonic(), False
            return batch

    def end(self, reason: str = "error") -> list[Message]:
        """Stop receiving, wait for the polls under way, and hand over what was not taken."""
        self._stop.request(reason)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        with self._changed:
            return self._empty()

    @property
    def buffered(self) -> int:
        """Messages gathered and not taken yet."""
        return len(self._buffer)

    def _closed(self) -> bool:
        if self._stop.reason is not None:
            # Whatever the last polls bring belongs to the last batch.
            return self._working == 0 or self._stop.give_back or self._is_full()
        age = time.monotonic() - self._first_at
        return self._is_full() or age >= self._limits.seconds

    def _is_full(self) -> bool:
        return len(self._buffer) >= self._limits.rows or self._buffer_bytes >= self._limits.bytes

    def _look_at_the_clock(self) -> None:
        if self._stop.reason is not None:
            return
        now, limits = time.monotonic(), self._limits
        if self.error is not None:
            self._stop.request("queue")
        elif self._budget.left == 0 and self._reserved == 0:
            self._stop.request("max_messages")
        elif limits.max_seconds is not None and now - self._started >= limits.max_seconds:
            self._stop.request("max_seconds")
        elif now - self._quiet_since >= limits.idle_seconds and not self._was_full:
            self._stop.request("idle")

    def _empty(self) -> list[Message]:
        batch = list(self._buffer.values())
        self._buffer, self._buffer_bytes, self._first_at = {}, 0, math.inf
        self._changed.notify_all()
        return batch

    def _work(self, number: int) -> None:
        try:
            while self._stop.reason is None and self.error is None:
                if number and self._rests():
                    continue
                room = self._reserve()
                if self._errands is not None:
                    self._errands.do_one()
                if room:
                    self._receive(room)
        except BaseException as error:  # noqa: BLE001  (handed to the main thread, which raises it)
            self.error = error
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _rests(self) -> bool:
        """Wait a moment where one receiver suffices; returns whether it does."""
        with self._changed:
            if self._took and min(self._took) >= QUICK_SECONDS:
                return False
            self._changed.wait(TICK_SECONDS)
            return True

    def _reserve(self) -> int:
        """Take room in the buffer for the next receive; 0 when there is none for now.

        Waits a moment for it, unless there are errands to do meanwhile.
        """
        with self._changed:
            room = min(TENS, self._limits.rows - len(self._buffer) - self._reserved)
            if room > 0 and self._buffer_bytes < self._limits.bytes:
                room = self._budget.reserve(room)
                if room > 0:
                    self._reserved += room
                    return room
            self._was_full = self._was_full or self._is_full()
            if self._errands is None or not self._errands.are_waiting:
                self._changed.wait(TICK_SECONDS)
            return 0

    def _receive(self, room: int) -> None:
        messages: list[Message] = []
        try:
            messages = self._patiently(room)
        finally:
            self._add(messages, room)

    def _add(self, messages: list[Message], room: int) -> None:
        with self._changed:
            self._reserved -= room
            self._budget.give_back(room - len(messages))
            if not messages:
                return
            now = time.monotonic()
            self.received += len(messages)
            self._quiet_since = now
            self._first_at = min(self._first_at, now)
            for message in messages:
                earlier = self._buffer.get(message.message_id)
                if earlier is not None:
                    message.deliveries += earlier.deliveries
                    self._buffer_bytes -= _bytes(earlier)
                self._buffer[message.message_id] = message
                self._buffer_bytes += _bytes(message)
            if self._is_full():
                self._changed.notify_all()

    def _patiently(self, room: int) -> list[Message]:
        """Receive; wait out an outage of SQS for as long as the configuration allows."""
        backoff = Backoff(self._limits.retry_seconds, lambda: self._stop.reason is not None)
        while self._stop.reason is None:
            try:
                began = time.monotonic()
                messages = self._queue.receive(room, self._limits.wait_seconds)
                with self._changed:
                    self._took.append(time.monotonic() - began)
                self._heartbeat.hold(messages)
                return messages
            except QueueUnavailable as error:
                backoff.pause(error)
            # An outage is not silence: the queue may be full.
            self._quiet_since = time.monotonic()
        return []

    def raise_error(self) -> None:
        """Raise what ended the receiving, if something did.

        :raises QueueRefused: no such queue, no permission
        :raises QueueUnavailable: SQS was away for longer than the configuration allows
        """
        if self.error is not None:
            if isinstance(self.error, EtlError):
                raise self.error
            raise RuntimeError("a receiving thread failed") from self.error


def _bytes(message: Message) -> int:
    body = message.body
    return len(body) if body.isascii() else len(body.encode("utf-8", "surrogatepass"))
