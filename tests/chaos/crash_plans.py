"""Plans of workers that are killed: at a named point of the program, or at a random moment."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.chaos import crash_points
from tests.chaos.workers import WorkerPlan

COPY = {"ETL_LOAD__METHOD": "copy"}


def crashing_plans(draw: random.Random) -> Iterator[WorkerPlan]:
    """Two workers with a named point for each one that is killed at a random moment."""
    while True:
        points = list(crash_points.POINTS)
        draw.shuffle(points)
        for number, point in enumerate(points):
            yield _plan_with_crash_point(point, draw)
            if number % 2:
                yield WorkerPlan(kill_after_seconds=draw.uniform(0.5, 8))


def _plan_with_crash_point(point: str, draw: random.Random) -> WorkerPlan:
    """A worker that kills itself at the point, or is killed if it does not get there."""
    name, _, _ = point.partition(" ")
    variables: tuple[tuple[str, str], ...] = ()
    if name == "copy" or draw.random() < 0.3:
        variables = tuple(COPY.items())
    if name == "extend":
        # It happens only to a batch that gathers for longer than half the visibility timeout.
        variables = (("ETL_BATCH__ROWS", "20000"), ("ETL_BATCH__SECONDS", "6"))
    max_passes = 40 if name in ("receive", "hold", "delete") else 3
    nth = draw.randint(1, max_passes)
    return WorkerPlan(variables=variables, crash_point=point, nth=nth, kill_after_seconds=25)
