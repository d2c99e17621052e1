"""When receiving ends, on queues that answer late, wrongly or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from etl.config import Settings
from etl.dry_run import dry_run
from etl.errors import QueueRefused, QueueUnavailable
from etl.sqs.limits import Limits
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry, Queue, QueueState
from etl.sqs.timers import MAX_IN_FLIGHT
from tests.conftest import Job
from tests.integration.running_receivers import Start, drained, running_receivers
from tests.integration.waiting import wait_until

LIMITS = Limits(
    max_rows=100,
    max_bytes=1_000_000,
    batch_seconds=60,
    idle_seconds=0.5,
    max_seconds=None,
    wait_seconds=5,
    retry_seconds=60,
    quiet_seconds=0.2,
    undelivered_seconds=2,
)


class StandInQueue:
    """A queue that follows a plan: what each receive does, and what the queue says of itself."""

    def __init__(self, messages: int = 0) -> None:
        self.left = messages
        self.waits: list[float] = []
        self.asked = 0
        self.state_error: Exception | None = None
        self.in_flight = 0
        self.before_answer: Callable[[int], None] = lambda _: None
        self._lock = threading.Lock()

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Do what the plan says, then deliver what is left, or wait."""
        with self._lock:
            number = len(self.waits)
            self.waits.append(wait_seconds)
        self.before_answer(number)
        with self._lock:
            came = min(limit, self.left)
            self.left -= came
        if not came:
            time.sleep(wait_seconds)
        return [Message(f"m{number}-{i}", "x", "handle", 0, None) for i in range(came)]

    def state(self) -> QueueState:
        """Say what is visible, or fail."""
        self.asked += 1
        if self.state_error is not None:
            raise self.state_error
        return QueueState(30, visible=self.left, in_flight=self.in_flight)

    def extend(self, _handles: list[Handle], _seconds: int) -> list[FailedEntry]:
        """Extend, for the heartbeat."""
        return []


@pytest.fixture
def start() -> Iterator[Start]:
    """Start receivers on a queue, which end with the test."""
    with running_receivers(LIMITS, threads=1) as start:
        yield start


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_slower_than_the_idle_time_do_not_end_the_run(start: Start, threads: int) -> None:
    """All messages are received, although each answer takes longer than the idle time."""
    queue = StandInQueue(55)
    queue.before_answer = lambda _: time.sleep(0.6)
    receiver, stop = start(queue, threads)
    assert drained(receiver) == 55
    assert stop.reason == "idle"


def test_a_poll_without_an_answer_is_waited_for(start: Start) -> None:
    """One thread is told that the queue is empty, while another still waits to hear.

    After a while it is asked again, since the answer to the other poll may never come.
    """
    queue = StandInQueue(30)
    answer = threading.Event()
    was_told: list[bool] = []

    def hang(number: int) -> None:
        time.sleep(0.01)  # or one thread would receive alone
        if number == 3:
            was_told.append(answer.wait(30))
            queue.left = 7

    queue.before_answer = hang
    receiver, stop = start(queue, threads=2, wait_seconds=1)
    with ThreadPoolExecutor(1) as pool:
        total = pool.submit(drained, receiver)
        idle_at = time.monotonic() + 4 * LIMITS.idle_seconds
        while (len(queue.waits) < 12 or time.monotonic() < idle_at) and not total.done():
            time.sleep(0.01)
        reason = stop.reason
        answer.set()
        assert (reason, total.result(), was_told) == (None, 37, [True])
    assert stop.reason == "idle"


def test_an_outage_is_not_silence(start: Start) -> None:
    """It lasts longer than the idle time, and then the messages come."""
    queue = StandInQueue(5)

    def fail(number: int) -> None:
        if number < 4:
            time.sleep(0.2)
            raise QueueUnavailable("away")

    queue.before_answer = fail
    receiver, stop = start(queue)
    assert drained(receiver) == 5
    assert stop.reason == "idle"


def test_polls_are_no_longer_than_the_idle_time(start: Start) -> None:
    """All together, and the run asks the queue once before it ends."""
    queue = StandInQueue()
    receiver, stop = start(queue, idle_seconds=2.5)
    assert drained(receiver) == 0
    assert stop.reason == "idle"
    assert sum(queue.waits) <= 2.5
    assert len(queue.waits) < 15
    assert queue.asked == 1


def test_polls_are_no_longer_than_the_run(start: Start) -> None:
    """The run does not end later because of a poll."""
    queue = StandInQueue()
    receiver, stop = start(queue, idle_seconds=60, max_seconds=1.5)
    assert drained(receiver) == 0
    assert stop.reason == "max_seconds"
    receiver.end()
    assert max(queue.waits) <= 1
    assert len(queue.waits) < 12


def test_a_queue_without_long_polls_is_not_asked_all_the_time(start: Start) -> None:
    """With wait_seconds at 0, or at the limit in flight, the answers come at once."""
    queue = StandInQueue()
    receiver, _ = start(queue, threads=2, wait_seconds=0, idle_seconds=2)
    assert drained(receiver) == 0
    assert len(queue.waits) < 30


