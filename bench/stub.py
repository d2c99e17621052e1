"""Start and stop the stub queue."""

from __future__ import annotations

import json
import ssl
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from etl.embedded.lifeline import Child
from etl.embedded.sqs import variables
from tests.unit.aws_server import certificate


@dataclass(frozen=True)
class Network:
    """What lies between a program and the stub queue; by default nothing."""

    tls: bool = False
    answer_ms: float = 0  # every answer is delayed by so much
    # Maximum wait of an empty poll in seconds; 20 is what SQS allows, and less saves time where
    # only the work counts.
    empty_seconds: float = 0.2


LOCAL = Network()


class Stub:
    """A stub queue in a child process; its messages are prepared before it is ready."""

    def __init__(
        self, bodies: Path, messages: int, network: Network = LOCAL, *, body_bytes: int = 0
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-tls-")
        self._ca = Path(self._folder.name, "ca.pem") if network.tls else None
        if self._ca:
            # A certificate that signs itself, so it is its own authority.
            certificate(self._ca.parent)
        self._child = Child(
            "bench.stub_sqs",
            *(str(bodies), str(messages), "--body-bytes", str(body_bytes)),
            *("--answer-ms", str(network.answer_ms)),
            *("--empty-seconds", str(network.empty_seconds)),
            *(("--tls", str(self._ca.parent)) if self._ca else ()),
        )
        self._endpoint_url: str = self._child.ready["endpoint_url"]
        self.queue_url = f"{self._endpoint_url}/000000000000/bench"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point boto3 and the job to the queue."""
        trusted = {"AWS_CA_BUNDLE": str(self._ca)} if self._ca else {}
        return {**variables(self._endpoint_url), **trusted, "ETL_QUEUE__URL": self.queue_url}

    def counts(self) -> dict[str, Any]:
        """Return what the queue has served, and what was deleted."""
        context = ssl.create_default_context(cafile=self._ca) if self._ca else None
        without_proxy = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with without_proxy.open(f"{self._endpoint_url}/counts", timeout=30) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts
