"""The metrics of a run, as data: alert rules, dashboards and docs/metrics.md go by it.

A label is a name from the configuration or from this package: never a run id, and never a value
from a message. So the series of a job stay as they are from run to run, and may leave the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Unit = Literal["seconds", "deliveries", "messages", "events", "ids", ""]

# Of every metric. The queue is the name of the queue; its URL names the account too.
COMMON_LABELS = ("job", "queue")


@dataclass(frozen=True)
class Metric:
    """One metric. It is a gauge, because a run is short and begins again at 0."""

    name: str
    help: str
    unit: Unit = ""
    labels: tuple[str, ...] = ()  # in addition to COMMON_LABELS
    kind: Literal["gauge"] = "gauge"

    @property
    def all_labels(self) -> tuple[str, ...]:
        """The common labels and its own."""
        return (*COMMON_LABELS, *self.labels)


class Sample(NamedTuple):
    """A value of a metric."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()  # values of the metric's own labels


LAST_SUCCESS = Metric(
    "etl_run_last_success_timestamp_seconds",
    "When the last run with exit code 0 ended, in seconds since 1970 UTC.",
    "seconds",
)
LAST_END = Metric(
    "etl_run_last_end_timestamp_seconds",
    "When the last run ended, however it did, in seconds since 1970 UTC.",
    "seconds",
)
EXIT_CODE = Metric(
    "etl_run_exit_code",
    "Exit code of the last run that ended: 0 done, or ended early by a signal or a limit; 1 "
    "stopped by a problem; 2 wrong usage or configuration; 3 too many messages failed a check.",
)
DURATION = Metric(
    "etl_run_duration_seconds", "How long the run took, or has been going on.", "seconds"
)
DELIVERIES = Metric(
    "etl_run_deliveries",
    "Deliveries by what became of them: loaded, already_handled, quarantined or released. They add "
    "up to what the run received.",
    "deliveries",
    ("outcome",),
)
CONFLICTS = Metric(
    "etl_run_conflicts",
    "Loaded events whose key a row had already, with table.on_conflict: updated, because they "
    "replaced the row, or skipped, because the row stayed.",
    "events",
    ("outcome",),
)
QUARANTINED = Metric(
    "etl_run_quarantined_messages",
    "Messages that the run put into quarantine, by the check that they failed. A message may fail "
    "several.",
    "messages",
    ("column", "check"),
)
NOT_ACKNOWLEDGED = Metric(
    "etl_run_not_acknowledged",
    "Handled messages that could not be deleted from the queue. They are delivered again.",
    "messages",
)
VISIBLE = Metric(
    "etl_queue_visible_messages",
    "Messages that wait in the queue, approximately, when the run last asked.",
    "messages",
)
OLDEST_AGE = Metric(
    "etl_queue_oldest_message_age_seconds",
    "Time since the oldest message that the run received was sent; 0 if nothing waits.",
    "seconds",
)
DEAD_LETTERS = Metric(
    "etl_dead_letter_messages",
    "Messages in the dead-letter queue, approximately, if there is one and it may be asked.",
    "messages",
)
LEDGER_IDS = Metric(
    "etl_ledger_ids",
    "Ids in the ledger, of all jobs of the database, as Postgres estimated at the run's start.",
    "ids",
)
BUILD_INFO = Metric(
    "etl_build_info", "Always 1. The label is the program's version.", "", ("version",)
)

METRICS = (
    LAST_SUCCESS,
    LAST_END,
    EXIT_CODE,
    DURATION,
    DELIVERIES,
    CONFLICTS,
    QUARANTINED,
    NOT_ACKNOWLEDGED,
    VISIBLE,
    OLDEST_AGE,
    DEAD_LETTERS,
    LEDGER_IDS,
    BUILD_INFO,
)
# Known only at the end of a run. Until then, those of the run before are still true.
OF_THE_END = (LAST_SUCCESS, LAST_END, EXIT_CODE)
