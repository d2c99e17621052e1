"""How far a run has come, and what displays it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields, replace
from typing import Self

from etl.postgres.findings import Check
from etl.sqs.queue import Queue


@dataclass(frozen=True)
class Snapshot:
    """How far a run has come. Deliveries, like the counts of a run, unless it says otherwise."""

    received: int = 0
    loaded: int = 0
    already_handled: int = 0
    quarantined: int = 0
    released: int = 0
    loading: int = 0  # in the batch in hand
    to_delete: int = 0  # messages that are handled and not yet deleted
    work_seconds: float = 0.0
    # What is known of the end.
    quota_left: float = math.inf  # messages that the run may still receive
    seconds_left: float = math.inf
    # A visibility timeout that would not be too short; 0 if the queue's own is long enough.
    needed_visibility: int = 0
    # For the metrics.
    updated: int = 0  # of the loaded, as in etl/runs.py
    skipped: int = 0
    not_acknowledged: int = 0  # messages
    oldest_sent_ms: float = math.inf  # of the messages received; milliseconds since 1970
    checks: Counter[Check] = field(default_factory=Counter)  # that quarantined messages failed

    @property
    def handled(self) -> int:
        """Deliveries whose outcome is committed."""
        return self.loaded + self.already_handled + self.quarantined

    @property
    def held(self) -> int:
        """Deliveries that are being loaded, or gathered for the next batch."""
        return max(self.received - self.handled - self.released, 0)

    @property
    def being_loaded(self) -> int:
        """Deliveries in the batch in hand, unless it is being released with the rest."""
        return min(max(self.loading, 0), self.held)

    @property
    def gathered(self) -> int:
        """Deliveries that wait for the next batch."""
        return self.held - self.being_loaded

    def ended(self, counts: Mapping[str, int] | None) -> Self:
        """What remains of a worker that has ended.

        :param counts: its final counts by name; None if it died, and what it held is nobody's now
        """
        # A run counts more than is shown while it goes on.
        shown = {each.name for each in fields(self)}
        final = {"received": self.handled + self.released}
        if counts is not None:
            final = {name: count for name, count in counts.items() if name in shown}
        nothing = {"loading": 0, "to_delete": 0}
        return replace(self, **{**final, **nothing})  # type: ignore[arg-type]

    def plus(self, other: Snapshot) -> Snapshot:
        """Two workers together. How long they worked is not a sum, and is left out."""
        total = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(self)
            if each.type == "int"
        }
        total["needed_visibility"] = max(self.needed_visibility, other.needed_visibility)
        return Snapshot(
            **total,
            quota_left=min(self.quota_left, other.quota_left),
            seconds_left=min(self.seconds_left, other.seconds_left),
            oldest_sent_ms=min(self.oldest_sent_ms, other.oldest_sent_ms),
            checks=self.checks + other.checks,
        )


# Spans a run, given a function that returns the current snapshot, and the queue.
ProgressDisplay = Callable[[Callable[[], Snapshot], Queue], AbstractContextManager[None]]
