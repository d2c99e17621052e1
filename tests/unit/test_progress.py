"""The text of the progress display: where every message is, and how long the rest will take."""

from __future__ import annotations

import io
import itertools
import re
import sys
import threading
import time
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest

from etl.errors import QueueUnavailable
from etl.runs import Counts
from etl.terminal import progress
from etl.terminal.estimate import Rate, duration, seconds_left
from etl.workers.snapshot import Snapshot
from tests.integration.waiting import wait_until

NOW = Snapshot(
    received=12_000,
    loaded=8_000,
    already_handled=180,
    quarantined=32,
    loading=3_000,
    to_delete=212,
)


def test_the_line_accounts_for_every_message() -> None:
    """What was received is somewhere."""
    assert progress.parts(NOW, 120_000, 2_000.0) == [
        (
            "received 12,000 = 8,000 loaded + 180 already handled + 32 quarantined + 3,000 being "
            "loaded + 788 gathered; 212 to delete"
        ),
        "2,000/s, 120,000 in the queue, about 60 s left",
    ]


@pytest.mark.parametrize(
    "now",
    [
        NOW,
        Snapshot(),
        replace(NOW, released=700),
        replace(NOW, released=3_788),
        replace(NOW, loading=5_000),  # more than is held: a batch that is being released
        replace(NOW, loading=0),
        replace(NOW, loading=-1),
    ],
)
def test_the_numbers_of_every_line_add_up(now: Snapshot) -> None:
    """Whatever the moment at which they were read."""
    received, *parts = re.findall(r"[\d,]+(?= [a-z])|(?<=received )[\d,]+", counts_of(now))
    assert int(received.replace(",", "")) == sum(int(part.replace(",", "")) for part in parts)


def counts_of(now: Snapshot) -> str:
    """The first part of the line, without what is to be deleted."""
    return progress.parts(now, None, None)[0].split(";")[0]


def test_nothing_is_said_of_what_is_not_known() -> None:
    """SQS may not have answered yet, and no batch may be loaded."""
    assert progress.parts(Snapshot(), None, None) == ["received 0 = 0 loaded"]
    assert progress.parts(Snapshot(), 5, None)[1] == "5 in the queue"
    assert progress.parts(NOW, None, 10.0)[1] == "10/s"


def test_a_run_with_nothing_to_do_says_so() -> None:
    """Instead of a rate that falls."""
    idle = Snapshot(received=10, loaded=10)
    assert progress.parts(idle, 0, 5.0)[1] == "waiting for messages"
    assert progress.parts(replace(idle, to_delete=1), 0, 5.0)[1] == "5/s, 0 in the queue"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """A slow start counts no more once it is ten seconds ago."""
    rate = Rate(0.0)
    handled = 0
    for second in range(1, 101):
        handled += 10 if second <= 50 else 1_000
        rate.note(Snapshot(received=handled + 1, loaded=handled), float(second))
        if second == 50:
            assert rate.per_second(50.0) == pytest.approx(10)
    assert rate.per_second(100.0) == pytest.approx(1_000)


def test_a_batch_that_takes_long_has_a_rate_all_the_same() -> None:
    """Between two commits that are forty seconds apart, the rate does not fall to nothing."""
    rate = Rate(0.0)
    for second in range(1, 121):
        loaded = second // 40 * 4_000
        rate.note(Snapshot(received=loaded + 4_000, loaded=loaded), float(second))
        if second > 45:
            assert 45 < (rate.per_second(float(second)) or 0) < 105, second


def test_the_rate_of_an_idle_run_falls_to_nothing() -> None:
    """What was loaded a minute ago says nothing about now."""
    rate = Rate(0.0)
    for second in range(1, 61):
        rate.note(Snapshot(received=5_000, loaded=5_000), float(second))
    assert not rate.per_second(60.0)


