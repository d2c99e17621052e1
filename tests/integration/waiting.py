"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

EVENT_SECONDS = 30  # for an event that must come; none is expected to take long


def gone(pid: int) -> bool:
    """Return whether the process has ended; some containers never collect an orphan's status."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(fact: Callable[[], bool]) -> bool:
    """Wait for *fact*, generously; return whether it came true."""
    deadline = time.monotonic() + EVENT_SECONDS
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.02)
    return fact()
