"""Candidates measured in turns, and what is said about their numbers.

A machine changes its speed over minutes: other work, heat, memory laid out anew. So candidates take
turns (A B C A B C ...), and a ratio is formed within each turn before the median is taken.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeVar

Measured = TypeVar("Measured")
Spread = dict[str, float]  # median, least, most


def in_turns(
    candidates: Mapping[str, Callable[[], Measured]], runs: int
) -> dict[str, list[Measured]]:
    """Let each candidate run once in each turn; returns what each measured, turn by turn."""
    measured: dict[str, list[Measured]] = {name: [] for name in candidates}
    for turn in range(1, runs + 1):
        for name, run in candidates.items():
            began = time.perf_counter()
            measured[name].append(run())
            say(f"turn {turn} of {runs}: {name}, {time.perf_counter() - began:.1f} s")
    return measured


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most of the values."""
    return {"median": median(values), "least": min(values), "most": max(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Spread of the ratios, each formed within one turn."""
    return spread([a / b for a, b in zip(values, others, strict=True)])


def seconds_of(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
