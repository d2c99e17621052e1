"""How soon a worker that died is replaced, and when no more: rules without a clock."""

from __future__ import annotations

from collections import deque

WINDOW_SECONDS = 600.0
MAX_DEATHS = 3  # of each worker, on average, in the window; with one more the run ends
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0


class Restarts:
    """The deaths of a run's workers in the last ten minutes."""

    def __init__(self, workers: int) -> None:
        self._max_deaths = MAX_DEATHS * workers
        self._deaths: deque[float] = deque()  # monotonic seconds

    def __len__(self) -> int:
        return len(self._deaths)

    def died(self, now: float) -> float | None:
        """Note a death; return the seconds until the replacement, or None to end the run.

        The pause doubles with each death, so that workers that cannot live do not keep the machine,
        the queue and the database busy with starting and dying.
        """
        self._deaths.append(now)
        while self._deaths[0] < now - WINDOW_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) > self._max_deaths:
            return None
        return min(FIRST_PAUSE_SECONDS * 2.0 ** (len(self._deaths) - 1), MAX_PAUSE_SECONDS)
