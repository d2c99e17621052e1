"""Worker processes: one that meets a bug, and when one that died is replaced."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import config, logs
from etl.runs import Run, Share, WorkerResult
from etl.sqs.limits import NoQuota
from etl.workers import process
from etl.workers.pool import first_batch
from etl.workers.restarts import Restarts
from tests.unit.builders import ROOT


def test_a_bug_in_a_worker_is_shown_without_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, multiprocessing would print the whole traceback, with the values in it."""

    def buggy(*_: Any) -> WorkerResult:
        raise ValueError("canary-value")

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logs, "hide_values_in_tracebacks", lambda: None)
    monkeypatch.setattr(logs, "start", lambda *_: None)
    settings = config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"})
    parent_end, worker_end = multiprocessing.Pipe()
    with parent_end, pytest.raises(SystemExit) as ended:
        process.run_worker(settings, Share(Run("run", "hash")), NoQuota(), worker_end, buggy)
    assert ended.value.code == 1
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "canary" not in shown


def test_a_dead_worker_is_replaced_soon_and_later_each_time() -> None:
    """Until so many have died within ten minutes that another one would not help."""
    restarts = Restarts(workers=2)
    pauses = [restarts.died(1000.0 + second) for second in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 32, None]


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
def test_deaths_that_are_far_apart_are_replaced_for_ever(workers: int) -> None:
    """A worker that dies once a week is replaced after a second each time."""
    restarts = Restarts(workers)
    assert {restarts.died(week * 604_800.0) for week in range(100)} == {1.0}


def test_no_pause_is_longer_than_a_minute() -> None:
    """However many workers there are, and die together."""
    restarts = Restarts(workers=64)
    pauses = [restarts.died(0.0) for _ in range(192)]
    assert max(pause for pause in pauses if pause) == 60
    assert None not in pauses
    assert restarts.died(1.0) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=6))
def test_no_two_batches_of_a_run_have_one_number(lives: list[tuple[int, int]]) -> None:
    """Whatever workers die after however many batches, each perhaps with one more on its way."""
    workers, committed, used = 4, 0, Counter[int]()
    run = Run("run", "hash")
    for index in range(workers):
        used.update(Share(run, index, workers).batch_number(batches) for batches in range(3))
        committed += 2
    for number, (index, batches) in enumerate(lives):
        share = Share(run, index, workers, first_batch=first_batch(committed, number))
        used.update(share.batch_number(done) for done in range(batches + 1))
        committed += batches
    assert set(used.values()) == {1}
