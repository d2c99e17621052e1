"""The text of the progress display."""

from __future__ import annotations

import io
import sys
import time

import pytest

from etl.runs import Snapshot
from etl.terminal import progress

NOW = Snapshot(
    received=12_000, loaded=10_000, already_handled=30, quarantined=200, buffered=1_770, seconds=6.0
)


def test_a_plain_line_shows_counts_rate_and_backlog() -> None:
    assert progress.line(NOW, 5_000) == (
        "12,000 received (2,000/s), 10,000 loaded, 30 already handled, 200 quarantined, "
        "1,770 waiting, 5,000 left in the queue"
    )


def test_the_live_line_leaves_room_on_eighty_columns() -> None:
    """A bar of ten columns and the time fit beside it."""
    assert len(progress.short_line(NOW, 5_000)) <= 80 - 10 - 10


def test_an_unknown_backlog_is_a_question_mark() -> None:
    """SQS may not have answered yet."""
    assert "? left" in progress.line(NOW, None)


def test_the_rate_is_zero_before_any_time_has_passed() -> None:
    """The first line may be drawn at once."""
    assert "(0/s)" in progress.line(Snapshot(0, 0, 0, 0, 0, 0.0), 0)


def test_steps_are_logged_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a line every few seconds, not one for each step."""
    lines: list[str] = []
    # Not by caplog: an earlier test may have set up the log, as a command does.
    monkeypatch.setattr(progress.log, "info", lambda text, *named: lines.append(text % named))
    with progress.steps() as show:
        show(1, 9, "one row")
        later = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda: later)
        show(2, 9, "two rows")
        show(3, 9, "three rows")
    assert lines == ["two rows, step 2 of 9"]


def test_steps_are_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its text is that of the last step."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.steps() as show:
        show(1, 9, "one row")
        show(9, 9, "nine rows")
    assert "nine rows" in terminal.getvalue()
