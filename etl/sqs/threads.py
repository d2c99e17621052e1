"""Threads that are started when they are first needed, and parked while they are not.

A parked thread uses no CPU time. Waking it takes less than starting another, which holds up the
thread that starts it until it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


class Threads:
    """Threads of the same work. The caller of each method but :meth:`join` holds the lock."""

    def __init__(self, name: str, work: Callable[[int], None]) -> None:
        """Start nothing yet.

        :param work: called in each thread, with its number from 0
        """
        self._name = name
        self._work = work
        self.lock = threading.RLock()  # may guard what belongs to the work too
        self._turn = threading.Condition(self.lock)
        self._threads: list[threading.Thread] = []
        self._parked = 0
        self.working = 0

    def put_to_work(self, threads: int) -> None:
        """Wake parked threads, or start new ones, until this many work.

        :raises RuntimeError: the system allows not even one thread
        """
        while self.working < threads:
            if self._parked:
                self._parked -= 1
                self._turn.notify()
            elif not self._start():
                return
            self.working += 1

    def park(self) -> None:
        """Let the calling thread wait until it is put to work again."""
        self.working -= 1
        self._parked += 1
        self._turn.wait()

    def wake_all(self) -> None:
        """Put all parked threads to work, so that they can end."""
        self.put_to_work(self.working + self._parked)

    def one_ended(self) -> None:
        """Note that a working thread ends."""
        self.working -= 1

    def join(self, seconds: float, is_left: Callable[[], bool]) -> None:
        """Wait until the threads have ended, or until they are left to themselves.

        :param seconds: between two looks at *is_left*
        """
        for thread in self._threads:
            while thread.is_alive() and not is_left():
                thread.join(seconds)

    def _start(self) -> bool:
        number = len(self._threads)
        # Daemons, because a process that leaves the rest must not wait for their polls.
        thread = threading.Thread(
            target=self._work, args=(number,), name=f"{self._name}-{number}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            if not number:
                raise
            return False  # those that there are go on
        self._threads.append(thread)
        return True
