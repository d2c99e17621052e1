"""Calls to SQS that wait for a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.sqs import call_queue
from etl.sqs.call_queue import CallQueue


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Make a pool of two threads."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_answers_come_in_order_without_anyone_receiving(pool: ThreadPoolExecutor) -> None:
    """The pool makes the calls when no receiver takes them."""
    assert CallQueue(pool, 2).map(lambda number: number * 2, list(range(50))) == list(
        range(0, 100, 2)
    )


def test_no_items_need_no_call(pool: ThreadPoolExecutor) -> None:
    """An empty list of items returns at once."""
    assert CallQueue(pool, 2).map(str, []) == []


def test_a_receiver_makes_the_calls(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run in the receiver's thread for as long as it takes them."""
    monkeypatch.setattr(call_queue, "POOL_AFTER_SECONDS", 60)
    waiting = CallQueue(pool, 2)
    made_in: list[int] = []
    result = pool.submit(waiting.map, lambda _: made_in.append(threading.get_ident()), range(30))
    while not result.done():
        waiting.do_one()
    assert made_in == [threading.get_ident()] * 30


def test_a_receiver_that_stops_asking_leaves_the_rest_to_the_pool(
    pool: ThreadPoolExecutor,
) -> None:
    """This is so when the receiver waits in a long poll."""
    waiting = CallQueue(pool, 2)
    made_in: list[int] = []
    result = pool.submit(waiting.map, lambda _: made_in.append(threading.get_ident()), range(30))
    while not waiting.do_one():
        pass
    result.result(timeout=60)
    assert len(made_in) == 30
    assert len(set(made_in)) > 1


def test_there_is_nothing_to_do_when_nothing_waits(pool: ThreadPoolExecutor) -> None:
    """``do_one`` returns False when no call is waiting."""
    waiting = CallQueue(pool, 2)
    assert not waiting.are_waiting
    assert not waiting.do_one()


def test_what_a_call_raises_reaches_whom_it_is_for(pool: ThreadPoolExecutor) -> None:
    """The caller of ``map`` gets the error, not the receiver that made the call."""

    def fail(_: int) -> None:
        raise LookupError("a bug")

    with pytest.raises(LookupError):
        CallQueue(pool, 2).map(fail, [1, 2, 3])
