"""A little of each campaign, within two minutes: the whole machinery, and what it promises."""

from __future__ import annotations

import pytest

from tests.chaos import crash_points
from tests.chaos.campaigns import CAMPAIGNS, Size

# Not the clock, which has tests of its own, and needs a compiler.
SMOKE = {"kills": 0.02, "database": 0.02, "sqs": 0.02, "order": 0.02, "bad-input": 0.01}


@pytest.mark.parametrize("name", SMOKE)
def test_a_small_campaign_passes(name: str) -> None:
    """With the faults that it planned, and nothing lost, doubled, wrong or leaked."""
    result = CAMPAIGNS[name](7, Size(SMOKE[name]))
    assert result["verdict"] == "pass", result


def test_every_named_point_is_in_the_program() -> None:
    """A function that was renamed would otherwise take its point along."""
    for point in crash_points.POINTS:
        crash_points.Doom(point, 1)
    assert len(crash_points.POINTS) >= 12
    for place in crash_points.PLACES.values():
        assert callable(crash_points.found(place)[2])
