"""How fast a run is now, and when it will have emptied the queue: rules without a clock."""

from __future__ import annotations

from collections import deque

from etl.workers.snapshot import Snapshot

WINDOW_SECONDS = 10.0
# With less than this there is no rate to go by.
MIN_SECONDS = 2.0


class Rate:
    """Messages a second in the last seconds, counted when their outcome is committed.

    Rows are committed a batch at a time. While messages are in hand, the rate is therefore taken
    over two batches at least, however long they take.
    """

    def __init__(self, now: float) -> None:
        """Begin at *now*, in monotonic seconds."""
        # When the number of handled messages changed, and to what.
        self._commits = deque([(now, 0)])

    def note(self, snapshot: Snapshot, now: float) -> None:
        """Note how far the run has come."""
        if snapshot.handled > self._commits[-1][1]:
            self._commits.append((now, snapshot.handled))
        least = 3 if snapshot.held else 2
        while len(self._commits) >= least and self._commits[1][0] <= now - WINDOW_SECONDS:
            self._commits.popleft()
        if not snapshot.held and self._commits[-1][0] <= now - WINDOW_SECONDS:
            self._commits = deque([(now, snapshot.handled)])

    def per_second(self, now: float) -> float | None:
        """Messages a second; None while that cannot be told."""
        began, before = self._commits[0]
        if len(self._commits) == 1 or now - began < MIN_SECONDS:
            return None
        return (self._commits[-1][1] - before) / (now - began)


def seconds_left(now: Snapshot, backlog: int | None, rate: float | None) -> float | None:
    """When the run will have handled what is there now; None if that cannot be known.

    Other runs on the same queue, and messages that are still sent, are not known here.

    :param backlog: messages that are visible in the queue; None if SQS has not said
    """
    if not rate or backlog is None:
        return None
    waiting = min(float(backlog), now.quota_left)
    if not waiting + now.held:
        return None
    return max(min((waiting + now.held) / rate, now.seconds_left), 0.0)


def duration(seconds: float) -> str:
    """A time in words, about as exact as an estimate can be."""
    if seconds < 90:
        return f"about {max(round(seconds, -1), 10):.0f} s" if seconds > 5 else "a few seconds"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.0f} h"
