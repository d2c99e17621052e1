"""How long polls are, when a batch closes and when a run is idle, at times of our own choosing."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from etl.sqs.limits import Limits
from etl.sqs.timers import (
    FALSE_ANSWERS,
    LATE_SECONDS,
    MAX_IN_FLIGHT,
    MAX_PAUSE_SECONDS,
    Timers,
)

A, B = 0, 1  # two polls that can be in progress at once


def timers(now: float = 1000.0, **changes: Any) -> Timers:
    """Start timers with an idle time of 30 s, a batch age of 20 s and a quiet time of 1 s."""
    return Timers(limits(**changes), now)


def limits(**changes: Any) -> Limits:
    """The limits of these timers."""
    values = {
        "max_rows": 10,
        "max_bytes": 100,
        "batch_seconds": 20.0,
        "idle_seconds": 30.0,
        "max_seconds": None,
        "wait_seconds": 5,
        "retry_seconds": 300.0,
        "quiet_seconds": 1.0,
        "undelivered_seconds": 60.0,
    }
    return Limits(**{**values, **changes})


def empty(clock: Timers, began: float, now: float, wait: float = 5, poll: int = A) -> None:
    """Note a poll that was answered with nothing."""
    clock.poll_began(poll, began)
    clock.nothing_came(poll, wait, now)


def poll_seconds(
    clock: Timers, now: float, left: float = math.inf, *, is_awaited: bool = True
) -> float:
    """How long the next poll may last."""
    return clock.poll_seconds(now, left, is_awaited=is_awaited)


# Idle


def test_a_queue_is_idle_once_it_has_answered_so_for_the_idle_time() -> None:
    """Counted over the empty answers from the first to the newest."""
    clock = timers()
    for began in range(1000, 1025, 5):
        empty(clock, began, began + 5)
        assert not clock.is_idle
    empty(clock, 1025, 1030)
    assert clock.is_idle


def test_time_alone_is_not_silence() -> None:
    """Without an answer nothing is known, however long it takes."""
    clock = timers()
    assert not clock.is_idle
    clock.poll_began(A, 1000)
    assert not clock.is_idle
    clock.messages_came(A, 2000)
    assert not clock.is_idle


def test_a_late_answer_counts_for_no_more_than_its_poll() -> None:
    """The emulator was busy for a minute; the poll itself waited for five seconds at most."""
    clock = timers()
    empty(clock, 1000, 1060)
    assert not clock.is_idle
    empty(clock, 1060, 1065)
    assert not clock.is_idle


def test_a_poll_without_an_answer_keeps_the_run_going() -> None:
    """It may bring messages, whatever another poll has been told since."""
    clock = timers(idle_seconds=3.0)
    clock.poll_began(A, 1000)
    for began in range(1000, 1020):
        empty(clock, began, began + 1, wait=1, poll=B)
        assert not clock.is_idle
    clock.nothing_came(A, 1, 1020)
    empty(clock, 1020, 1021, wait=1, poll=B)
    assert clock.is_idle


def test_polls_that_began_after_the_idle_time_do_not_keep_the_run_going() -> None:
    """Or a queue that answers late would never be idle: a poll is always in progress."""
    clock = timers(idle_seconds=3.0)
    for began in range(1000, 1010, 2):
        empty(clock, began, began + 2, wait=1, poll=A)
        clock.poll_began(B, began + 2)
        clock.nothing_came(B, 1, began + 2)
    clock.poll_began(B, 1010)
    assert clock.is_idle


def _messages(clock: Timers) -> None:
    clock.poll_began(B, 1028)
    clock.messages_came(B, 1029)


def _outage(clock: Timers) -> None:
    clock.poll_began(B, 1020)
    clock.queue_was_away(B, 1029)


def _full_buffer(clock: Timers) -> None:
    clock.buffer_was_full()
    clock.batch_was_taken(1029)


@pytest.mark.parametrize("happens", [_messages, _outage, _full_buffer])
def test_what_is_not_silence_begins_the_idle_time_anew(happens: Callable[[Timers], None]) -> None:
    """Messages, an outage, or a time without room for messages."""
    clock = timers()
    empty(clock, 1000, 1020)
    happens(clock)
    clock.batch_was_taken(1029)
    empty(clock, 1029, 1034)
    assert not clock.is_idle
    empty(clock, 1054, 1059)
    assert clock.is_idle


def test_a_run_is_not_idle_while_it_waits_for_room() -> None:
    """An answer that was on its way does not change that."""
    clock = timers()
    empty(clock, 1000, 1005)
    clock.buffer_was_full()
    empty(clock, 1030, 1035)
    assert not clock.is_idle


def test_taking_a_batch_that_was_not_full_does_not_lengthen_the_idle_time() -> None:
    """The queue has been silent all the while."""
    clock = timers()
    clock.messages_came(A, 1001)
    empty(clock, 1001, 1006)
    clock.batch_was_taken(1021)
    empty(clock, 1026, 1031)
    assert clock.is_idle


def test_a_run_that_goes_on_forever_is_never_idle() -> None:
    """Its idle time has no end."""
    clock = timers(idle_seconds=math.inf)
    empty(clock, 1000, 1005)
    empty(clock, 1e9, 1e9 + 5)
    assert not clock.is_idle


# What the queue says of itself


def idle_timers(**changes: Any) -> Timers:
    """Timers that are idle at 1030."""
    clock = timers(**changes)
    empty(clock, 1000, 1005)
    empty(clock, 1025, 1030)
    assert clock.is_idle
    return clock


def test_a_run_ends_when_nothing_is_visible() -> None:
    """Messages in flight are another consumer's."""
    assert not idle_timers().goes_on(0, 5000, 1030)


