"""A signal ends a coroutine, whatever the library in it makes of the signal."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from etl.report.interrupts import run_until_signal

BEFORE = [signal.SIG_DFL, signal.default_int_handler]


def handlers() -> list[object]:
    """Return what handles SIGTERM and SIGINT."""
    return [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("error", [RuntimeError("No kernel is running!"), AssertionError(), None])
def test_a_signal_counts_as_one_whatever_the_library_raises(
    number: signal.Signals, error: Exception | None
) -> None:
    """Each is an interruption: an error of the cell is not what it looks like."""

    async def library() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(number, lambda: pytest.fail("the library's handler was called"))
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if error is not None:
                raise error from None
            raise
        finally:
            loop.remove_signal_handler(number)

    assert run_until_signal(library())
    assert handlers() == BEFORE


def test_a_second_signal_does_not_cut_off_the_end() -> None:
    """The notebook's process is ended before the command."""
    ended = []

    async def library() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
            ended.append(True)

    assert run_until_signal(library())
    assert ended


def test_without_a_signal_an_error_stays_an_error() -> None:
    """So does a result."""

    async def fails() -> None:
        raise ValueError("of the cell")

    with pytest.raises(ValueError, match="of the cell"):
        run_until_signal(fails())
    assert not run_until_signal(asyncio.sleep(0))
    assert handlers() == BEFORE
