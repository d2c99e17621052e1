"""What is known of a run, now or at its end, and the samples that say so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from etl.monitoring import metrics
from etl.monitoring.metrics import Metric, Sample
from etl.postgres.findings import Check
from etl.runs import Counts
from etl.version import __version__

OF_CONFLICTS = ("updated", "skipped")
OUTCOMES = ("loaded", "already_handled", "quarantined", "released")


@dataclass(frozen=True)
class End:
    """How a run ended, and when, in seconds since 1970."""

    exit_code: int
    at: float


@dataclass(frozen=True)
class Figures:
    """The figures of a run. What is None is not known, and has no sample."""

    seconds: float = 0.0
    counts: Counts = field(default_factory=Counts)
    checks: Mapping[Check, int] = field(default_factory=dict)  # of quarantined messages
    not_acknowledged: int = 0
    visible: int | None = None
    oldest_age_seconds: float | None = None
    dead_letters: int | None = None
    ledger_ids: int | None = None
    end: End | None = None  # None while the run goes on

    def samples(self) -> list[Sample]:
        """The samples, in the order of the metrics."""
        end, counts = self.end, asdict(self.counts)
        single: dict[Metric, float | None] = {
            metrics.LAST_SUCCESS: end.at if end and end.exit_code == 0 else None,
            metrics.LAST_END: end.at if end else None,
            metrics.EXIT_CODE: end.exit_code if end else None,
            metrics.DURATION: self.seconds,
            metrics.NOT_ACKNOWLEDGED: self.not_acknowledged,
            metrics.VISIBLE: self.visible,
            metrics.OLDEST_AGE: self.oldest_age_seconds,
            metrics.DEAD_LETTERS: self.dead_letters,
            metrics.LEDGER_IDS: self.ledger_ids,
        }
        return [
            *(Sample(metric, value) for metric, value in single.items() if value is not None),
            *(Sample(metrics.DELIVERIES, counts[name], (name,)) for name in OUTCOMES),
            *(Sample(metrics.CONFLICTS, counts[name], (name,)) for name in OF_CONFLICTS),
            *(Sample(metrics.QUARANTINED, count, check) for check, count in self.checks.items()),
            Sample(metrics.BUILD_INFO, 1, (__version__,)),
        ]


def oldest_age(
    visible: int | None, unfinished: int, oldest_sent_ms: float, now: float
) -> float | None:
    """How long the oldest message has waited, in seconds; None if that is not known.

    SQS does not tell the age of the oldest message that waits. That of the oldest one that the run
    received is the nearest; it is too high if that one has been handled since.

    :param visible: messages that wait in the queue; None if that is not known
    :param unfinished: deliveries that the run holds or has released
    :param oldest_sent_ms: when the oldest message was sent, in milliseconds since 1970; infinite
        if none was received
    :param now: seconds since 1970
    """
    if visible == 0 and not unfinished:
        return 0.0
    return None if math.isinf(oldest_sent_ms) else max(now - oldest_sent_ms / 1000, 0.0)
