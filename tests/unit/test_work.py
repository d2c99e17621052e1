"""The clock of work: what counts as work, and what as waiting."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from etl.sqs.work import MAX_RECEIVE_SECONDS, WorkClock, Workload
from etl.workers.results import WorkTogether


def test_overlapping_work_counts_once() -> None:
    """Deletes go on while the next batch is loaded."""
    clock = WorkClock()
    clock.begin(10)
    clock.begin(11)
    assert clock.seconds(12) == 2
    clock.end(13)
    clock.end(15)
    assert clock.seconds(100) == 5


def test_a_long_poll_that_brings_messages_was_mostly_waiting() -> None:
    """SQS answers at once if it has any."""
    clock = WorkClock()
    clock.receive_brought_messages(0.0, 20.0)
    assert clock.seconds(20.0) == MAX_RECEIVE_SECONDS
    clock.receive_brought_messages(30.0, 30.1)
    assert clock.seconds(40.0) == pytest.approx(MAX_RECEIVE_SECONDS + 0.1)


def test_receives_count_once_beside_other_work() -> None:
    """Also one that began before the work in progress."""
    clock = WorkClock()
    clock.begin(10.0)
    clock.receive_brought_messages(9.9, 10.1)
    clock.receive_brought_messages(10.0, 10.2)
    clock.end(11.0)
    clock.receive_brought_messages(10.9, 11.1)
    assert clock.seconds(50.0) == pytest.approx(1.2)


@pytest.mark.parametrize("seed", range(20))
def test_work_is_never_more_than_the_time(seed: int) -> None:
    """In any order of events."""
    made = random.Random(seed)
    clock = WorkClock()
    now = 0.0
    open_pieces = 0
    for _ in range(300):
        now += made.random() / 3
        what = made.randrange(3)
        if what == 0:
            clock.begin(now)
            open_pieces += 1
        elif what == 1 and open_pieces:
            clock.end(now)
            open_pieces -= 1
        else:
            clock.receive_brought_messages(max(now - made.random(), 0.0), now)
        assert 0 <= clock.seconds(now) <= now + 1e-9


def test_what_is_no_work_is_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the opening to the end."""
    now = [100.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("etl.sqs.work.time", clock)
    workload = Workload()
    workload.open()
    now[0] = 107.0
    workload.batch_was_taken(10)
    now[0] = 109.0
    workload.batch_is_done()
    workload.batch_is_done()
    now[0] = 110.0
    workload.close()
    now[0] = 200.0
    assert (workload.work.seconds, workload.work.waiting_seconds) == (2.0, 8.0)
    assert workload.taken == 10


def test_workers_that_work_at_the_same_time_count_once() -> None:
    """And one that begins later is not lost."""
    together = WorkTogether()
    together.note([1.0, 0.5])
    together.note([2.0, 1.5])
    together.note([2.0, 1.5, 0.7])
    assert together.seconds == pytest.approx(2.7)
