"""Receives in the background and gathers messages into batches.

Several threads long-poll into one buffer, which is the next batch. While a batch is being loaded,
the buffer fills up to the batch's own limits; then the threads wait. So at most two batches are in
memory, and in flight; :class:`etl.sqs.pace.Pace` says how many rows that is. Where SQS answers at
once, only the first thread works: the others could not receive meanwhile, and would only compete
with it for the GIL.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from etl.errors import EtlError
from etl.sqs.arrivals import Arrivals
from etl.sqs.buffer import Buffer
from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS, Heartbeat
from etl.sqs.limits import Limits, Stop
from etl.sqs.message import CALL_ENTRIES, Message
from etl.sqs.pace import Pace
from etl.sqs.polling import TICK_SECONDS, Polling
from etl.sqs.queue import Queue
from etl.sqs.quota import Quota
from etl.sqs.work import WorkClock

# A receive takes about 0.7 ms of CPU. When answers arrive faster than this, there is no wait worth
# filling with another receive. From a queue in the same region an answer takes 5 ms or more.
QUICK_SECONDS = 0.003
RECENT = 16  # receives; the quickest of them counts, since any of them may have waited for its turn


class Receiver:
    """The receiving threads and the batch that they gather."""

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        limits: Limits,
        threads: int,
        stop: Stop,
        quota: Quota,
        calls: CallQueue,
        arrivals: Arrivals | None = None,
        clock: WorkClock | None = None,
    ) -> None:
        """Prepare the threads.

        :param calls: other calls to SQS, which the threads make between two receives
        :param arrivals: releases what arrives damaged; without it, every message is taken as it is
        """
        self._arrivals = arrivals
        self._clock = clock or WorkClock()
        self._heartbeat = heartbeat
        self._limits = limits
        self._stop = stop
        self._quota = quota
        self._calls = calls
        self._changed = threading.Condition()  # guards everything below
        self._pace = Pace(
            limits.max_rows,
            heartbeat.visibility_seconds,
            MAX_HEARTBEAT_THREADS,
            limits.max_receive_count,
            max_seconds=limits.max_seconds,
            grows=limits.grows,
        )
        self._buffer = Buffer(self._pace.rows, limits.max_bytes)
        self._polling = Polling(queue, limits, stop, self._changed)
        self._answer_seconds: deque[float] = deque(maxlen=RECENT)
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"receiver-{i}", daemon=True)
            for i in range(threads)
        ]
        self._working = 0
        self._has_ended = False
        self.received = 0  # deliveries
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to receive."""
        self._stop.request_after(self._limits.max_seconds)
        self._polling.start()
        self._working = len(self._threads)
        for thread in self._threads:
            thread.start()

    def take(self) -> list[Message] | None:
        """Wait for the next batch, with distinct message ids; None when receiving has ended.

        A message that came more than once while it waited is in the batch once, with the number of
        its deliveries and its newest receipt handle.
        """
        with self._changed:
            self._pace.loader_is_free(time.monotonic())
        while True:
            with self._changed:
                if self._stop.is_time_up and not self._polling.is_awaited:
                    return None
                self._polling.is_awaited = True
                while not self._is_closed() and not self._is_idle():
                    self._changed.wait(TICK_SECONDS)
                    self._stop_if_due()
                if not self._is_idle():
                    self._polling.is_awaited = False
                    if self._stop.release_rest or not self._buffer:
                        return None
                    return self._empty()
            self._polling.stop_if_nothing_is_visible()

    def end(self) -> list[Message]:
        """Stop receiving, wait for polls in progress, and hand over the messages not yet taken.

        If the rest is to be left, this does not wait, and what such a poll brings is not counted.
        """
        self._stop.request("error")
        for thread in self._threads:
            while thread.is_alive() and not self._stop.leave_rest:
                thread.join(TICK_SECONDS)
        with self._changed:
            self._has_ended = True
            return self._empty()

    @property
    def buffered(self) -> int:
        """Messages gathered and not yet taken."""
        return len(self._buffer)

    @property
    def is_quiet(self) -> bool:
        """Whether SQS has answered that nothing follows the newest message for now."""
        return self._polling.timers.is_quiet

    def raise_error(self) -> None:
        """Raise what ended the receiving, if something did.

        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: SQS was away for longer than the configuration allows
        """
        if self.error is not None:
            if isinstance(self.error, EtlError):
                raise self.error
            raise RuntimeError("a receiving thread failed") from self.error
        self._polling.raise_outage()

    def _is_closed(self) -> bool:
        if self._stop.reason is not None:
            # Whatever the last polls bring belongs to the last batch, unless the time is up.
            is_over = self._stop.release_rest or self._stop.is_time_up
            return self._working == 0 or is_over or self._buffer.is_full
        if not self._buffer:
            return False
        is_old = self._polling.timers.batch_is_old(time.monotonic())
        return self._buffer.is_full or is_old or self._polling.timers.is_quiet

    def _is_idle(self) -> bool:
        if self._stop.reason is not None or self._buffer or not self._polling.timers.is_idle:
            return False
        return self._arrivals is None or not self._arrivals.come_again(time.monotonic())

    def _stop_if_due(self) -> None:
        if self._stop.reason is not None:
            return
        if self.error is not None:
            self._stop.request("queue")
        elif self._quota.left == 0 and self._buffer.reserved == 0:
            self._stop.request("max_messages")

    def _empty(self) -> list[Message]:
        now = time.monotonic()
        messages = self._buffer.empty()
        self._polling.timers.batch_was_taken(now)
        self._pace.batch_was_taken(len(messages), now, self._heartbeat.call_seconds)
        self._buffer.max_rows = self._pace.rows
        self._changed.notify_all()
        return messages

    def _work(self, number: int) -> None:
        try:
            while self._stop.reason is None and self.error is None:
                if number and self._one_receiver_suffices():
                    continue
                rows = self._reserve()
                self._calls.do_one()
                if rows:
                    self._receive(rows, number)
        except BaseException as error:  # noqa: BLE001  (raised by the main thread)
            self.error = error
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _one_receiver_suffices(self) -> bool:
        """Wait a moment if SQS answers at once; return whether it does."""
        with self._changed:
            if self._answer_seconds and min(self._answer_seconds) >= QUICK_SECONDS:
                return False
            self._changed.wait(TICK_SECONDS)
            return True

    def _reserve(self) -> int:
        """Reserve rows in the buffer for the next receive; 0 when there is no room for now.

        Waits a moment for room, unless other calls to SQS are waiting to be made.
        """
        with self._changed:
            rows = min(CALL_ENTRIES, self._buffer.room)
            if rows:
                rows = self._quota.reserve(rows)
            if rows:
                self._buffer.reserve(rows)
                return rows
            if self._buffer.is_full:
                self._polling.timers.buffer_was_full()
            if not self._calls.are_waiting:
                self._changed.wait(TICK_SECONDS)
            return 0

    def _receive(self, rows: int, number: int) -> None:
        messages: list[Message] = []
        has_come = False
        began = time.monotonic()
        try:
            messages = self._polling.receive(rows, number)
            if has_come := bool(messages):
                self._clock.receive_brought_messages(began, time.monotonic())
            self._heartbeat.hold(messages)
            if self._arrivals is not None:
                messages = self._arrivals.sift(messages)
        finally:
            with self._changed:
                if not self._has_ended:
                    self._answer_seconds.append(time.monotonic() - began)
                    if has_come:
                        self._polling.timers.messages_came(number, time.monotonic())
                    self._add(messages, rows)

    def _add(self, messages: list[Message], reserved: int) -> None:
        self._buffer.add(messages, reserved)
        self._quota.put_back(reserved - len(messages))
        self.received += len(messages)
        self._pace.messages_came(messages)
        self._buffer.max_rows = self._pace.rows
        if self._is_closed():
            self._changed.notify_all()
