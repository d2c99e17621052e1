"""Points in the program at which a process kills itself with SIGKILL, as the kernel would.

A point is a function of the program and a side: before the call, or after it has returned.
``COMMIT`` is the commit of a batch; ``COMMIT during`` kills the process from a second thread while
the server works on the commit.
"""

from __future__ import annotations

import functools
import importlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

# Where the callers look a function up: module and attribute (or Class.attribute).
PLACES = {
    "receive": ("etl.sqs.queue", "Queue.receive"),
    "hold": ("etl.sqs.heartbeat", "Heartbeat.hold"),
    "extend": ("etl.sqs.queue", "Queue.extend"),
    "read": ("etl.extract", "read_each"),
    "split": ("etl.validate", "split"),
    "mask": ("etl.mask", "columns"),
    "stage": ("etl.load", "stage"),
    "copy": ("etl.load", "copy_rows"),
    "claim": ("etl.ledger", "claim"),
    "merge": ("etl.load", "merge"),
    "quarantine": ("etl.quarantine", "store"),
    "add": ("etl.runs", "Run.add"),
    "COMMIT": ("sqlalchemy.engine.default", "DefaultDialect.do_commit"),
    "acknowledge": ("etl.sqs.consumer", "acknowledge"),
    "delete": ("etl.sqs.queue", "Queue.acknowledge"),
}
POINTS = [
    *(f"{name} {side}" for name in PLACES for side in ("before", "after") if name != "copy"),
    "copy before",
    "COMMIT during",
]
# A COMMIT takes about this long here, and the kill comes at a random moment of it.
DURING_SECONDS = 0.002


class CrashPoint:
    """Counts the passes of one point, and kills the process at the nth."""

    def __init__(self, point: str, nth: int) -> None:
        self.name, self.side = point.split(" ")
        self._left = nth
        self._lock = threading.Lock()
        # Only the commit of a batch counts, so COMMIT waits for the batch's first claim.
        self.armed = self.name != "COMMIT"

    def is_due(self) -> bool:
        """Count one pass; whether it is the one to crash at."""
        with self._lock:
            self._left -= self.armed
            return self._left == 0 and self.armed

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the point before or after it."""

        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if self.side == "before" and self.is_due():
                kill_this_process()
            if self.side == "during" and self.is_due():
                threading.Thread(target=_kill_this_process_soon, daemon=True).start()
            result = function(*arguments, **named)
            if self.side == "after" and self.is_due():
                kill_this_process()
            return result

        return wrapped


def kill_this_process() -> None:
    """End at once: nothing is flushed or closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_this_process_soon() -> None:
    time.sleep(random.uniform(0, DURING_SECONDS))
    kill_this_process()


def install(crash_point: CrashPoint) -> None:
    """Put the point into the program that this process runs."""
    _replace(PLACES[crash_point.name], crash_point.wrap)
    if crash_point.name == "COMMIT":

        def arm_by(claim: Callable[..., Any]) -> Callable[..., Any]:
            def claim_and_arm(*arguments: Any, **named: Any) -> Any:
                crash_point.armed = True
                return claim(*arguments, **named)

            return claim_and_arm

        _replace(PLACES["claim"], arm_by)


def _replace(
    place: tuple[str, str], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    owner, name, function = look_up(place)
    setattr(owner, name, wrap(function))


def look_up(place: tuple[str, str]) -> tuple[Any, str, Callable[..., Any]]:
    """The owner, the name and the function of a place.

    :raises AttributeError: the program no longer has this function
    """
    owner: Any = importlib.import_module(place[0])
    *path, name = place[1].split(".")
    for step in path:
        owner = getattr(owner, step)
    return owner, name, getattr(owner, name)
