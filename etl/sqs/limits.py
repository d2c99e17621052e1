"""When receiving ends: the limits of a run, and a request to stop."""

from __future__ import annotations

import enum
import math
import time
from dataclasses import dataclass

OUT_OF_TIME = "max_seconds"
# Reasons to stop that reach all workers of a run at the same time.
FOR_ALL_WORKERS = ("SIGTERM", "SIGINT", "SIGHUP", "parent process ended")


@dataclass(frozen=True)
class Limits:
    """The limits of a batch and of the run, and the waits of a receive."""

    max_rows: int  # in a batch
    max_bytes: int  # of the bodies in a batch
    batch_seconds: float  # age of the first message at which a batch closes
    idle_seconds: float
    max_seconds: float | None  # of the run
    wait_seconds: int  # length of a long poll
    retry_seconds: float  # how long an outage of SQS may last
    quiet_seconds: float = 1.0  # silence after which a batch closes; at 0, one empty answer
    hide_seconds: int = 0  # how long a failed run hides what it releases from its other workers
    receives_to_leave: int = 0  # stop if a message has fewer left after this one
    undelivered_seconds: float = 60.0  # how long an idle run waits for messages that are visible
    max_receive_count: int | None = None  # of the queue
    grows: bool = True  # from small batches to large ones; or else each has max_rows
    waiting: int = 0  # messages at the start: a first batch with all of them closes at once


class Phase(enum.Enum):
    """What a worker is doing, as far as it decides what a further signal ends."""

    WORKING = enum.auto()
    ACKNOWLEDGING = enum.auto()  # waiting for deletes
    RELEASING = enum.auto()


class Stop:
    """Why the run is to stop, and when at the latest.

    The first reason given stays, except that a request to release the rest comes before the end of
    the work (``idle``, ``max_messages``): from then on, it is what ends the run.
    """

    # What ends a release early, in words for the log. Only a program that handles signals has it.
    leave_hint = ""

    def __init__(self, ends_at: float = math.inf) -> None:
        """Let the run last until *ends_at*, in monotonic seconds, or until somebody stops it."""
        self.ends_at = ends_at
        self.leave_rest = False  # do not even release the rest; its visibility timeout does
        self.phase = Phase.WORKING
        # Two variables, since a signal handler may run between any two steps of request().
        self._end: str | None = None
        self._interruption: str | None = None

    def request(self, reason: str, *, release_rest: bool = False) -> None:
        """Ask for the stop. Takes no lock, so a signal handler may call it.

        :param release_rest: release the gathered messages instead of loading them
        """
        if not release_rest:
            self._end = self._end or (OUT_OF_TIME if self.is_time_up else reason)
        elif self._interruption is None:
            out_of_time = self.is_time_up and self._end in (None, OUT_OF_TIME)
            self._interruption = OUT_OF_TIME if out_of_time else reason

    @property
    def release_rest(self) -> bool:
        """Whether to release the gathered messages instead of loading them."""
        return self._interruption is not None

    @property
    def reaches_all_workers(self) -> bool:
        """Whether the other workers of the run stop at the same time, for the same reason."""
        return self.reason in FOR_ALL_WORKERS

    def request_after(self, seconds: float | None) -> None:
        """Ask for the stop in *seconds* (None: never), unless it comes earlier anyway."""
        if seconds is not None:
            self.ends_at = min(self.ends_at, time.monotonic() + seconds)

    @property
    def reason(self) -> str | None:
        """Why the run is to stop; None while it is not."""
        if self.is_time_up:
            self.request(OUT_OF_TIME)  # kept, if it is the first
        return self._interruption or self._end

    @property
    def seconds_left(self) -> float:
        """Seconds until the time is up."""
        return self.ends_at - time.monotonic()

    @property
    def is_time_up(self) -> bool:
        """Whether no batch may begin any more, and no outage is waited out."""
        return self.seconds_left <= 0

    @property
    def ends_retries(self) -> bool:
        """Whether an outage is not waited out any more."""
        return self.release_rest or self.is_time_up
