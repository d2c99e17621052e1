"""Time limits of receiving: when a batch closes by its age, and when receiving ends.

The caller passes the time in, in monotonic seconds, so these rules need no clock of their own.
"""

from __future__ import annotations

import math

from etl.sqs.limits import Limits


class Timers:
    """How long the run lasts, how long the queue has been silent, how old the batch is."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._started = now
        self._silent_since = now
        self._first_message = math.inf
        self._was_full = False

    def messages_came(self, now: float) -> None:
        """Note that a receive brought messages."""
        self._silent_since = now
        self._first_message = min(self._first_message, now)

    def queue_was_away(self, now: float) -> None:
        """Note an outage: it is not silence, because the queue may be full."""
        self._silent_since = now

    def messages_will_come(self, now: float) -> None:
        """Note that released messages are about to be visible again: this is not silence."""
        self._silent_since = now

    def buffer_was_full(self) -> None:
        """Note that the receivers had to wait for room: their silence is not the queue's."""
        self._was_full = True

    def batch_was_taken(self, now: float) -> None:
        """Note that the buffer is empty again."""
        self._first_message = math.inf
        if self._was_full:
            self._silent_since = now
            self._was_full = False

    def batch_is_old(self, now: float) -> bool:
        """Whether the batch has waited as long as it may for more messages."""
        return now - self._first_message >= self._limits.batch_seconds

    def reason_to_stop(self, now: float) -> str | None:
        """``max_seconds`` or ``idle`` once that limit is reached."""
        max_seconds = self._limits.max_seconds
        if max_seconds is not None and now - self._started >= max_seconds:
            return "max_seconds"
        if not self._was_full and now - self._silent_since >= self._limits.idle_seconds:
            return "idle"
        return None