@pytest.mark.parametrize(
    ("now", "backlog", "rate", "expected"),
    [
        (NOW, 96_212, 1_000.0, 100.0),
        (NOW, None, 1_000.0, None),
        (NOW, 96_212, None, None),
        (NOW, 96_212, 0.0, None),
        (Snapshot(received=5, loaded=5), 0, 10.0, None),
        (replace(NOW, quota_left=212), 96_212, 1_000.0, 4.0),
        (replace(NOW, seconds_left=30.0), 96_212, 1_000.0, 30.0),
    ],
)
def test_the_time_left_is_what_is_there_over_the_rate(
    now: Snapshot, backlog: int | None, rate: float | None, expected: float | None
) -> None:
    """Unless the run ends before; nothing if it cannot be known."""
    assert seconds_left(now, backlog, rate) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(2, "a few seconds"), (7, "about 10 s"), (44, "about 40 s"), (240, "about 4 min"),
     (4_000, "about 67 min"), (36_000, "about 10 h")],
)  # fmt: skip
def test_a_time_is_about_as_exact_as_it_is_known(seconds: float, words: str) -> None:
    """An estimate has no seconds after the minutes."""
    assert duration(seconds) == words


def test_a_worker_that_died_holds_nothing() -> None:
    """The sum of the workers still adds up, without what it held; so with one that ended."""
    living = replace(NOW, quota_left=100, needed_visibility=60)
    ended = NOW.ended(asdict(Counts(received=900, loaded=800, released=100)))
    total = living.plus(NOW.ended(None)).plus(ended)
    assert total.received == 12_000 + 8_212 + 900
    assert (total.held, total.loading, total.to_delete) == (3_788, 3_000, 212)
    assert (total.quota_left, total.needed_visibility) == (100, 60)


class FakeQueue:
    """A queue that says how many messages are visible, or does not answer."""

    def __init__(self, visible: int | None) -> None:
        self.visible = visible
        self.asked = threading.Event()

    def state(self) -> Any:
        """Answer as :meth:`etl.sqs.queue.Queue.state` does."""
        self.asked.set()
        if self.visible is None:
            raise QueueUnavailable("away")
        return SimpleNamespace(visible=self.visible)


@pytest.mark.parametrize(("visible", "said"), [(7_000, "7,000 in the queue"), (None, "loaded")])
def test_without_a_terminal_there_is_a_log_line_in_time(
    visible: int | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS is asked in the background, and need not answer."""
    logged = threading.Event()
    texts: list[str] = []

    def log(text: str, *arguments: object) -> None:
        texts.append(text % arguments)
        if said in texts[-1]:
            logged.set()

    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress, "NOTE_SECONDS", 0.01)
    monkeypatch.setattr(progress.log, "info", log)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    queue: Any = FakeQueue(visible)
    with progress.watch(lambda: NOW, queue):
        assert queue.asked.wait(30)
        assert logged.wait(30)
    assert all(text.startswith("received 12,000 = 8,000 loaded + ") for text in texts)


def test_what_was_received_since_is_in_the_queue_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS is asked seldom."""
    received = itertools.count(100, 10)
    queue: Any = FakeQueue(50)
    view = progress._View(lambda: Snapshot(received=next(received)), queue)
    done = threading.Event()
    monkeypatch.setattr(progress, "BACKLOG_SECONDS", 600)
    asking = threading.Thread(target=view.ask, args=(done,))
    asking.start()
    assert queue.asked.wait(30)
    assert wait_until(lambda: view._visible is not None)
    assert [view.parts()[1] for _ in range(6)] == [
        f"{left} in the queue" for left in (40, 30, 20, 10, 0, 0)
    ]
    done.set()
    asking.join()


def test_a_terminal_of_eighty_columns_shows_it_without_breaking_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On two lines or three; log lines go above it."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    big = Snapshot(
        received=212_000_000, loaded=208_000_000, already_handled=180_000, quarantined=32_000,
        loading=3_000_000, to_delete=212_000,
    )  # fmt: skip
    queue: Any = FakeQueue(120_000_000)
    with progress.watch(lambda: big, queue):
        assert queue.asked.wait(30)
        sys.stderr.write("a line of the log\n")
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n")
    assert max(map(len, shown.splitlines())) <= 80
    assert "a line of the log\n" in shown
    for number in (
        "212,000,000",
        "208,000,000",
        "180,000",
        "788,000 gathered",
        "212,000 to delete",
    ):
        assert number in " ".join(shown.split())


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
