"""CloudWatch's embedded metric format (EMF): metrics as members of JSON log lines.

CloudWatch Logs reads them off the lines; the job needs no library, no permission and no call. See
docs/decisions/0029-three-ways-for-metrics.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from etl.logs import visible
from etl.monitoring.metrics import COMMON_LABELS, Sample, Unit

log = logging.getLogger(__name__)

NAMESPACE = "etl"
MAX_DIMENSION_CHARACTERS = 1024
_UNITS: dict[Unit, str] = {"seconds": "Seconds", "": "None"}  # all others are counts


class Emf:
    """Adds the metrics to the log."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        """Write for these values of the common labels."""
        self._labels = labels

    def tell(self, samples: Sequence[Sample], *, is_last: bool) -> None:  # noqa: ARG002
        """Write the lines, whatever log.level is: they are no messages for a person."""
        for document in documents(samples, self._labels, time.time()):
            members = {"members": document}
            record = log.makeRecord(
                log.name, logging.INFO, __file__, 0, "metrics", (), None, None, members
            )
            log.handle(record)


def documents(
    samples: Sequence[Sample], labels: tuple[str, ...], now: float
) -> Iterator[dict[str, Any]]:
    """Make the members of each line: one line for each combination of labels.

    :param labels: values of the common labels
    :param now: seconds since 1970
    """
    lines: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Sample]] = {}
    for sample in samples:
        lines.setdefault((sample.metric.labels, sample.labels), []).append(sample)
    for (names, values), together in lines.items():
        dimensions = dict(zip((*COMMON_LABELS, *names), (*labels, *values), strict=True))
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(dimensions)],
            "Metrics": [
                {"Name": metric.name, "Unit": _UNITS.get(metric.unit, "Count")}
                for metric, _, _ in together
            ],
        }
        yield {
            "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]},
            **{name: _dimension(value) for name, value in dimensions.items()},
            **{metric.name: value for metric, value, _ in together},
        }


def _dimension(text: str) -> str:
    """A value that CloudWatch takes: ASCII, not blank, and not too long."""
    ascii_text = visible(text).encode("ascii", "backslashreplace").decode()
    return ascii_text[:MAX_DIMENSION_CHARACTERS].strip() or "unknown"
