"""An OpenTelemetry collector for tests: it keeps what it is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

Attributes = dict[str, str]


@dataclass
class Collector:
    """The requests so far, each with its path and its body."""

    url: str = ""
    status: int = 200
    requests: list[tuple[str, bytes]] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def decoded(self) -> list[Any]:
        """The bodies, decoded as protobuf."""
        return [ExportMetricsServiceRequest.FromString(body) for _, body in self.requests]

    def points(self) -> dict[str, list[tuple[Attributes, float]]]:
        """The attributes and values of the last request, by the name of the metric."""
        (resource,) = self.decoded()[-1].resource_metrics
        (scope,) = resource.scope_metrics
        return {
            metric.name: [
                (attributes(point), point.as_double or point.as_int)
                for point in metric.gauge.data_points
            ]
            for metric in scope.metrics
        }


def attributes(thing: Any) -> Attributes:
    """The attributes of a resource or a data point; all of ours are texts."""
    return {attribute.key: attribute.value.string_value for attribute in thing.attributes}


@contextmanager
def serve_collector(status: int = 200, *, answers: bool = True) -> Iterator[Collector]:
    """Start a collector.

    :param answers: at once; or else when ``may_answer`` is set
    """
    collector = Collector(status=status)
    if answers:
        collector.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.requests.append((self.path, body))
            collector.may_answer.wait()
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield collector
    finally:
        collector.may_answer.set()
        server.shutdown()
        server.server_close()
        thread.join()
