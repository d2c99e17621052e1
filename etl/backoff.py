"""Waiting out an outage: pauses that double, until it has lasted too long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from etl.errors import Outage

log = logging.getLogger(__name__)

FIRST_SECONDS, LONGEST_SECONDS = 0.2, 3.0
TICK_SECONDS = 0.05  # how soon a pause notices that it is no longer wanted


class Backoff:
    """One outage, from its first error on. Make a new one after a success."""

    def __init__(self, retry_seconds: float, enough: Callable[[], bool]) -> None:
        self._retry_seconds = retry_seconds
        self._enough = enough
        self._since: float | None = None
        self._seconds = FIRST_SECONDS

    def pause(self, error: Outage) -> None:
        """Sleep before the next try; ends early when *enough* says so.

        :raises Outage: *error*, when the outage has lasted for ``retry_seconds``
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._retry_seconds:
            raise error
        log.warning("%s; trying again in %.1f s", error, self._seconds)
        while time.monotonic() < now + self._seconds and not self._enough():
            time.sleep(TICK_SECONDS)
        self._seconds = min(self._seconds * 2, LONGEST_SECONDS)
