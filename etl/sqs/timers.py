"""Time limits of receiving: how long to poll, when a batch closes, when the queue is idle.

The caller passes the time in, in monotonic seconds, so these rules need no clock of their own.

Silence is what SQS has answered, not what a clock has counted: it lasts from an empty answer to the
newest empty answer. While a poll is not answered, during an outage and while the buffer is full,
the queue may hold any number of messages.
"""

from __future__ import annotations

import math

from etl.sqs.limits import Limits

# Empty answers that come at once are answers to short polls, or SQS is at its limit in flight.
# A few may be false, so the next poll follows at once. Then there are pauses, which double.
QUICK_SECONDS = 0.25
FALSE_ANSWERS = 2
FIRST_PAUSE_SECONDS = 0.05
MAX_PAUSE_SECONDS = 1.0

# A poll after the idle time, while a batch is being loaded. It must not delay the end of the run.
LAST_POLL_SECONDS = 1.0

ASK_SECONDS = 1.0  # at least this long between two questions for the queue's own numbers

# The answer to a poll that lasts for this much longer than it asked for may never come.
LATE_SECONDS = 2.0

# SQS delivers nothing while 120,000 messages are in flight. Its counts are approximate.
MAX_IN_FLIGHT = 0.95 * 120_000


class Timers:
    """How long the queue has been silent, how old the batch is, which polls are in progress."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._polls: dict[int, float] = {}  # in progress: when each began
        self._not_silent_at = now  # the newest moment at which there may have been messages
        self._silent_from: float | None = None
        self._silent_until = now
        self._quick_answers = 0  # empty ones, in a row
        self._first_message = math.inf
        self._was_full = False
        self._away_from: float | None = None
        self._undelivered_from: float | None = None
        self._may_ask_at = now

    def poll_began(self, poll: int, now: float) -> None:
        """Note a receive; *poll* is a number that no other receive in progress has."""
        self._polls[poll] = now

    def messages_came(self, poll: int, now: float) -> None:
        """Note that a receive brought messages."""
        self._polls.pop(poll, None)
        self._away_from = None
        self._interrupt_silence(now)
        self._undelivered_from = None
        self._first_message = min(self._first_message, now)

    def nothing_came(self, poll: int, wait_seconds: float, now: float) -> None:
        """Note an empty answer to a receive that asked SQS to wait for *wait_seconds*."""
        began = self._polls.pop(poll, now)
        self._away_from = None
        if wait_seconds < 1 and began < self._not_silent_at:
            return  # SQS may have looked before the newest messages came
        self._quick_answers = self._quick_answers + 1 if now - began < QUICK_SECONDS else 0
        if self._silent_from is None:
            # If the answer took longer than the poll, nothing is known about the time in between.
            self._silent_from = max(self._not_silent_at, began, now - wait_seconds)
        self._silent_until = now

    def queue_was_away(self, poll: int, now: float) -> None:
        """Note that a receive failed."""
        began = self._polls.pop(poll, now)
        if self._away_from is None:
            self._away_from = began
        self._interrupt_silence(now)

    def buffer_was_full(self) -> None:
        """Note that the receivers had to wait for room: their silence is not the queue's."""
        self._was_full = True

    def batch_was_taken(self, now: float) -> None:
        """Note that the buffer is empty again."""
        self._first_message = math.inf
        if self._was_full:
            self._interrupt_silence(now)
            self._was_full = False

    def goes_on(self, visible: int, in_flight: int, now: float) -> bool:
        """Whether an idle run goes on, because the queue says that it has *visible* messages.

        The counts can be out of date, and a message can be visible and not delivered: in a FIFO
        group that another consumer holds. So there is a limit to it, except at the limit in flight,
        where the messages come as soon as the other consumers have handled theirs.
        """
        if visible == 0:
            return False
        if in_flight >= MAX_IN_FLIGHT:
            self._undelivered_from = None
        elif self._undelivered_from is None:
            self._undelivered_from = now
        elif now - self._undelivered_from >= self._limits.undelivered_seconds:
            return False
        self._interrupt_silence(now)
        self._may_ask_at = now + ASK_SECONDS
        return True

    def poll_seconds(self, now: float, seconds_left: float, *, is_awaited: bool) -> float:
        """How long the next poll may last. SQS takes whole seconds; below one, poll briefly.

        :param seconds_left: of the run
        :param is_awaited: whether the next batch is waited for, or else one is being loaded
        """
        limits = self._limits
        bounds = [float(limits.wait_seconds), seconds_left]
        if self._first_message < math.inf and not self.is_quiet:
            bounds.append(limits.quiet_seconds)
            batch_left = self._first_message + limits.batch_seconds - now
            if batch_left > 0:
                bounds.append(batch_left)
        silent_from = now if self._silent_from is None else self._silent_from
        idle_left = silent_from + limits.idle_seconds - now
        bounds.append(idle_left if is_awaited or idle_left > 0 else LAST_POLL_SECONDS)
        return max(0.0, min(bounds))

    def pause_seconds(self, poll_seconds: float) -> float:
        """How long to wait before a poll of *poll_seconds*, since the last answers came at once."""
        doubled = self._quick_answers - FALSE_ANSWERS - 1
        if doubled < 0:
            return 0.0
        # A queue can be silent for days, and 2.0**1024 is too much for a float.
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(doubled, 10), MAX_PAUSE_SECONDS)
        return min(pause, poll_seconds) if poll_seconds > 0 else pause

    def batch_is_old(self, now: float) -> bool:
        """Whether the batch has waited as long as it may for more messages."""
        return now - self._first_message >= self._limits.batch_seconds

    @property
    def is_quiet(self) -> bool:
        """Whether SQS has answered that nothing follows the newest message for now."""
        return self._silence >= self._limits.quiet_seconds

    @property
    def is_idle(self) -> bool:
        """Whether the queue has been silent for the idle time, and no earlier poll is left."""
        if self._was_full or self._silent_from is None:
            return False
        end = max(self._silent_from + self._limits.idle_seconds, self._may_ask_at)
        return self._silent_until >= end and all(began >= end for began in self._polls.values())

    @property
    def polls_in_progress(self) -> int:
        """Receives that have not been answered."""
        return len(self._polls)

    def late_polls(self, now: float) -> int:
        """Receives in progress whose answer may never come."""
        began = now - self._limits.wait_seconds - LATE_SECONDS
        return sum(poll_began < began for poll_began in self._polls.values())

    def away_seconds(self, now: float) -> float:
        """How long SQS has not answered any receive."""
        return 0.0 if self._away_from is None else now - self._away_from

    @property
    def _silence(self) -> float:
        """Seconds; below zero before the first empty answer."""
        return -1.0 if self._silent_from is None else self._silent_until - self._silent_from

    def _interrupt_silence(self, now: float) -> None:
        self._not_silent_at = now
        self._silent_from = None
        self._quick_answers = 0
