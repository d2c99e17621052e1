"""Calls to SQS that wait for a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.sqs import call_queue
from etl.sqs.call_queue import AtOnce, CallQueue


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Make a pool of two threads."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_answers_come_in_order_without_anyone_receiving() -> None:
    """Threads of its own make the calls when no receiver takes them."""
    assert CallQueue(2).map(lambda number: number * 2, list(range(50))) == list(range(0, 100, 2))


def test_no_items_need_no_call() -> None:
    """An empty list of items returns at once."""
    assert CallQueue(2).map(str, []) == []


def test_a_receiver_makes_the_calls(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in the receiver's thread for as long as it takes them."""
    monkeypatch.setattr(call_queue, "TAKE_OVER_SECONDS", 60)
    waiting = CallQueue(2)
    made_in: list[int] = []
    result = pool.submit(waiting.map, lambda _: made_in.append(threading.get_ident()), range(30))
    while not result.done():
        waiting.do_one()
    assert made_in == [threading.get_ident()] * 30


def test_a_receiver_that_stops_asking_leaves_the_rest_to_others(
    pool: ThreadPoolExecutor,
) -> None:
    """This is so when the receiver waits in a long poll."""
    waiting = CallQueue(2)
    made_in: list[int] = []
    result = pool.submit(waiting.map, lambda _: made_in.append(threading.get_ident()), range(30))
    while not waiting.do_one():
        pass
    result.result(timeout=60)
    assert len(made_in) == 30
    assert len(set(made_in)) > 1


def test_a_receiver_that_is_too_slow_is_helped(pool: ThreadPoolExecutor) -> None:
    """It makes a call now and then, between the polls of a queue that is almost empty."""
    waiting = CallQueue(2)
    is_helped = threading.Event()
    receiver = threading.get_ident()

    def call(_: int) -> None:
        if threading.get_ident() != receiver:
            is_helped.set()

    result = pool.submit(waiting.map, call, range(1_000))
    while not result.done():
        waiting.do_one()
        is_helped.wait(0.02)
    assert is_helped.is_set()


def test_there_is_nothing_to_do_when_nothing_waits() -> None:
    """``do_one`` returns False when no call is waiting."""
    waiting = CallQueue(2)
    assert not waiting.are_waiting
    assert not waiting.do_one()


def test_what_a_call_raises_reaches_whom_it_is_for() -> None:
    """The caller of ``map`` gets the error, not the receiver that made the call."""

    def fail(_: int) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        CallQueue(2).map(fail, [1, 2, 3])


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_so_many_calls_are_in_progress_at_once_and_no_more(threads: int) -> None:
    """All of them wait for each other, so fewer would never end; one more would be seen."""
    together = threading.Barrier(threads, timeout=60)
    lock = threading.Lock()
    in_progress, most = 0, 0

    def call(_: int) -> None:
        nonlocal in_progress, most
        with lock:
            in_progress += 1
            most = max(most, in_progress)
        together.wait()
        with lock:
            in_progress -= 1

    AtOnce(CallQueue(threads)).map(call, list(range(4 * threads)))
    assert most == threads


def test_slow_answers_do_not_bring_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long nothing is answered."""
    monkeypatch.setattr(call_queue, "TAKE_OVER_SECONDS", 0.001)
    answered = threading.Event()
    threading.Timer(0.5, answered.set).start()
    in_threads: set[int] = set()

    def call(_: int) -> None:
        in_threads.add(threading.get_ident())
        answered.wait(60)

    CallQueue(3).map(call, list(range(30)))
    assert len(in_threads) <= 3


def test_calls_that_are_left_have_no_answer_and_nobody_waits_for_them() -> None:
    """Also when an answer never comes."""
    never = threading.Event()
    left = threading.Event()

    def call(number: int) -> int:
        if number >= 3:
            left.set()
            never.wait()
        return number

    calls = CallQueue(1, left.is_set)
    assert AtOnce(calls).map(call, list(range(50))) == [0, 1, 2, *[None] * 47]
    never.set()
