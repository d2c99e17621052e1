"""Lets SIGTERM, SIGHUP and Ctrl-C end a run: the first one cleanly, the second one at once.

A report ends at once, and so does its query on the server.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from etl.sqs.limits import Phase, Stop

if TYPE_CHECKING:
    import sqlalchemy as sa

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SAY_SECONDS = 0.2  # before the process ends, for the line that says so
CANCEL_SECONDS = 5  # before the process ends, for a server that does not answer

# What the first signal does to a run.
FINISHING = (
    "finishing the batch in hand, then releasing the rest; a second signal ends the run at once"
)


class SignalStop(Stop):
    """A stop that signals request.

    The first signal asks for the stop. Once messages are being released, a further signal leaves
    them to their visibility timeout, and the run ends with its summary; so it is during deletes.
    In any other phase the second signal ends the process.

    SIGHUP, of a terminal that is closed, is never a second signal: the shell and the kernel may
    each send one, and nobody asks for haste by it.
    """

    def __init__(self, on_first: str = FINISHING) -> None:
        """Wait for signals.

        :param on_first: what the first one does while the run works, in words
        """
        super().__init__()
        self._on_first = on_first
        self._first: int | None = None  # the first signal

    @property
    def leave_hint(self) -> str:  # type: ignore[override]
        """What a person can do, in words for the log."""
        again = " again" if self._first else ""
        return f"; {self._name}{again} leaves them to the visibility timeout"

    @property
    def _name(self) -> str:
        first = self._first or signal.SIGINT
        return "Ctrl-C" if first == signal.SIGINT else signal.Signals(first).name

    def handle(self, number: int) -> None:
        """Do what a signal asks for."""
        is_first = self._first is None
        if number == signal.SIGHUP and not is_first:
            return
        self._first = self._first or number
        self.request(signal.Signals(number).name, release_rest=True)
        if self.leave_rest or (self.phase is Phase.WORKING and not is_first):
            _say("ending at once; what is held comes back after the visibility timeout")
            # As a shell reports a process that a signal has ended.
            os._exit(128 + number)
        if self.phase is Phase.RELEASING or not is_first:
            self.leave_rest = True
            _say(f"{self._name}: leaving the rest to the visibility timeout")
        elif self.phase is Phase.ACKNOWLEDGING:
            _say(f"{self._name}: finishing the deletes; a second signal leaves the rest")
        else:
            _say(f"{self._name}: {self._on_first}")


def _say(text: str) -> None:
    """Write a warning, and go on without it if nobody takes it: a pipe may be full."""
    thread = threading.Thread(target=log.warning, args=("%s", text), daemon=True)
    thread.start()
    thread.join(SAY_SECONDS)


@contextmanager
def stop_on_signals(on_first: str = FINISHING) -> Iterator[Stop]:
    """Let signals request the stop that this yields, until the block ends.

    Only the main thread of a program can do so; in another one they stay as they are.

    :param on_first: as of :class:`SignalStop`
    """
    stop = SignalStop(on_first)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with _handled_in_a_thread(stop.handle):
        yield stop


@contextmanager
def cancel_on_signals(engine: sa.Engine) -> Iterator[None]:
    """Let a signal end the process, after cancelling its queries on the server.

    Otherwise the server would notice only when it has rows to send. Until then it would go on with
    a query over a large table, and keep its locks.

    :param engine: has no connection yet
    """
    import psycopg2
    import sqlalchemy as sa

    connections: WeakSet[Any] = WeakSet()
    sa.event.listen(engine, "connect", lambda connection, _: connections.add(connection))

    def handle(number: int) -> None:
        # Cancelling opens another connection, and no other thread could interrupt that.
        signal.alarm(CANCEL_SECONDS)
        for connection in list(connections):
            with suppress(psycopg2.Error):
                connection.cancel()
        os._exit(128 + number)

    with _handled_in_a_thread(handle):
        yield


@contextmanager
def _handled_in_a_thread(handle: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of each signal, until the block ends.

    A handler in Python would have to wait until the main thread comes back from a statement in the
    database, which may wait for a lock.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)

    def listen() -> None:
        while number := receiver.recv(1):
            if number[0] in SIGNALS:
                handle(number[0])

    thread = threading.Thread(target=listen, name="signals", daemon=True)
    thread.start()
    # Without a handler in Python, however short, the number would not be written.
    # nohup ignores SIGHUP, and so it stays.
    hangup_is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    handled = SIGNALS[:2] if hangup_is_ignored else SIGNALS
    previous = {number: signal.signal(number, lambda *_: None) for number in handled}
    previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            # None, if it was not set by Python and cannot be set again.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        sender.close()
        thread.join()
        receiver.close()
