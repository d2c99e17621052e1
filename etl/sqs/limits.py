"""When receiving ends: the limits of a run, its quota of messages, and a request to stop."""

from __future__ import annotations

import math
import multiprocessing
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from typing import Protocol


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
    """Why the run is to stop; the first reason given stays."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.give_back = False  # what is gathered is released, not loaded

    def request(self, reason: str, *, give_back: bool = False) -> None:
        """Ask for the stop; takes no lock, so that a signal handler may call it."""
        if self.reason is None:
            self.reason = reason
        self.give_back = self.give_back or give_back


class Quota(Protocol):
    """Messages that may still be received."""

    def reserve(self, most: int) -> int:
        """Take up to *most* out of the budget."""

    def give_back(self, count: int) -> None:
        """Return what was reserved and did not come."""

    @property
    def left(self) -> float:
        """What is neither received nor reserved."""


class NoQuota:
    """No maximum was set."""

    left = math.inf

    def reserve(self, most: int) -> int:
        """Take all that is asked for."""
        return most

    def give_back(self, count: int) -> None:
        """Need nothing back."""


class SharedQuota:
    """A maximum, shared by threads and, as it can be handed to a new process, by workers."""

    def __init__(self, messages: int, context: SpawnContext | None = None) -> None:
        context = context or multiprocessing.get_context("spawn")
        self._left: Synchronized[int] = context.Value("q", messages)

    def reserve(self, most: int) -> int:
        """Take up to *most* out of the budget."""
        with self._left.get_lock():
            taken = min(most, self._left.value)
            self._left.value -= taken
            return taken

    def give_back(self, count: int) -> None:
        """Return what was reserved and did not come."""
        with self._left.get_lock():
            self._left.value += count

    @property
    def left(self) -> int:
        """What is neither received nor reserved."""
        return self._left.value
