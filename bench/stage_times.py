"""One run of the job with a clock around each of its stages, from the outside.

Run as ``python -m bench.stage_times``; it reads the variables that the job reads and prints JSON:
CPU seconds by stage and by what happens within. A stage's time is the CPU of the threads while they
are in it and in nothing listed within it. What is not there (any more) is named, not an error.
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
from etl.worker import tune_interpreter

# Stage, and where it is: what is called inside of it counts as its own, unless it is listed too.
STAGES = (
    ("receive", "etl.sqs.queue:Queue.receive"),
    ("delete", "etl.sqs.queue:Queue.acknowledge"),
    ("extend visibility", "etl.sqs.queue:Queue.extend"),
    ("decode", "etl.extract:read"),
    ("check", "etl.validate:split"),
    ("mask", "etl.mask:columns"),
    ("load: staging", "etl.load:stage"),
    ("load: target", "etl.load:merge"),
    ("ledger", "etl.ledger:claim"),
)
# Steps of a call to SQS, within the stage that makes it.
WITHIN = (
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
    """CPU seconds of all threads by stage and step; each second counts once, for the innermost."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()
        self._own = threading.local()

    def around(self, name: str, work: Any, *, is_step: bool) -> Any:
        """Wrap a function."""

        @functools.wraps(work)
        def timed(*arguments: Any, **named: Any) -> Any:
            stack = self._stack()
            if is_step and not stack:
                # Making the client, or a question of the progress display: no stage of ours.
                return work(*arguments, **named)
            self._turn(stack)
            stack.append((stack[-1][0], name) if is_step else (name, ""))
            try:
                return work(*arguments, **named)
            finally:
                self._turn(stack)
                stack.pop()

        return timed

    def _stack(self) -> list[tuple[str, str]]:
        if not hasattr(self._own, "stack"):
            self._own.stack, self._own.since = [], 0.0
        stack: list[tuple[str, str]] = self._own.stack
        return stack

    def _turn(self, stack: list[tuple[str, str]]) -> None:
        """Give what this thread used since the last turn to whatever it was in."""
        now = time.thread_time()
        if stack:
            with self._lock:
                self.seconds[stack[-1]] += now - self._own.since
        self._own.since = now


def wrap(clock: Clock) -> list[str]:
    """Put the clock around all stages and steps; returns those that are not there."""
    missing = []
    for is_step, places in ((False, STAGES), (True, WITHIN)):
        for name, place in places:
            module, _, path = place.partition(":")
            *owners, last = path.split(".")
            try:
                owner = functools.reduce(getattr, owners, importlib.import_module(module))
                work = getattr(owner, last)
            except (AttributeError, ImportError):
                missing.append(place)
            else:
                setattr(owner, last, clock.around(name, work, is_step=is_step))
    return missing


def main() -> None:
    """Run the job once."""
    settings = config.load(Path("config.yaml"), os.environ, {"run.idle_seconds": 1})
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
