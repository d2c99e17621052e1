"""Calls to SQS that wait for a thread: the receiving threads make them between two receives.

In threads of their own, these calls would compete with the receives for the GIL at every answer.
Threads of their own make them when nobody is receiving, when the receivers are waiting in a long
poll, or when too few of them are working. Little else uses the interpreter then, and a call spends
most of its time waiting, so many calls can run at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# How long calls may wait for the receivers; a poll in progress can last for twenty seconds.
TAKE_OVER_SECONDS = 0.1
# How long all of them may take at the receivers' speed. While few messages come, one receiver is
# enough for them, but not for the deletes of a large batch that was loaded before.
MAX_SECONDS = 10.0

# With answers after 20 ms, 8,000 messages take a second.
MAX_CALL_THREADS = 16


class CallQueue:
    """The waiting calls. Safe to use from several threads."""

    def __init__(self, threads: int, is_left: Callable[[], bool] = lambda: False) -> None:
        """Keep the calls until a receiver asks for one.

        :param threads: how many calls that no receiver takes in time are in progress at once
        :param is_left: whether the calls that are not yet made are no longer wanted
        """
        self._threads = threads
        self._is_left = is_left
        self._started = 0  # threads of our own that have not ended
        self._lock = threading.Lock()
        self._waiting: deque[tuple[_MapCall[Any, Any], int]] = deque()

    def map(
        self, call: Callable[[Item], Answer], items: Sequence[Item], *, at_once: bool = False
    ) -> list[Answer | None]:
        """Make a call for each item; return the answers in order once all have come.

        Raises what a call raised, after the other calls.

        :param at_once: do not wait for a receiver to make them
        :returns: None for an answer that is no longer wanted
        """
        calls = _MapCall(call, items)
        self._waiting.extend((calls, position) for position in range(len(items)))
        left = len(items)
        if at_once:
            self._take_over(left)
        while not calls.ended.wait(TAKE_OVER_SECONDS):
            if self._is_left():
                break
            made, left = left - calls.left, calls.left
            if self.are_waiting and left * TAKE_OVER_SECONDS > made * MAX_SECONDS:
                self._take_over(left)
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

    def _take_over(self, left: int) -> None:
        with self._lock:
            for number in range(self._started, min(self._threads, left)):
                # Daemons, because a process that leaves the rest must not wait for their answers.
                thread = threading.Thread(target=self._do_all, name=f"calls-{number}", daemon=True)
                self._started += 1
                thread.start()

    def _do_all(self) -> None:
        try:
            while not self._is_left() and self.do_one():
                pass
        finally:
            with self._lock:
                self._started -= 1


class AtOnce:
    """Makes the calls of a queue when nobody receives any more."""

    def __init__(self, calls: CallQueue) -> None:
        self._calls = calls

    def map(self, call: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer | None]:
        """Make a call for each item, as :meth:`CallQueue.map` does."""
        return self._calls.map(call, items, at_once=True)


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

    def answers(self) -> list[Answer | None]:
        if self._error is not None:
            raise self._error
        return [self._answers.get(position) for position in range(len(self._items))]