def test_a_run_goes_on_while_messages_are_visible_and_asks_again_after_the_idle_time() -> None:
    """The empty answers so far count for nothing."""
    clock = idle_timers()
    assert clock.goes_on(1, 0, 1030)
    assert not clock.is_idle
    empty(clock, 1030, 1035)
    empty(clock, 1050, 1055)
    assert not clock.is_idle
    empty(clock, 1055, 1060)
    assert clock.is_idle


@pytest.mark.parametrize("undelivered_seconds", [10.0, 60.0])
def test_a_run_does_not_wait_without_end_for_messages_that_are_never_delivered(
    undelivered_seconds: float,
) -> None:
    """The count may be out of date, or another consumer may hold their FIFO group."""
    clock = idle_timers(undelivered_seconds=undelivered_seconds)
    now = 1030.0
    while clock.goes_on(7, 0, now):
        empty(clock, now, now + 5)
        now += 30
        empty(clock, now - 5, now)
    assert undelivered_seconds <= now - 1030 < undelivered_seconds + 30


def test_messages_that_come_after_all_give_the_run_its_patience_back() -> None:
    """Something was delivered, so the count was right."""
    clock = idle_timers()
    assert clock.goes_on(7, 0, 1030)
    clock.messages_came(A, 1085)
    clock.batch_was_taken(1085)
    assert clock.goes_on(7, 0, 1115)


def test_at_the_limit_in_flight_the_run_goes_on_for_as_long_as_it_takes() -> None:
    """SQS delivers again as soon as the other consumers have handled theirs."""
    clock = idle_timers()
    assert all(clock.goes_on(7, int(MAX_IN_FLIGHT) + 1, now) for now in range(1030, 9000, 30))
    assert clock.goes_on(7, 0, 9000)


def test_a_run_with_a_short_idle_time_does_not_ask_all_the_time() -> None:
    """At most once a second, so that many workers do not crowd the queue."""
    clock = timers(idle_seconds=0.1)
    asked = 0
    for tenth in range(100):
        now = 1000 + tenth / 10
        empty(clock, now, now, wait=0)
        if clock.is_idle:
            asked += 1
            clock.goes_on(1, 0, now)
    assert 8 <= asked <= 11


# The age of a batch, and a batch that nothing follows


def test_a_batch_is_old_by_its_first_message() -> None:
    """Later messages do not make it younger."""
    clock = timers()
    clock.messages_came(A, 1005.0)
    clock.messages_came(A, 1020.0)
    assert not clock.batch_is_old(1024.9)
    assert clock.batch_is_old(1025.0)


def test_a_batch_without_a_message_never_grows_old() -> None:
    """Neither before the first message nor after the batch was taken."""
    clock = timers()
    assert not clock.batch_is_old(1e9)
    clock.messages_came(A, 1005.0)
    clock.batch_was_taken(1010.0)
    assert not clock.batch_is_old(1e9)


def test_a_batch_is_quiet_after_a_poll_of_the_quiet_time() -> None:
    """A long poll of one second asks all servers of SQS."""
    clock = timers()
    clock.messages_came(A, 1005)
    empty(clock, 1005, 1006, wait=1)
    assert clock.is_quiet


