"""An outage is told once when it begins, once a minute, and when it is over."""

from __future__ import annotations

import logging
import time

import pytest

from etl.backoff import Backoff
from etl.errors import DatabaseUnavailable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_an_outage_is_one_warning_and_then_one_a_minute(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Each has the time that is left; what is between them is for debugging."""
    caplog.set_level(logging.INFO)
    backoff = Backoff(150, lambda: False)
    error = DatabaseUnavailable("away")
    with pytest.raises(DatabaseUnavailable):
        while True:
            backoff.pause(error)
    assert 1150 <= clock[0] < 1154
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "away; trying again for 150 s"
    assert [text.partition(" for ")[0] for text in said] == ["away; trying again"] * 3
    left = [float(text.split()[-2]) for text in said]
    assert left[1] == pytest.approx(89, abs=3)
    assert left[2] == pytest.approx(28, abs=5)


def test_the_end_of_an_outage_is_told(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Without an outage nothing is said."""
    caplog.set_level(logging.INFO)
    backoff = Backoff(150, lambda: False)
    backoff.end()
    assert caplog.records == []
    backoff.pause(DatabaseUnavailable("away"))
    clock[0] += 42
    backoff.end()
    assert caplog.records[-1].getMessage() == "the outage is over after 42 s"
