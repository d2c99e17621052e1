"""When held messages are extended: the rules alone, and a simulated SQS that answers late."""

from __future__ import annotations

import heapq
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from etl.sqs.heartbeat import MAX_HEARTBEAT_THREADS, Heartbeat
from etl.sqs.message import Handle, Message
from etl.sqs.pace import Pace
from etl.sqs.queue import FailedEntry
from etl.sqs.schedule import Schedule


def handle(number: int, receipt: str = "h") -> Handle:
    """Make the handle of a message."""
    return Handle(f"m{number}", receipt)


def ids(handles: list[Handle]) -> list[str]:
    """The message ids."""
    return [taken.message_id for taken in handles]


def test_a_message_is_due_after_half_of_its_timeout() -> None:
    """And once more when half of the next one has passed."""
    schedule = Schedule(30)
    schedule.hold([handle(1)], 1000)
    for due in (1015.0, 1030.0, 1045.0):
        assert not schedule.is_due(due - 0.1)
        assert schedule.take_due(due - 0.1) == ([], [])
        assert schedule.is_due(due)
        assert ids(schedule.take_due(due)[0]) == ["m1"]
    assert len(schedule) == 1


def test_ten_are_taken_at_a_time_oldest_first() -> None:
    """Each of them once."""
    schedule = Schedule(30)
    for number in range(25):
        schedule.hold([handle(number)], 1000 + number / 100)
    taken = [ids(schedule.take_due(1020)[0]) for _ in range(4)]
    assert [len(ten) for ten in taken] == [10, 10, 5, 0]
    assert [i for ten in taken for i in ten] == [f"m{number}" for number in range(25)]


def test_a_failed_extension_is_tried_again_three_times_in_time() -> None:
    """Before the message shows again, 15 s after it was due."""
    schedule = Schedule(30)
    schedule.hold([handle(1)], 1000)
    tries = []
    now = 1000.0
    while now < 1030:
        for taken in schedule.take_due(now)[0]:
            tries.append(now)
            schedule.has_failed([taken], now)
        now += 0.25
    assert tries == [1015, 1018.75, 1022.5, 1026.25]


def test_a_message_that_came_again_is_extended_by_its_newest_handle() -> None:
    """And what happens to the old handle does not concern it."""
    schedule = Schedule(30)
    schedule.hold([handle(1, "old")], 1000)
    schedule.hold([handle(1, "new")], 1010)
    schedule.let_go([handle(1, "old")])
    schedule.has_failed([handle(1, "old")], 1010)
    assert schedule.take_due(1024.9) == ([], [])
    assert schedule.take_due(1025.0)[0] == [handle(1, "new")]


def test_a_message_is_given_up_before_twelve_hours() -> None:
    """SQS would refuse to extend it."""
    schedule = Schedule(600)
    schedule.hold([handle(1)], 0)
    now, extended = 0.0, 0
    while len(schedule):
        now += 300
        taken, too_long = schedule.take_due(now)
        extended += len(taken)
    assert too_long == ["m1"]
    assert extended > 100
    assert now + 600 > 12 * 3600