def test_an_empty_answer_at_once_does_not_close_a_batch() -> None:
    """It may be false, since a short poll asks only some servers."""
    clock = timers()
    clock.messages_came(A, 1005)
    empty(clock, 1005, 1005.01, wait=0)
    empty(clock, 1005.01, 1005.02, wait=1)
    assert not clock.is_quiet
    clock.messages_came(A, 1005.5)
    empty(clock, 1006.4, 1006.4, wait=0)
    assert not clock.is_quiet


def test_one_empty_answer_closes_the_batch_of_a_fifo_queue() -> None:
    """The next messages of its groups come only after these have been deleted."""
    clock = timers(quiet_seconds=0.0)
    clock.messages_came(A, 1005)
    assert not clock.is_quiet
    empty(clock, 1005, 1005.01, wait=0)
    assert clock.is_quiet


def test_an_answer_to_a_short_poll_from_before_the_messages_says_nothing() -> None:
    """SQS may have looked before they were sent."""
    clock = timers(quiet_seconds=0.0)
    clock.poll_began(B, 1004)
    clock.messages_came(A, 1005)
    clock.nothing_came(B, 0, 1005.01)
    assert not clock.is_quiet


# The length of a poll


def test_a_poll_is_as_long_as_the_settings_say() -> None:
    """Nothing ends sooner."""
    assert poll_seconds(timers(), 1000) == 5
    assert poll_seconds(timers(wait_seconds=20), 1000) == 20


def test_a_poll_is_no_longer_than_what_is_left_of_the_idle_time() -> None:
    """And then the run ends when it should."""
    clock = timers(idle_seconds=12.0)
    empty(clock, 1000, 1005)
    assert poll_seconds(clock, 1005) == 5
    empty(clock, 1005, 1010)
    assert poll_seconds(clock, 1010) == 2
    assert poll_seconds(timers(idle_seconds=3.0), 1000) == 3
    assert poll_seconds(timers(idle_seconds=0.4), 1000) == pytest.approx(0.4)


def test_a_poll_is_no_longer_than_what_is_left_of_the_run() -> None:
    """Below a second it is a short poll."""
    assert poll_seconds(timers(), 1000, left=2.5) == 2.5
    assert poll_seconds(timers(), 1000, left=0.4) == 0.4
    assert poll_seconds(timers(), 1000, left=-1) == 0


def test_a_poll_is_no_longer_than_what_is_left_of_the_batch() -> None:
    """And no longer than the quiet time, while the batch may close."""
    clock = timers(quiet_seconds=10.0)
    clock.messages_came(A, 1000)
    assert poll_seconds(clock, 1016) == 4
    assert poll_seconds(clock, 1019.5) == 0.5
    clock = timers()
    clock.messages_came(A, 1000)
    assert poll_seconds(clock, 1000) == 1


def test_a_fifo_queue_is_polled_briefly_while_the_batch_may_close() -> None:
    """Its groups wait for the batch, so the batch must not wait for its groups."""
    clock = timers(quiet_seconds=0.0)
    assert poll_seconds(clock, 1000) == 5
    clock.messages_came(A, 1000)
    assert poll_seconds(clock, 1000) == 0
    empty(clock, 1000, 1000.1, wait=0)
    # It can close, but another batch is being loaded. A long poll spares the queue.
    assert poll_seconds(clock, 1000.1, is_awaited=False) == 5


def test_after_the_idle_time_polls_are_short_until_the_load_has_ended() -> None:
    """The run must not end later because of a poll."""
    clock = timers()
    empty(clock, 1000, 1030)
    empty(clock, 1030, 1060)
    assert poll_seconds(clock, 1060, is_awaited=False) == 1
    assert poll_seconds(clock, 1060, is_awaited=True) == 0


def test_answers_at_once_make_for_pauses_that_grow_but_not_the_first_ones() -> None:
    """An empty answer may be false; a row of them is a queue that is silent, or at its limit."""
    clock = timers()
    pauses = []
    for number in range(9):
        empty(clock, 1000 + number, 1000.01 + number, wait=0)
        pauses.append(clock.pause_seconds(0))
    assert pauses[:FALSE_ANSWERS] == [0] * FALSE_ANSWERS
    assert pauses == sorted(pauses)
    assert 0 < pauses[FALSE_ANSWERS] < pauses[-1] == MAX_PAUSE_SECONDS
    assert clock.pause_seconds(0.3) == 0.3  # no longer than what is left
    clock.messages_came(A, 1010)
    assert clock.pause_seconds(0) == 0


