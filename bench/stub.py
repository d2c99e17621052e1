"""Start and stop the stub queue."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any, Self

from etl.embedded.lifeline import Child
from etl.embedded.sqs import variables


class Stub:
    """A stub queue in a child process; its messages are prepared before it is ready."""

    def __init__(self, bodies: Path, messages: int, *, body_bytes: int = 0) -> None:
        self._child = Child(
            "bench.stub_sqs", str(bodies), str(messages), "--body-bytes", str(body_bytes)
        )
        self._endpoint_url: str = self._child.ready["endpoint_url"]
        self.queue_url = f"{self._endpoint_url}/000000000000/bench"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point boto3 and the job to the queue."""
        return {**variables(self._endpoint_url), "ETL_QUEUE__URL": self.queue_url}

    def counts(self) -> dict[str, Any]:
        """Return what the queue has served, and what was deleted."""
        without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with without_proxy.open(f"{self._endpoint_url}/counts", timeout=30) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts
