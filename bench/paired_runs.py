"""Measure programs in turns, and summarise what was measured.

The speed of a machine changes over minutes: other work, heat, a different layout of memory. So the
programs take turns (A B C A B C ...). A ratio is computed within each turn, and then the median of
the ratios is taken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

Measured = TypeVar("Measured")
Spread = dict[str, float]  # the median, the least and the most, under these three names


def in_turns(
    candidates: Mapping[str, Callable[[], Measured]], runs: int
) -> dict[str, list[Measured]]:
    """Run every candidate once in each turn; return what each one measured, turn by turn."""
    measured: dict[str, list[Measured]] = {name: [] for name in candidates}
    for turn in range(1, runs + 1):
        for name, run in candidates.items():
            began = time.perf_counter()
            measured[name].append(run())
            say(f"turn {turn} of {runs}: {name}, {time.perf_counter() - began:.1f} s")
    return measured


def say(line: str) -> None:
    """Print a line about the progress on standard error."""
    print(line, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> Spread:
    """Return the median, the least and the most of the values."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Return the spread of the ratios, each computed within one turn."""
    return spread([value / other for value, other in zip(values, others, strict=True)])


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
