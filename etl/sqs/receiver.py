"""Receives in the background and gathers messages into batches.

Threads long-poll into one buffer, which is the next batch. While a batch is being loaded, the
buffer fills up to the batch's own limits; then the threads wait. So at most two batches are in
memory, and in flight; :class:`etl.sqs.pace.Pace` says how many rows that is, and
:class:`etl.sqs.receives.Receives` how many threads work.
"""

from __future__ import annotations

import threading
import time

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
from etl.sqs.threads import Threads
from etl.sqs.work import WorkClock


class Receiver:
    """The receiving threads and the batch that they gather."""

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        limits: Limits,
        max_receivers: int,
        stop: Stop,
        quota: Quota,
        calls: CallQueue,
        arrivals: Arrivals | None = None,
        clock: WorkClock | None = None,
    ) -> None:
        """Prepare to receive.

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
        self._threads = Threads("receiver", self._work)
        self._changed = threading.Condition(self._threads.lock)  # guards everything below
        self._pace = Pace(
            limits.max_rows,
            heartbeat.visibility_seconds,
            MAX_HEARTBEAT_THREADS,
            limits.max_receive_count,
            max_seconds=limits.max_seconds,
            grows=limits.grows,
        )
        self._buffer = Buffer(self._pace.rows, limits.max_bytes, limits.waiting)
        self._polling = Polling(queue, limits, stop, self._changed, max_receivers)
        self._has_ended = False
        self.received = 0  # deliveries
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begin to receive."""
        self._stop.request_after(self._limits.max_seconds)
        self._polling.start()
        with self._changed:
            self._put_to_work()

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
                    self._put_to_work()
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
        with self._changed:
            self._threads.wake_all()
        self._threads.join(TICK_SECONDS, lambda: self._stop.leave_rest)
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
            return self._threads.working == 0 or is_over or self._buffer.is_full
        if not self._buffer:
            return False
        is_old = self._polling.timers.batch_is_old(time.monotonic())
        return self._buffer.is_complete or is_old or self._polling.timers.is_quiet

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
        self._put_to_work()
        return messages

    @property
    def _needed(self) -> int:
        """Threads with something to do; at least one, which waits for it."""
        has_work = self._buffer.room or self._calls.are_waiting
        return self._polling.wanted if has_work else 1

    def _put_to_work(self) -> None:
        if self._stop.reason is None:
            self._threads.put_to_work(self._needed)

    def _work(self, number: int) -> None:
        try:
            while self._may_work():
                rows = self._reserve()
                self._calls.do_one()
                if rows:
                    self._receive(rows, number)
        except BaseException as error:  # noqa: BLE001  (raised by the main thread)
            self.error = error
        finally:
            with self._changed:
                self._threads.one_ended()
                self._changed.notify_all()

    def _may_work(self) -> bool:
        """Park this thread while it is not needed; return False at the end."""
        with self._changed:
            while self._stop.reason is None and self.error is None:
                self._put_to_work()
                if self._threads.working <= self._needed:
                    return True
                self._threads.park()
            return False

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
        came, wait_seconds = 0, 0.0
        began = time.monotonic()
        try:
            messages, wait_seconds = self._polling.receive(rows, number)
            if came := len(messages):
                self._clock.receive_brought_messages(began, time.monotonic())
            self._heartbeat.hold(messages)
            if self._arrivals is not None:
                messages = self._arrivals.sift(messages)
        finally:
            with self._changed:
                if not self._has_ended:
                    if came:
                        self._polling.messages_came(number, came, rows, wait_seconds)
                    self._add(messages, rows)

    def _add(self, messages: list[Message], reserved: int) -> None:
        self._buffer.add(messages, reserved)
        self._quota.put_back(reserved - len(messages))
        self.received += len(messages)
        self._pace.messages_came(messages)
        if self._pace.is_careful:
            self._polling.receives.few_receives_are_left()
        self._buffer.max_rows = self._pace.rows
        if self._is_closed():
            self._changed.notify_all()
