"""How many receives are in flight, on queues that answer after a while, not at all, or too late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from etl.errors import QueueUnavailable
from etl.sqs.limits import Limits
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry, QueueState
from tests.integration.running_receivers import Start, drained, running_receivers
from tests.integration.waiting import wait_until

LIMITS = Limits(
    max_rows=1_000,
    max_bytes=1_000_000,
    batch_seconds=60,
    idle_seconds=4,
    max_seconds=None,
    wait_seconds=1,
    retry_seconds=60,
)
MAX_RECEIVERS = 8


class SlowQueue:
    """A queue that takes 10 ms to answer, and notes who receives."""

    def __init__(self, messages: int, receive_count: int = 1) -> None:
        self.left = messages
        self.receivers: list[str] = []  # the thread of each receive
        self.together: list[int] = []  # receives in flight, with each of them
        self.in_flight = 0
        self.fails: Callable[[], bool] = lambda: False
        self._receive_count = receive_count
        self._lock = threading.Lock()

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Deliver what is left, or fail, or wait for what never comes."""
        with self._lock:
            number = len(self.receivers)
            self.receivers.append(threading.current_thread().name)
            self.in_flight += 1
            self.together.append(self.in_flight)
            fails = self.fails()
            came = 0 if fails else min(limit, self.left)
            self.left -= came
        time.sleep(0.01 if came or fails else wait_seconds)
        with self._lock:
            self.in_flight -= 1
        if fails:
            raise QueueUnavailable("throttled")
        return [
            Message(f"m{number}-{i}", "x", "h", 0, None, receive_count=self._receive_count)
            for i in range(came)
        ]

    def state(self) -> QueueState:
        """Say what is visible."""
        return QueueState(30, visible=self.left, in_flight=0)

    def extend(self, _handles: list[Handle], _seconds: int) -> list[FailedEntry]:
        """Extend, for the heartbeat."""
        return []


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a receiver on a queue, which ends with the test."""
    with running_receivers(LIMITS, MAX_RECEIVERS) as start:
        yield start


def test_a_full_queue_is_received_by_all_receivers(start: Start) -> None:
    """Each answer takes as long as ten messages would take to be loaded."""
    queue = SlowQueue(2_000)
    receiver, stop = start(queue)
    assert drained(receiver) == 2_000
    assert (max(queue.together), stop.reason) == (MAX_RECEIVERS, "idle")


def test_an_empty_queue_is_polled_by_one_receiver(start: Start) -> None:
    """Those that were in flight when the last message came are answered, and then rest."""
    queue = SlowQueue(500)
    receiver, _ = start(queue)
    assert drained(receiver) == 500
    assert max(queue.together) > 1
    assert queue.together[-3:] == [1, 1, 1]


def test_a_queue_that_was_always_empty_is_polled_by_one_receiver(start: Start) -> None:
    """No other thread is even started."""
    queue = SlowQueue(0)
    receiver, _ = start(queue)
    assert drained(receiver) == 0
    assert set(queue.receivers) == {"receiver-0"}


def test_one_receiver_waits_out_an_outage(start: Start) -> None:
    """The others would only add to what SQS has too much of."""
    queue = SlowQueue(2_000)
    failed: list[str] = []

    def fails() -> bool:
        if queue.left > 1_000 or len(failed) > MAX_RECEIVERS + 4:
            return False
        failed.append(threading.current_thread().name)
        return True

    queue.fails = fails
    receiver, stop = start(queue)
    assert drained(receiver) == 2_000
    assert len(set(failed[-4:])) == 1
    assert stop.reason == "idle"


def test_a_queue_that_allows_few_receives_is_drained_by_few(start: Start) -> None:
    """What is over the limit fails, and is tried again once fewer are in flight."""
    queue = SlowQueue(1_000)
    queue.fails = lambda: queue.in_flight > 2
    receiver, stop = start(queue)
    assert drained(receiver) == 1_000
    assert stop.reason == "idle"


def test_messages_with_few_receives_left_are_received_by_few(start: Start) -> None:
    """What is in flight when a process is killed becomes a dead letter."""
    queue = SlowQueue(200, receive_count=3)
    receiver, _ = start(queue, max_receive_count=3)
    assert drained(receiver) == 200
    assert max(queue.together) <= 2


def test_a_stop_ends_the_parked_receivers_too(start: Start) -> None:
    """The end of a run waits for its threads."""
    queue = SlowQueue(1_000)
    receiver, stop = start(queue, max_rows=300, grows=False)
    receiver.take()  # its buffer fills up again, and then one thread waits for room
    assert wait_until(lambda: receiver.buffered >= 300)
    stop.request("SIGTERM", release_rest=True)
    assert len(receiver.end()) == 300
    assert not [t for t in threading.enumerate() if t.name.startswith("receiver")]
