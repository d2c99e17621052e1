"""A signal is acknowledged in words, once for each, and also if nobody reads them."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import pytest

from etl.commands import signals
from etl.commands.signals import SignalStop
from etl.sqs.limits import Phase


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said."""
    lines: list[str] = []

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(signals.log, "warning", lambda text, *named: lines.append(text % named))
    monkeypatch.setattr(signals.os, "_exit", end)
    return lines


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")]
)
def test_the_first_signal_says_what_it_does_and_what_a_second_one_would(
    said: list[str], number: signal.Signals, name: str
) -> None:
    """The second one ends a run that works, and says so too."""
    stop = SignalStop()
    stop.handle(number)
    words = "finishing the batch in hand, then releasing the rest; a second signal ends the run at"
    assert said == [f"{name}: {words} once"]
    with pytest.raises(SystemExit) as ended:
        stop.handle(number)
    assert ended.value.code == 128 + number
    assert said[1:] == ["ending at once; what is held comes back after the visibility timeout"]


@pytest.mark.parametrize(
    ("phase", "first", "second"),
    [
        (Phase.ACKNOWLEDGING, "finishing the deletes; a second signal", "leaving the rest to"),
        (Phase.RELEASING, "leaving the rest to the visibility timeout", "ending at once"),
    ],
)
def test_the_words_fit_what_the_run_is_doing(
    said: list[str], phase: Phase, first: str, second: str
) -> None:
    """During deletes and releases a signal does something else."""
    stop = SignalStop()
    stop.phase = phase
    stop.handle(signal.SIGTERM)
    with contextlib.suppress(SystemExit):
        stop.handle(signal.SIGTERM)
    assert first in said[0]
    assert second in said[1]


def test_a_pipe_that_takes_nothing_does_not_hold_up_a_second_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The words are lost, and the run ends."""
    ended: list[int] = []
    full = threading.Event()

    def blocked(*_: Any) -> None:
        full.wait()

    monkeypatch.setattr(signals.log, "warning", blocked)
    monkeypatch.setattr(signals.os, "_exit", ended.append)
    stop = SignalStop()

    def handle_two() -> None:
        stop.handle(signal.SIGTERM)
        stop.handle(signal.SIGTERM)

    handling = threading.Thread(target=handle_two)
    handling.start()
    handling.join(30)
    assert stop.release_rest
    assert ended == [143]
    full.set()
    handling.join()


def test_a_closed_terminal_ends_the_run_cleanly_however_often_it_says_so(said: list[str]) -> None:
    """The shell and the kernel may each send SIGHUP; a SIGTERM after it is a second signal."""
    stop = SignalStop()
    stop.handle(signal.SIGHUP)
    stop.handle(signal.SIGHUP)
    words = "finishing the batch in hand, then releasing the rest; a second signal ends the run at"
    assert said == [f"SIGHUP: {words} once"]
    assert stop.reason == "SIGHUP"
    with pytest.raises(SystemExit):
        stop.handle(signal.SIGTERM)


@pytest.mark.parametrize("is_ignored", [False, True])
def test_sighup_stays_ignored_under_nohup(is_ignored: bool) -> None:
    """And is handled otherwise, until the block ends."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        with signals.stop_on_signals():
            assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) is is_ignored
            assert signal.getsignal(signal.SIGHUP) != signal.SIG_DFL
        expected = signal.SIG_IGN if is_ignored else signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == expected
    finally:
        signal.signal(signal.SIGHUP, before)
