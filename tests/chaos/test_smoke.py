"""A small share of most campaigns: all the machinery and its promises."""

from __future__ import annotations

import pytest

from tests.chaos import crash_points
from tests.chaos.campaigns import CAMPAIGNS
from tests.chaos.testbed import Size

# Without the clock campaign: it needs a compiler, and the jumping clock has its own tests.
SMOKE = {
    "kills": 0.02,
    "database": 0.02,
    "sqs": 0.02,
    "order": 0.02,
    "bad-input": 0.01,
    "jobs": 0.02,
    "fifo": 0.02,
    "hostile-server": 0.02,
    "upsert": 0.02,
}


@pytest.mark.long
@pytest.mark.parametrize("name", SMOKE)
def test_a_small_campaign_passes(name: str) -> None:
    """All planned faults fired, and nothing was lost, duplicated, wrong or leaked."""
    result = CAMPAIGNS[name](7, Size(SMOKE[name]))
    assert result["verdict"] == "pass", result


@pytest.mark.long
def test_a_small_campaign_passes_over_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """The faults of SQS, where no call goes over libcurl."""
    monkeypatch.setenv("ETL_QUEUE__TRANSPORT", "boto3")
    result = CAMPAIGNS["sqs"](7, Size(SMOKE["sqs"]))
    assert result["verdict"] == "pass", result


@pytest.mark.long
def test_no_message_becomes_a_dead_letter() -> None:
    """Under kills, with three receives for each message; a planted bug needs a test of its own."""
    result = CAMPAIGNS["redrive"](7, Size(0.02))
    assert result["verdict"] == "pass", result


def test_every_crash_point_is_in_the_program() -> None:
    """A renamed function would otherwise silently take its crash point away."""
    for point in crash_points.POINTS:
        crash_points.CrashPoint(point, 1)
    assert len(crash_points.POINTS) >= 12
    for place in crash_points.PLACES.values():
        assert callable(crash_points.look_up(place)[2])