def test_a_queue_can_be_silent_for_days() -> None:
    """The pauses stop growing."""
    clock = timers(idle_seconds=math.inf)
    for number in range(100_000):
        empty(clock, 1000 + number, 1000 + number, wait=0)
    assert clock.pause_seconds(0) == MAX_PAUSE_SECONDS


def test_a_long_poll_needs_no_pause() -> None:
    """It has waited itself."""
    clock = timers()
    for number in range(5):
        empty(clock, 1000 + 5 * number, 1005 + 5 * number)
    assert clock.pause_seconds(5) == 0


def test_the_queue_is_away_from_the_first_failure_to_the_next_answer() -> None:
    """An empty answer is one too."""
    clock = timers()
    clock.poll_began(A, 1000)
    clock.queue_was_away(A, 1002)
    clock.poll_began(A, 1003)
    clock.queue_was_away(A, 1006)
    assert clock.away_seconds(1010) == 10
    empty(clock, 1010, 1011)
    assert clock.away_seconds(1012) == 0


# A whole run, on a simulated queue


@dataclass
class SimulatedQueue:
    """A queue whose answers take *slow_seconds* longer than they should."""

    messages: int
    slow_seconds: float = 0.0
    false_empty: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    waits: list[int] = field(default_factory=list)

    def receive(self, wait_seconds: int) -> tuple[int, float]:
        """How many messages come, and after how long."""
        self.waits.append(wait_seconds)
        if self.draw.random() < self.false_empty:
            return 0, 0.01 + self.slow_seconds
        came = min(10, self.messages)
        self.messages -= came
        return came, (0.01 if came else wait_seconds + 0.01) + self.slow_seconds


def drain(queue: SimulatedQueue, clock: Timers, now: float = 1000.0) -> tuple[list[int], float]:
    """Receive with one thread until idle; return the sizes of the batches, and the seconds."""
    start = now
    sizes = []
    gathered = 0
    while gathered or not (clock.is_idle and not clock.goes_on(queue.messages, 0, now)):
        if gathered and (clock.is_quiet or clock.batch_is_old(now)):
            sizes.append(gathered)
            gathered = 0
            clock.batch_was_taken(now)
            continue
        seconds = poll_seconds(clock, now)
        now += clock.pause_seconds(seconds)
        seconds = poll_seconds(clock, now)
        clock.poll_began(A, now)
        came, takes = queue.receive(int(seconds))
        now += takes
        if came:
            clock.messages_came(A, now)
            gathered += came
        else:
            clock.nothing_came(A, int(seconds), now)
    return sizes, now - start


@pytest.mark.parametrize("idle_seconds", [0.5, 1.0, 3.0, 7.5, 30.0])
def test_an_empty_queue_ends_the_run_when_the_idle_time_is_over(idle_seconds: float) -> None:
    """Not a poll later, and with few polls."""
    queue = SimulatedQueue(0)
    _, seconds = drain(queue, timers(idle_seconds=idle_seconds))
    assert idle_seconds <= seconds < idle_seconds + 0.5
    assert len(queue.waits) < 15
    assert sum(queue.waits) <= idle_seconds


@pytest.mark.parametrize("slow_seconds", [0.0, 2.0, 12.0, 100.0])
def test_a_slow_queue_is_drained_whatever_the_idle_time(slow_seconds: float) -> None:
    """An answer that takes long is not an empty one."""
    queue = SimulatedQueue(570, slow_seconds)
    sizes, _ = drain(queue, timers(idle_seconds=3.0))
    assert (sum(sizes), queue.messages) == (570, 0)


@pytest.mark.parametrize("quiet_seconds", [0.0, 1.0])
def test_false_empty_answers_lose_no_message(quiet_seconds: float) -> None:
    """On a standard queue they close no batch either."""
    queue = SimulatedQueue(5000, false_empty=0.3)
    sizes, _ = drain(queue, timers(idle_seconds=3.0, quiet_seconds=quiet_seconds))
    assert (sum(sizes), queue.messages) == (5000, 0)
    if quiet_seconds:
        assert len(sizes) == 1


def test_a_poll_that_lasts_too_long_is_late() -> None:
    """Its answer may never come, so it counts as none of the receives in progress."""
    clock = timers()
    clock.poll_began(A, 1000.0)
    clock.poll_began(B, 1001.0)
    late = 1000.0 + 5 + LATE_SECONDS
    assert [clock.late_polls(late + more) for more in (0, 0.5, 1.5)] == [0, 1, 2]
    clock.nothing_came(A, 5, late + 1.5)
    assert (clock.late_polls(late + 1.5), clock.polls_in_progress) == (1, 1)
