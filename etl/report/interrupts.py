"""Lets a signal end a coroutine of a library that has its own ideas about signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_until_signal(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Run a coroutine in the main thread, and cancel it on SIGTERM or Ctrl-C.

    :return: it was interrupted
    """
    interrupted = False
    loop = _DeafLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop()
        task = loop.create_task(coroutine)

        def interrupt() -> None:
            nonlocal interrupted
            if not interrupted:  # a second cancellation would cut off what the first one cleans up
                interrupted = True
                task.cancel()

        for number in SIGNALS:
            asyncio.SelectorEventLoop.add_signal_handler(loop, number, interrupt)
        try:
            loop.run_until_complete(task)
        except BaseException:
            # What is cancelled ends in errors of many kinds, and none of them matters.
            if not interrupted:
                raise
        finally:
            for number in SIGNALS:
                asyncio.SelectorEventLoop.remove_signal_handler(loop, number)
    return interrupted


class _DeafLoop(asyncio.SelectorEventLoop):
    """A loop whose signal handlers nobody else can set or remove.

    nbclient would set some that end the notebook's process while a cell waits for it. Whether that
    looks like a signal or like a cell that failed is chance.
    """

    def add_signal_handler(self, *_: Any) -> None:  # type: ignore[override]
        """Leave the signal to the handler that it has."""

    def remove_signal_handler(self, *_: Any) -> bool:
        """Leave the signal to the handler that it has."""
        return False
