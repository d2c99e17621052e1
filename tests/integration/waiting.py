"""Wait for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

EVENT_SECONDS = 60  # much longer than any of these events should take


def gone(pid: int) -> bool:
    """Return whether the process has ended; in some containers an orphan stays a zombie."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(fact: Callable[[], bool]) -> bool:
    """Wait up to EVENT_SECONDS for *fact*; return whether it became true."""
    deadline = time.monotonic() + EVENT_SECONDS
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.02)
    return fact()
