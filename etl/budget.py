"""How many messages may still be received; one budget serves all receivers of a run."""

from __future__ import annotations

import math
import multiprocessing
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from typing import Protocol


class Budget(Protocol):
    """Messages that may still be received."""

    def reserve(self, most: int) -> int:
        """Take up to *most* out of the budget."""

    def give_back(self, count: int) -> None:
        """Return what was reserved and did not come."""

    @property
    def left(self) -> float:
        """What is neither received nor reserved."""


class Unlimited:
    """No maximum was set."""

    left = math.inf

    def reserve(self, most: int) -> int:
        """Take all that is asked for."""
        return most

    def give_back(self, count: int) -> None:
        """Need nothing back."""


class Limited:
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
