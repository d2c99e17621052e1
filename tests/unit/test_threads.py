"""Threads that are parked while they are not needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from etl.sqs.threads import Threads

SECONDS = 60  # a deadline, reached only by a bug


class Crowd:
    """Threads that work or park as they are told."""

    def __init__(self) -> None:
        self.threads = Threads("crowd", self._work)
        self.lock = self.threads.lock
        self.changed = threading.Condition(self.lock)
        self.wanted = 0
        self.ends = False
        self.at_work: set[int] = set()
        self.started: list[int] = []

    def _work(self, number: int) -> None:
        with self.lock:
            self.started.append(number)
            while not self.ends:
                if self.threads.working > self.wanted:
                    self.at_work.discard(number)
                    self.changed.notify_all()
                    self.threads.park()
                    continue
                self.at_work.add(number)
                self.changed.notify_all()
                self.changed.wait(SECONDS)
            self.threads.one_ended()

    def want(self, number: int) -> int:
        """Let this many work; return how many do."""
        with self.lock:
            self.wanted = number
            self.threads.put_to_work(number)
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(self.at_work) == number, SECONDS)
            return self.threads.working

    def end(self) -> None:
        """End all threads."""
        with self.lock:
            self.ends = True
            self.threads.wake_all()
            self.changed.notify_all()
        self.threads.join(0.01, lambda: False)


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """End the threads with the test."""
    made = Crowd()
    yield made
    made.end()


def test_a_thread_starts_when_it_is_first_needed(crowd: Crowd) -> None:
    """Most runs never need all that are allowed."""
    assert crowd.started == []
    assert crowd.want(2) == 2
    assert sorted(crowd.started) == [0, 1]


def test_a_parked_thread_is_woken_before_another_is_started(crowd: Crowd) -> None:
    """Threads are started once; later on they only take turns."""
    assert [crowd.want(number) for number in (3, 1, 3, 2, 4)] == [3, 1, 3, 2, 4]
    assert sorted(crowd.started) == [0, 1, 2, 3]


def test_parked_threads_end_with_the_others(crowd: Crowd) -> None:
    """The end of a run waits for all of them."""
    crowd.want(3)
    crowd.want(1)
    crowd.end()
    assert crowd.threads.working == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("crowd")]


def test_a_system_that_allows_no_more_threads_gets_along_with_those_it_has(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They receive more slowly, but they do; without any, nothing would ever come."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crowd.want(1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    crowd.threads.put_to_work(3)
    assert crowd.threads.working == 1
    with pytest.raises(RuntimeError):
        Threads("none", lambda _: None).put_to_work(1)
