"""OpenTelemetry: sends the metrics to a collector, by OTLP over HTTP.

The standard variables OTEL_EXPORTER_OTLP_* and OTEL_RESOURCE_ATTRIBUTES apply. What is sent is made
here and not by the SDK's meters, which would need a thread and a flush of their own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from etl.monitoring import metrics
from etl.monitoring.metrics import COMMON_LABELS, Metric, Sample, Unit
from etl.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricsData
    from requests import Response

log = logging.getLogger(__name__)

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
METRICS_ENDPOINT = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
METRICS_PATH = "v1/metrics"
THREAD = "otlp"  # the name of the threads that send

TRY_SECONDS = 1.0  # that the library tries to send, with its pauses
# That the end of a run waits for it. A name that nobody resolves, or an answer that comes byte by
# byte, would take the library longer.
END_SECONDS = 1.5

# UCUM. Not "1" for what has no unit: Prometheus would add "_ratio" to the name.
_UNITS: dict[Unit, str] = {
    "seconds": "s",
    "deliveries": "{delivery}",
    "messages": "{message}",
    "events": "{event}",
    "ids": "{id}",
    "": "",
}


def find_endpoint(environment: Mapping[str, str]) -> str | None:
    """Where to send metrics, as the standard variables say; None if they do not."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if environment.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "none":
        return None
    if endpoint := environment.get(METRICS_ENDPOINT, "").strip():
        return endpoint
    base = environment.get(ENDPOINT, "").strip()
    return f"{base.rstrip('/')}/{METRICS_PATH}" if base else None


class Otlp:
    """Sends the metrics, and waits for that at the end only."""

    def __init__(self, endpoint: str, labels: tuple[str, ...], table: str) -> None:
        """Send for these values of the common labels.

        :param table: schema.table of the target
        :raises ImportError: the extra ``otel`` is not installed
        """
        # Python prints warnings of a library where nobody has set up a handler for them.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        import opentelemetry.exporter.otlp.proto.http.metric_exporter
        import opentelemetry.sdk.metrics.export  # noqa: F401  (now, and not at the end of the run)

        for name in list(logging.root.manager.loggerDict):
            if name.startswith(("opentelemetry", "urllib3")):
                logging.getLogger(name).addFilter(_is_of_others)
        self._endpoint = endpoint
        self._labels = labels
        self._table = table
        self._has_failed = False

    def tell(self, samples: Sequence[Sample], *, is_last: bool) -> None:
        """Send the samples; a failure is said once, and costs the run nothing else."""
        thread = threading.Thread(target=self._send, args=(samples,), name=THREAD, daemon=True)
        thread.start()
        if is_last:
            thread.join(END_SECONDS)
            if thread.is_alive():
                self._warn("no answer")

    def _send(self, samples: Sequence[Sample]) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import MetricExportResult

        try:
            data = metrics_data(samples, self._labels, self._table, time.time_ns())
            with requests.Session() as session:
                session.hooks["response"].append(_refuse_redirection)
                exporter = OTLPMetricExporter(self._endpoint, timeout=TRY_SECONDS, session=session)
                is_taken = exporter.export(data) is MetricExportResult.SUCCESS
                exporter.shutdown()
        except Exception as error:  # noqa: BLE001  (a malformed variable; the message may quote it)
            self._warn(f"unexpected {type(error).__name__}")
            return
        if not is_taken:
            self._warn("not reached, or it refused them")

    def _warn(self, what: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning(
                "the OpenTelemetry collector did not take the metrics: %s; it must accept OTLP "
                "over HTTP at the address in %s",
                what,
                ENDPOINT,
            )


def _is_of_others(record: logging.LogRecord) -> bool:
    """Whether a line of the libraries is not about our requests.

    Those quote headers and addresses, which may hold a password, and whatever the server says; and
    where the program sends all logs somewhere, as in AWS Lambda, they would get there.
    """
    return record.threadName != THREAD


def _refuse_redirection(answer: Response, *_: Any, **__: Any) -> None:
    """Let a request fail that the library would take for a success: nobody has the metrics."""
    from requests import RequestException

    if 300 <= answer.status_code < 400:
        answer.close()
        raise RequestException


def metrics_data(
    samples: Sequence[Sample], labels: tuple[str, ...], table: str, now_ns: int
) -> MetricsData:
    """Put the samples into OpenTelemetry's form.

    :param labels: values of the common labels
    :param table: schema.table of the target
    :param now_ns: nanoseconds since 1970
    """
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    resource = Resource({"service.name": "etl", "service.version": __version__})
    # What a person has set in OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES is the last word.
    resource = resource.merge(OTELResourceDetector().detect())
    scope = ScopeMetrics(
        InstrumentationScope("etl", __version__), list(_gauges(samples, labels, table, now_ns)), ""
    )
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _gauges(
    samples: Sequence[Sample], labels: tuple[str, ...], table: str, now_ns: int
) -> Iterator[Any]:
    from opentelemetry.sdk.metrics.export import Gauge, NumberDataPoint
    from opentelemetry.sdk.metrics.export import Metric as OtlpMetric

    for metric, group in groupby(samples, lambda sample: sample.metric):
        conventional = _conventional(metric, labels[COMMON_LABELS.index("queue")], table)
        points = [
            NumberDataPoint(
                attributes={
                    **conventional,
                    **dict(zip(metric.all_labels, (*labels, *own), strict=True)),
                },
                start_time_unix_nano=0,
                time_unix_nano=now_ns,
                value=value,
            )
            for _, value, own in group
        ]
        yield OtlpMetric(metric.name, metric.help, _UNITS[metric.unit], Gauge(points))


def _conventional(metric: Metric, queue: str, table: str) -> dict[str, str]:
    """The attributes that OpenTelemetry's semantic conventions have for what a metric is about."""
    database = {"db.system.name": "postgresql"}
    messaging = {"messaging.system": "aws_sqs", "messaging.destination.name": queue}
    if metric is metrics.LEDGER_IDS:
        return {**database, "db.collection.name": "etl.ledger"}
    if metric in (metrics.DELIVERIES, metrics.CONFLICTS):
        return {**messaging, **database, "db.collection.name": table}
    if metric is metrics.BUILD_INFO or metric in metrics.OF_THE_END:
        return {}
    return messaging