@pytest.mark.parametrize("failed", [False, True])
def test_a_message_that_is_let_go_leaves_nothing_behind(failed: bool) -> None:
    """Not even until its time would have come: at 1,000 a second that would be 300 MB an hour."""
    schedule = Schedule(3600)

    def handle_a_batch(number: int) -> None:
        batch = [handle(number * 1000 + i, f"receipt {number} {i}") for i in range(1000)]
        for held in batch:
            schedule.hold([held], number)
        if failed:
            schedule.has_failed(batch, number)
        for held in batch:
            schedule.let_go([held])

    handle_a_batch(0)
    tracemalloc.start()
    for number in range(1, 31):
        handle_a_batch(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(schedule) == 0
    assert kept < 300_000  # 30,000 messages at 10 bytes


class SimulatedSqs:
    """Answers each extension after *call_seconds*; notes the messages that showed again."""

    def __init__(self, visibility: float, call_seconds: float) -> None:
        self.visibility = visibility
        self.call_seconds = call_seconds
        self.hidden_until: dict[str, float] = {}
        self.shown: Counter[str] = Counter()

    def extend(self, handles: list[Handle], answered_at: float) -> None:
        """Extend; the effect comes with the answer, which is the worst case."""
        for extended in handles:
            if self.hidden_until[extended.message_id] < answered_at:
                self.shown[extended.message_id] += 1
            self.hidden_until[extended.message_id] = answered_at + self.visibility


def keep_hidden(sqs: SimulatedSqs, held: int, seconds: float, cpu_seconds: float) -> None:
    """Hold messages as the heartbeat does: more threads when it is behind, up to its maximum.

    :param cpu_seconds: of each call, in which no other thread can begin one
    """
    schedule = Schedule(sqs.visibility)
    for number in range(held):
        schedule.hold([handle(number)], 0.0)
        sqs.hidden_until[f"m{number}"] = sqs.visibility
    tick = min(0.5, sqs.visibility / 16)
    now, cpu_free, next_tick = 0.0, 0.0, tick
    callers: list[float] = []  # when each thread is free again
    while now < seconds:
        now = min([next_tick, *callers[:1]])
        if now == next_tick:
            next_tick += tick
            if schedule.is_due(now) and not callers:
                heapq.heappush(callers, now)
                continue
        else:
            heapq.heappop(callers)
            taken, _ = schedule.take_due(now)
            if taken:
                cpu_free = max(now, cpu_free) + cpu_seconds
                answered = cpu_free + sqs.call_seconds
                sqs.extend(taken, answered)
                heapq.heappush(callers, answered)
        if schedule.is_behind(now) and len(callers) < MAX_HEARTBEAT_THREADS:
            heapq.heappush(callers, now)


@pytest.mark.parametrize("visibility", [2, 10, 30, 120])
@pytest.mark.parametrize("call_seconds", [0.002, 0.02, 0.1, 0.3])
def test_what_the_pace_lets_a_job_hold_stays_hidden(visibility: int, call_seconds: float) -> None:
    """Through a load that takes five times the visibility timeout, whatever SQS takes to answer."""
    pace = Pace(10_000, visibility, MAX_HEARTBEAT_THREADS)
    for number in range(40):
        pace.loader_is_free(number / 10)
        pace.batch_was_taken(pace.rows, number / 10, call_seconds)
    sqs = SimulatedSqs(visibility, call_seconds)
    keep_hidden(sqs, 2 * pace.rows, 5 * visibility, cpu_seconds=0.002)
    assert sqs.shown == {}


def test_two_full_batches_at_a_short_timeout_would_not_stay_hidden() -> None:
    """This is how the heartbeat fell behind: 2,000 calls in every five seconds."""
    sqs = SimulatedSqs(10, 0.02)
    keep_hidden(sqs, 20_000, 50, cpu_seconds=0.004)
    assert sqs.shown


@pytest.mark.parametrize("final", [True, False])
def test_a_message_that_was_deleted_meanwhile_is_no_failed_extension(
    final: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its delete and its extension were on their way at the same time."""

    class Deleted:
        """A queue whose answer comes after the messages were deleted."""

        def extend(self, handles: Sequence[Handle], _seconds: int) -> list[FailedEntry]:
            heartbeat.let_go(handles[:2])
            return [FailedEntry(failed, "Gone", final) for failed in handles]

    queue: Any = Deleted()
    heartbeat = Heartbeat(queue, 30)
    heartbeat.hold([Message(f"m{i}", "", "h", 0, None) for i in range(3)])
    heartbeat._extend([handle(i) for i in range(2)])
    assert caplog.text == ""
    heartbeat._extend([handle(i) for i in range(3)])
    assert "did not extend 1 of the held messages: Gone" in caplog.text
    assert len(heartbeat) == int(not final)
