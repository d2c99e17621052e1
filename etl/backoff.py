"""Waits out an outage: pauses that double, until the outage has lasted too long."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from etl.errors import Outage

log = logging.getLogger(__name__)

FIRST_SECONDS = 0.2
MAX_SECONDS = 3.0
TICK_SECONDS = 0.05  # between two checks whether the pause is still wanted
WARNING_SECONDS = 60.0  # between two warnings of an outage


class Backoff:
    """One outage, from its first error on. Make a new object after a success."""

    def __init__(self, retry_seconds: float, is_stopped: Callable[[], bool]) -> None:
        """Prepare for an outage.

        :param retry_seconds: how long the outage may last
        :param is_stopped: ends a pause early
        """
        self._retry_seconds = retry_seconds
        self._is_stopped = is_stopped
        self._since: float | None = None
        self._warned_at: float | None = None
        self._seconds = FIRST_SECONDS

    def pause(self, error: Outage) -> None:
        """Sleep before the next try. Warns of the outage at its beginning, and every minute.

        :raises Outage: *error*, once the outage has lasted for ``retry_seconds``
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        left = self._retry_seconds - (now - self._since)
        if left <= 0:
            raise error
        if self._warned_at is None or now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            log.warning("%s; trying again for %.0f s", error, left)
        log.debug("%s; trying again in %.1f s", error, self._seconds)
        while time.monotonic() < now + self._seconds and not self._is_stopped():
            time.sleep(TICK_SECONDS)
        self._seconds = min(self._seconds * 2, MAX_SECONDS)

    def end(self) -> None:
        """Say that the outage is over, if there was one."""
        if self._since is not None:
            log.info("the outage is over after %.0f s", time.monotonic() - self._since)
