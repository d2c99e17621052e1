"""Lets SIGTERM and Ctrl-C end a run: the first one cleanly, the second one at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from etl.sqs.limits import Phase, Stop

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class SignalStop(Stop):
    """A stop that signals request. Only the main thread may use it.

    The first signal asks for the stop. Once messages are being released, a further signal leaves
    them to their visibility timeout, and the run ends with its summary. In any other phase the
    second signal kills the process: it gets its usual effect back, because a Python handler would
    have to wait for the end of a statement in the database.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: int | None = None  # the first signal

    @property
    def leave_hint(self) -> str:  # type: ignore[override]
        """What a person can do, in words for the log."""
        name = "SIGTERM" if self._first == signal.SIGTERM else "Ctrl-C"
        again = " again" if self._first else ""
        return f"; {name}{again} leaves them to the visibility timeout"

    def enter(self, phase: Phase) -> None:
        """Note what the worker is doing from now on, and with it what the next signal does."""
        super().enter(phase)
        self._set_handlers()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        is_first = self._first is None
        self._first = self._first or number
        self.request(signal.Signals(number).name, release_rest=True)
        if self.phase is Phase.RELEASING or (self.phase is Phase.ACKNOWLEDGING and not is_first):
            self.leave_rest = True
        self._set_handlers()

    def _set_handlers(self) -> None:
        is_last = self.phase is Phase.WORKING and self._first is not None
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if is_last or self.leave_rest else self.handle)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Let signals request the stop that this yields, until the block ends."""
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    stop = SignalStop()
    stop.enter(Phase.WORKING)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
