"""The receives of all threads: how long each may wait, and what its answer says about the queue."""

from __future__ import annotations

import logging
import threading
import time

from etl.backoff import Backoff
from etl.errors import QueueRefused, QueueUnavailable
from etl.sqs.limits import Limits, Stop
from etl.sqs.message import Message
from etl.sqs.queue import Queue
from etl.sqs.receives import Receives
from etl.sqs.timers import Timers

log = logging.getLogger(__name__)

TICK_SECONDS = 0.1  # how often a waiting thread checks whether it should stop

# A run whose time is up while SQS has been away for longer than this has not done its work.
MAX_AWAY_SECONDS = 5.0


class Polling:
    """Receives with the waits that the timers allow, and asks the queue before the run ends."""

    def __init__(
        self,
        queue: Queue,
        limits: Limits,
        stop: Stop,
        changed: threading.Condition,
        max_receives: int,
    ) -> None:
        """Prepare to poll.

        :param changed: guards everything here; the caller may hold it
        :param max_receives: in flight at a time
        """
        self.timers = Timers(limits, time.monotonic())
        self.receives = Receives(max_receives)
        self._max_receives = max_receives
        self.is_awaited = False  # whether the main thread waits for a batch, or else loads one
        self._queue = queue
        self._limits = limits
        self._stop = stop
        self._changed = changed
        self._outage: QueueUnavailable | None = None  # the newest

    def start(self) -> None:
        """Count the times from now on."""
        self.timers = Timers(self._limits, time.monotonic())

    def receive(self, rows: int, number: int) -> tuple[list[Message], float]:
        """Receive, waiting out an outage of SQS for as long as the configuration allows.

        Nothing comes after a stop, or from a failed call if enough other receives are in flight.
        Messages that come are the caller's to note.

        :param number: of the thread
        :returns: the messages, and the seconds of waiting for them, without the call's CPU time
        :raises QueueRefused: no such queue, or no permission
        :raises QueueUnavailable: the outage lasts too long
        """
        backoff = Backoff(self._limits.retry_seconds, lambda: self._stop.reason is not None)
        while self._stop.reason is None:
            wait_seconds = self._begin(number)
            began, cpu_began = time.monotonic(), time.thread_time()
            try:
                messages = self._queue.receive(rows, wait_seconds)
            except QueueUnavailable as error:
                with self._changed:
                    self._outage = error
                    self.timers.queue_was_away(number, time.monotonic())
                    self.receives.nothing_came()
                    if self.timers.polls_in_progress >= self.receives.allowed:
                        break
                backoff.pause(error)
                continue
            now, cpu_seconds = time.monotonic(), time.thread_time() - cpu_began
            if not messages:
                with self._changed:
                    self.receives.nothing_came()
                    self.timers.nothing_came(number, wait_seconds, now)
            return messages, now - began - cpu_seconds
        return [], 0.0

    def messages_came(self, number: int, messages: int, rows: int, wait_seconds: float) -> None:
        """Note what a receive of *rows* has brought."""
        self.timers.messages_came(number, time.monotonic())
        self.receives.messages_came(messages, rows, wait_seconds)

    @property
    def wanted(self) -> int:
        """Receives that should be in progress; others take the place of those that hang."""
        late = self.timers.late_polls(time.monotonic())
        return min(self.receives.allowed + late, self._max_receives)

    def _begin(self, number: int) -> int:
        """Pause if the last answers came at once; return how long to poll, in whole seconds."""
        with self._changed:
            seconds = self._seconds()
            pause_ends = time.monotonic() + self.timers.pause_seconds(seconds)
            while self._stop.reason is None and (rest := pause_ends - time.monotonic()) > 0:
                self._changed.wait(min(rest, TICK_SECONDS))
                seconds = self._seconds()
            self.timers.poll_began(number, time.monotonic())
        return int(seconds + 0.001)  # 2.9999999 are 3

    def _seconds(self) -> float:
        return self.timers.poll_seconds(
            time.monotonic(), self._stop.seconds_left, is_awaited=self.is_awaited
        )

    def stop_if_nothing_is_visible(self) -> None:
        """Ask the queue for its own numbers, and end as idle unless they are a reason to go on."""
        visible, in_flight = 0, 0
        try:
            state = self._queue.state()
            visible, in_flight = state.visible, state.in_flight
        except QueueRefused:
            pass  # the right to ask was taken away; the run ends and says what it does not know
        except QueueUnavailable as error:
            log.warning("%s: cannot tell whether the queue is empty", error)
            visible = 1
        with self._changed:
            if not self.timers.is_idle:
                return  # messages came while the queue was asked
            if self.timers.goes_on(visible, in_flight, time.monotonic()):
                log.info("SQS delivers nothing, but the queue may have visible messages: going on")
            else:
                self._stop.request("idle")

    def raise_outage(self) -> None:
        """Raise an outage that lasted until the time was up.

        :raises QueueUnavailable: there was one
        """
        is_away = self.timers.away_seconds(time.monotonic()) > MAX_AWAY_SECONDS
        if self._stop.reason == "max_seconds" and is_away and self._outage is not None:
            raise self._outage
