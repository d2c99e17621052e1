"""Calls to SQS that wait for a thread: the receiving threads make them between two receives.

In threads of their own, these calls would compete with the receives for the GIL at every answer. A
pool makes the calls when nobody is receiving, or when the receivers are waiting in a long poll.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# How long calls may wait for the receivers; a poll in progress can last for twenty seconds.
POOL_AFTER_SECONDS = 0.1


class CallQueue:
    """The waiting calls. Safe to use from several threads."""

    def __init__(self, pool: Executor, threads: int) -> None:
        """Keep the calls until a receiver asks for one.

        :param pool: makes the calls that no receiver takes in time
        :param threads: how many calls may be in progress in the pool
        """
        self._pool = pool
        self._threads = threads
        self._waiting: deque[tuple[_MapCall[Any, Any], int]] = deque()

    def map(self, call: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """Make a call for each item; return the answers in order once all have come.

        Raises what a call raised, after the other calls.
        """
        calls = _MapCall(call, items)
        self._waiting.extend((calls, position) for position in range(len(items)))
        left = len(items)
        while not calls.ended.wait(POOL_AFTER_SECONDS):
            if calls.left == left and self.are_waiting:
                for _ in range(self._threads):
                    self._pool.submit(self._do_all)
            left = calls.left
        return calls.answers()

    @property
    def are_waiting(self) -> bool:
        """Whether a call is waiting for a thread."""
        return bool(self._waiting)

    def do_one(self) -> bool:
        """Make the oldest waiting call; return whether there was one."""
        try:
            calls, position = self._waiting.popleft()
        except IndexError:
            return False
        calls.do(position)
        return True

    def _do_all(self) -> None:
        while self.do_one():
            pass


class _MapCall(Generic[Item, Answer]):
    """The calls of one :meth:`CallQueue.map`."""

    def __init__(self, call: Callable[[Item], Answer], items: Sequence[Item]) -> None:
        self._call = call
        self._items = items
        self._answers: dict[int, Answer] = {}
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self.left = len(items)
        self.ended = threading.Event()
        if not items:
            self.ended.set()

    def do(self, position: int) -> None:
        try:
            self._answers[position] = self._call(self._items[position])
        except BaseException as error:  # noqa: BLE001  (raised to the caller of map)
            self._error = error
        with self._lock:
            self.left -= 1
            if self.left == 0:
                self.ended.set()

    def answers(self) -> list[Answer]:
        if self._error is not None:
            raise self._error
        return [self._answers[position] for position in range(len(self._items))]
