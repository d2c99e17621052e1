"""Run the job once with a clock around each of its stages, without a change to the job.

Run as ``python -m bench.stage_times``. It reads the variables that the job reads and prints JSON:
CPU seconds by stage and step. The time of a stage is the CPU time of the threads while they are in
it, but not in a stage or step that it calls. A function that no longer exists is named in the
output; it is not an error.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from etl import config, job
from etl.validate import frame_schema
from etl.workers.interpreter import tune_interpreter

# The name of a stage and its function. The functions that it calls count as part of the stage,
# unless they are listed as well.
STAGES = (
    ("receive", "etl.sqs.queue:Queue.receive"),
    ("delete", "etl.sqs.queue:Queue.acknowledge"),
    ("extend visibility", "etl.sqs.queue:Queue.extend"),
    ("decode", "etl.extract:read_each"),
    ("check", "etl.validate:split"),
    ("mask", "etl.mask:columns"),
    ("load: staging", "etl.load:stage"),
    ("load: target", "etl.load:merge"),
    ("ledger", "etl.ledger:claim"),
)
# The steps of a call to SQS, as part of the stage that makes the call: over libcurl, and by boto3.
STEPS = (
    ("sign", "etl.aws.signing:Signer.headers"),
    ("send and receive (libcurl)", "etl.aws.curl:Curl.post"),
    ("validate parameters", "botocore.validate:ParamValidator.validate"),
    ("serialize", "botocore.serialize:JSONSerializer.serialize_to_request"),
    ("endpoint rules", "botocore.regions:EndpointRulesetResolver.construct_endpoint"),
    ("user agent", "botocore.useragent:UserAgentString.to_string"),
    ("sign", "botocore.signers:RequestSigner.sign"),
    ("send and receive (urllib3)", "botocore.httpsession:URLLib3Session.send"),
    ("parse", "botocore.parsers:JSONParser.parse"),
)
REST_OF_CALL = "rest of the call"


class Clock:
    """CPU seconds of all threads by stage and step; time counts only for the innermost of them."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()
        self._thread = threading.local()

    def around(self, name: str, function: Any, *, is_step: bool) -> Any:
        """Return *function* with this clock around it."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            stack = self._stack()
            if is_step and not stack:
                # A call outside every stage, such as one made by the progress display.
                return function(*arguments, **named)
            self._count(stack)
            stack.append((stack[-1][0], name) if is_step else (name, ""))
            try:
                return function(*arguments, **named)
            finally:
                self._count(stack)
                stack.pop()

        return timed

    def _stack(self) -> list[tuple[str, str]]:
        if not hasattr(self._thread, "stack"):
            self._thread.stack = []
            self._thread.since = 0.0
        stack: list[tuple[str, str]] = self._thread.stack
        return stack

    def _count(self, stack: list[tuple[str, str]]) -> None:
        """Add the CPU time that this thread has used since the last call to the top of *stack*."""
        now = time.thread_time()
        if stack:
            with self._lock:
                self.seconds[stack[-1]] += now - self._thread.since
        self._thread.since = now


def wrap(clock: Clock) -> list[str]:
    """Put the clock around all stages and steps; return those that were not found."""
    missing = []
    for is_step, places in ((False, STAGES), (True, STEPS)):
        for name, place in places:
            module, _, path = place.partition(":")
            *owners, last = path.split(".")
            try:
                owner = functools.reduce(getattr, owners, importlib.import_module(module))
                function = getattr(owner, last)
            except (AttributeError, ImportError):
                missing.append(place)
            else:
                setattr(owner, last, clock.around(name, function, is_step=is_step))
    return missing


def main() -> None:
    """Run the job once."""
    settings = config.load(Path("config.yaml"), os.environ, {"run.idle_seconds": 1})
    # pandera imports most of itself when it validates for the first time.
    frame_schema(settings.table.columns)
    tune_interpreter()
    clock = Clock()
    missing = wrap(clock)
    began = time.process_time()
    summary = job.run(settings, os.environ)
    print(
        json.dumps(
            {
                "received": summary.counts.received,
                "loaded": summary.counts.loaded,
                "cpu_seconds": time.process_time() - began,
                "seconds": [[*key, value] for key, value in clock.seconds.items()],
                "missing": missing,
            }
        )
    )


if __name__ == "__main__":
    main()
