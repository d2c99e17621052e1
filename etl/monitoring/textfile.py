"""A file of Prometheus metrics, for the textfile collector of node-exporter."""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.monitoring.metrics import OF_THE_END, Metric, Sample
from etl.text import read_at_most

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

log = logging.getLogger(__name__)

MAX_BYTES = 1_000_000  # of an earlier file
MODE = 0o644  # node-exporter has a user of its own


class Textfile:
    """Writes the file, each time as a whole."""

    def __init__(self, path: Path, labels: tuple[str, ...]) -> None:
        """Write for these values of the common labels.

        :raises ImportError: prometheus-client is not installed
        """
        import prometheus_client.core  # noqa: F401  (now, and not at the end of the run)

        self._path = path
        self._labels = labels
        self._has_failed = False

    def tell(self, samples: Sequence[Sample], *, is_last: bool) -> None:  # noqa: ARG002
        """Write the file; what stops that is said once, and costs the run nothing else.

        What is known only of a run's end stays in the file until this run has ended, and the time
        of the last success stays until the next one.
        """
        known = {sample.metric for sample in samples}
        earlier = (sample for sample in self._read() if sample.metric not in known)
        try:
            _write(self._path, text([*samples, *earlier], self._labels).encode())
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                log.warning("the metrics cannot be written to the textfile: %s", error.strerror)

    def _read(self) -> Iterator[Sample]:
        """Read what an earlier run of this job has left in the file about its end."""
        from prometheus_client.parser import text_string_to_metric_families

        by_name = {metric.name: metric for metric in OF_THE_END}
        found: dict[Metric, float] = {}
        try:
            if not self._path.is_file():
                return  # to open a named pipe would wait for whoever writes into it
            with self._path.open("rb") as file:
                content = read_at_most(file, MAX_BYTES).decode()
            families = list(text_string_to_metric_families(content))
        except (OSError, ValueError):
            return  # there is none, or it is not ours
        for family in families:
            for name, labels, value, *_ in family.samples:
                # Not the queue: a run that was refused for its URL has another name for it.
                is_ours = name in by_name and labels.get("job") == self._labels[0]
                if is_ours and math.isfinite(value):
                    # Once each, or node-exporter would refuse the file, and each later one too.
                    found[by_name[name]] = max(value, found.get(by_name[name], value))
        yield from (Sample(metric, value) for metric, value in found.items())


def text(samples: Sequence[Sample], labels: tuple[str, ...]) -> str:
    """The text of the file.

    :param labels: values of the common labels
    """
    from prometheus_client.core import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(samples, labels))
    return generate_latest(registry).decode()


class _Collector:
    """Gives the samples to a registry.

    The library's own gauges would write other files where PROMETHEUS_MULTIPROC_DIR is set.
    """

    def __init__(self, samples: Sequence[Sample], labels: tuple[str, ...]) -> None:
        self._samples = samples
        self._labels = labels

    def collect(self) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        families: dict[Metric, Any] = {}
        for metric, value, own in self._samples:
            if metric not in families:
                families[metric] = GaugeMetricFamily(
                    metric.name, metric.help, labels=metric.all_labels
                )
            families[metric].add_metric((*self._labels, *own), value)
        yield from families.values()


def _write(path: Path, content: bytes) -> None:
    """Replace the file in one step, so that nobody reads half of it."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE), "wb") as file:
            os.fchmod(file.fileno(), MODE)  # whatever the umask is
            file.write(content)
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
