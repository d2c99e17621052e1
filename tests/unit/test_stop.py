"""Why a run ends: requests in any order, and signals in each phase."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable

import pytest

from etl.commands.signals import SignalStop
from etl.sqs.limits import Phase, Stop

SIGTERM, SIGINT = int(signal.SIGTERM), int(signal.SIGINT)


@pytest.mark.parametrize("end", ["idle", "max_messages", "queue", "one batch"])
def test_a_signal_is_the_reason_though_the_run_was_ending(end: str) -> None:
    """What it gives back is not loaded because of the signal."""
    stop = Stop()
    stop.request(end)
    assert (stop.reason, stop.release_rest) == (end, False)
    stop.request("SIGTERM", release_rest=True)
    assert (stop.reason, stop.release_rest) == ("SIGTERM", True)
    stop.request("idle")
    stop.request("error")
    stop.request("database unavailable", release_rest=True)
    assert stop.reason == "SIGTERM"


def test_a_signal_after_the_time_is_up_is_not_the_reason() -> None:
    """The messages were given back because of the time."""
    stop = Stop(ends_at=0.0)
    stop.request("SIGINT", release_rest=True)
    assert stop.reason == "max_seconds"


@pytest.mark.parametrize("end", ["error", "idle", "queue"])
def test_what_ends_a_run_out_of_time_is_not_the_reason(end: str) -> None:
    """Though nobody had noticed the time: the end of receiving, and then the outage."""
    stop = Stop(ends_at=0.0)
    stop.request(end)
    stop.request("database unavailable", release_rest=True)
    assert stop.reason == "max_seconds"


def test_a_signal_before_the_time_is_up_stays_the_reason() -> None:
    """The time passes while the messages are given back."""
    stop = Stop(ends_at=math.inf)
    stop.request("SIGINT", release_rest=True)
    stop.ends_at = 0.0
    assert stop.reason == "SIGINT"


def test_a_signal_in_the_middle_of_another_request_is_not_lost() -> None:
    """A handler runs between any two steps of the main thread."""
    request = Stop.request.__code__

    class Interrupted(Stop):
        def interrupt_at(self, line: int) -> None:
            def trace(frame: object, event: str, _arg: object) -> Callable[..., object]:
                at = getattr(frame, "f_lineno", 0) - request.co_firstlineno
                if event == "line" and getattr(frame, "f_code", None) is request and at == line:
                    sys.settrace(None)
                    self.request("SIGTERM", release_rest=True)
                return trace

            sys.settrace(trace)

    for line in range(20):
        stop = Interrupted()
        stop.interrupt_at(line)
        stop.request("idle")
        sys.settrace(None)
        assert stop.reason in ("idle", "SIGTERM")
        if stop.release_rest:
            assert stop.reason == "SIGTERM"


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> SignalStop:
    """A stop whose end of the process can be seen."""

    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)
    return SignalStop()


def test_the_second_signal_ends_a_process_that_works(stop: SignalStop) -> None:
    """With the exit code that a shell reports."""
    stop.handle(SIGINT)
    assert (stop.reason, stop.leave_rest) == ("SIGINT", False)
    with pytest.raises(Ended) as ended:
        stop.handle(SIGTERM)
    assert ended.value.args == (143,)


def test_a_signal_during_the_release_leaves_the_rest_and_the_next_one_ends_the_process(
    stop: SignalStop,
) -> None:
    """Whether it is the first one or not."""
    stop.phase = Phase.RELEASING
    assert stop.leave_hint == "; Ctrl-C leaves them to the visibility timeout"
    stop.handle(SIGTERM)
    assert stop.leave_rest
    with pytest.raises(Ended):
        stop.handle(SIGTERM)


@pytest.mark.parametrize(("number", "name"), [(SIGTERM, "SIGTERM"), (SIGINT, "Ctrl-C")])
def test_the_hint_names_the_signal_that_came(stop: SignalStop, number: int, name: str) -> None:
    """Nobody can press Ctrl-C in a container."""
    stop.handle(number)
    assert stop.leave_hint == f"; {name} again leaves them to the visibility timeout"


def test_deletes_are_finished_after_the_first_signal_and_left_after_the_second(
    stop: SignalStop,
) -> None:
    """They belong to a batch that is loaded."""
    stop.phase = Phase.ACKNOWLEDGING
    stop.handle(SIGTERM)
    assert not stop.leave_rest
    stop.handle(SIGTERM)
    assert stop.leave_rest


def test_time_that_is_up_during_a_request_is_noticed() -> None:
    """The reason of a run without any request is its time."""
    stop = Stop(ends_at=time.monotonic() - 1)
    assert stop.reason == "max_seconds"
    assert not stop.release_rest
