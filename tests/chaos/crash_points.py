"""Points at which a process of the program kills itself: SIGKILL, as from the kernel.

A point is a function of the program, and a side: before it is called or after it has returned.
``COMMIT`` means the commit of a batch; ``COMMIT during`` kills from a second thread while the
server works on it.
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

# Where a function is looked up by those who call it: module and attribute (or Class.attribute).
PLACES = {
    "receive": ("etl.sqs.queue", "Queue.receive"),
    "hold": ("etl.sqs.heartbeat", "Heartbeat.hold"),
    "extend": ("etl.sqs.queue", "Queue.extend"),
    "read": ("etl.extract", "read"),
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
# How long a COMMIT takes here; the kill falls somewhere in it.
DURING_SECONDS = 0.002


class Doom:
    """Counts how often the point is passed, and strikes."""

    def __init__(self, point: str, nth: int) -> None:
        self.name, self.side = point.split(" ")
        self._left = nth
        self._lock = threading.Lock()
        self.claimed = self.name != "COMMIT"  # other commits than a batch's do not count

    def passed(self) -> bool:
        """Whether this is the time."""
        with self._lock:
            self._left -= self.claimed
            return self._left == 0 and self.claimed

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the point before or after it."""

        @functools.wraps(function)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            if self.side == "before" and self.passed():
                die()
            if self.side == "during" and self.passed():
                threading.Thread(target=_die_soon, daemon=True).start()
            result = function(*arguments, **named)
            if self.side == "after" and self.passed():
                die()
            return result

        return wrapped


def die() -> None:
    """End at once; nothing is flushed, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_soon() -> None:
    time.sleep(random.uniform(0, DURING_SECONDS))
    die()


def install(doom: Doom) -> None:
    """Put the point into the program."""
    _replace(PLACES[doom.name], doom.wrap)
    if doom.name == "COMMIT":

        def note(claim: Callable[..., Any]) -> Callable[..., Any]:
            def claiming(*arguments: Any) -> Any:
                doom.claimed = True
                return claim(*arguments)

            return claiming

        _replace(PLACES["claim"], note)


def _replace(
    place: tuple[str, str], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    owner, name, function = found(place)
    setattr(owner, name, wrap(function))


def found(place: tuple[str, str]) -> tuple[Any, str, Callable[..., Any]]:
    """The owner, name and function of a place.

    :raises AttributeError: the program has no such function any more
    """
    owner: Any = importlib.import_module(place[0])
    *path, name = place[1].split(".")
    for step in path:
        owner = getattr(owner, step)
    return owner, name, getattr(owner, name)
