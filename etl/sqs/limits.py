"""When receiving ends: the limits of a run, its quota of messages, and a request to stop."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from typing import Protocol

# SQS counts these from the receive, however often the visibility is extended.
MAX_VISIBILITY_SECONDS = 12 * 3600
HEARTBEAT_THREADS = 4  # extensions in progress at once; there is rarely anything to extend


@dataclass(frozen=True)
class Limits:
    """When a batch closes, and when receiving ends by itself."""

    rows: int
    bytes: int
    seconds: float
    idle_seconds: float
    max_seconds: float | None
    wait_seconds: int
    retry_seconds: float


class Stop:
    """Why the run is to stop. The first reason given stays."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.give_back = False  # release the gathered messages instead of loading them

    def request(self, reason: str, *, give_back: bool = False) -> None:
        """Ask for the stop. Takes no lock, so a signal handler may call it."""
        if self.reason is None:
            self.reason = reason
        self.give_back = self.give_back or give_back


class Quota(Protocol):
    """How many messages a run may still receive; all of its receivers share it."""

    def reserve(self, wanted: int) -> int:
        """Take up to *wanted* messages out of the quota; return how many."""

    def give_back(self, count: int) -> None:
        """Return reserved messages that did not come."""

    @property
    def left(self) -> float:
        """Messages that are neither received nor reserved."""


class NoQuota:
    """The quota of a run without ``max_messages``."""

    left = math.inf

    def reserve(self, wanted: int) -> int:
        """Take all that is wanted."""
        return wanted

    def give_back(self, count: int) -> None:
        """Do nothing."""


class SharedQuota:
    """A quota shared by threads and, since it can be passed to a new process, by workers."""

    def __init__(self, messages: int, context: SpawnContext | None = None) -> None:
        context = context or multiprocessing.get_context("spawn")
        self._left: Synchronized[int] = context.Value("q", messages)

    def reserve(self, wanted: int) -> int:
        """Take up to *wanted* messages out of the quota; return how many."""
        with self._left.get_lock():
            taken = min(wanted, self._left.value)
            self._left.value -= taken
            return taken

    def give_back(self, count: int) -> None:
        """Return reserved messages that did not come."""
        with self._left.get_lock():
            self._left.value += count

    @property
    def left(self) -> int:
        """Messages that are neither received nor reserved."""
        return self._left.value


def quota(max_messages: int | None) -> Quota:
    """The quota of a run: ``run.max_messages``, or none."""
    return NoQuota() if max_messages is None else SharedQuota(max_messages)