def test_messages_that_are_visible_but_come_late_are_waited_for(start: Start) -> None:
    """The polls were answered with nothing for longer than the idle time."""
    queue = StandInQueue(5)
    receive = queue.receive

    def deliver_later(limit: int, wait_seconds: int) -> list[Message]:
        if queue.asked < 3:
            return []
        return receive(limit, wait_seconds)

    queue.receive = deliver_later  # type: ignore[method-assign]
    receiver, stop = start(queue, undelivered_seconds=60)
    assert drained(receiver) == 5
    assert stop.reason == "idle"


def test_at_the_limit_in_flight_the_run_goes_on(start: Start) -> None:
    """Long polls are answered with nothing, at once, until other consumers have done their work."""
    queue = StandInQueue(5)
    queue.in_flight = int(MAX_IN_FLIGHT) + 1
    receive = queue.receive

    def deliver_later(limit: int, wait_seconds: int) -> list[Message]:
        queue.waits.append(wait_seconds)
        if queue.asked < 4:
            return []
        queue.in_flight = 0
        return receive(limit, wait_seconds)

    queue.receive = deliver_later  # type: ignore[method-assign]
    receiver, stop = start(queue, undelivered_seconds=0)
    assert drained(receiver) == 5
    assert stop.reason == "idle"


def test_a_count_that_is_never_delivered_ends_the_run_in_the_end(start: Start) -> None:
    """It may be out of date."""
    queue = StandInQueue(5)
    queue.receive = lambda _limit, wait_seconds: time.sleep(wait_seconds) or []  # type: ignore
    receiver, stop = start(queue, undelivered_seconds=1)
    assert drained(receiver) == 0
    assert stop.reason == "idle"
    assert queue.asked >= 2


@pytest.mark.parametrize("error", [QueueRefused("no right"), QueueUnavailable("away")])
def test_a_run_ends_although_it_may_not_ask_the_queue(start: Start, error: Exception) -> None:
    """The polls have answered, which is all that it can know."""
    queue = StandInQueue(5)
    queue.state_error = error
    receiver, stop = start(queue, undelivered_seconds=1)
    assert drained(receiver) == 5
    assert stop.reason == "idle"


def test_a_batch_closes_when_nothing_follows_it(start: Start) -> None:
    """Neither its age nor the idle time is waited for."""
    receiver, stop = start(StandInQueue(50), wait_seconds=1, idle_seconds=600, batch_seconds=600)
    batch = receiver.take()
    assert batch is not None
    assert (len(batch), stop.reason) == (50, None)


def test_a_first_batch_of_all_that_waited_is_not_held_for_more(start: Start) -> None:
    """Nothing tells that no message follows; the next batch is closed as usual."""
    receiver, _ = start(StandInQueue(50), waiting=50, quiet_seconds=600, batch_seconds=600)
    assert len(receiver.take() or []) == 50


def test_no_batch_begins_when_the_time_is_up(start: Start) -> None:
    """What was gathered during the last load is left to be released."""
    receiver, stop = start(StandInQueue(1000), max_rows=30)
    first = receiver.take()
    assert first is not None
    assert wait_until(lambda: receiver.buffered >= 30)  # during a slow load
    stop.request_after(0)
    assert receiver.take() is None
    assert stop.reason == "max_seconds"
    assert len(receiver.end()) == 30


def test_a_batch_that_is_waited_for_when_the_time_is_up_begins_at_once(start: Start) -> None:
    """Or a queue with few messages would be received again and again and never loaded."""
    receiver, stop = start(StandInQueue(20), quiet_seconds=60, idle_seconds=60, wait_seconds=1)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(receiver.take)
        assert wait_until(lambda: receiver._polling.is_awaited and receiver.buffered == 20)
        stop.request_after(0)
        batch = taken.result()
    assert batch is not None
    assert (len(batch), stop.reason) == (20, "max_seconds")
    assert receiver.take() is None


def test_a_quota_that_is_used_up_loads_nothing_after_the_time_either(start: Start) -> None:
    """The time is the harder limit."""
    receiver, stop = start(StandInQueue(60), max_messages=60, max_rows=30)
    assert receiver.take() is not None
    assert wait_until(lambda: receiver.buffered == 30)
    stop.request_after(0)
    assert receiver.take() is None


def test_an_outage_that_lasts_until_the_time_is_up_is_an_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has not done its work, so it must not look as if it had."""
    monkeypatch.setattr("etl.sqs.polling.MAX_AWAY_SECONDS", 0.3)
    queue = StandInQueue(5)

    def fail(_number: int) -> None:
        raise QueueUnavailable("away")

    queue.before_answer = fail
    receiver, stop = start(queue, max_seconds=1)
    assert drained(receiver) == 0
    assert stop.reason == "max_seconds"
    with pytest.raises(QueueUnavailable, match="away"):
        receiver.raise_error()


@pytest.mark.timeout(60)
def test_a_dry_run_that_has_messages_does_not_wait_for_an_old_count(
    job: Job, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue's own count may still have the messages that the look has received."""
    for name, value in job.environment.items():
        monkeypatch.setenv(name, value)
    job.send(*["{}"] * 5)
    state = Queue.state
    monkeypatch.setattr(Queue, "state", lambda queue: replace(state(queue), visible=500))
    looked = dry_run(settings(run__max_messages=100, run__idle_seconds=3600), job.environment)
    assert (looked.summary.counts.received, looked.summary.stop_reason) == (5, "idle")
