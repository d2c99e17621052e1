"""How many receives may be in flight: one while the queue is empty, more while it is full.

SQS bills each request, and more polls of an empty queue bring no message sooner. While a queue has
messages, the answers take the time, and as many receives as are in flight share it. So the number
follows the answers. Where SQS answers at once, one receive is enough: another thread could not
receive meanwhile, and would only compete with the first for the GIL.

The caller passes in how long each answer was waited for, so these rules need no clock.
"""

from __future__ import annotations

from collections import deque

# When answers arrive faster than this, apart from the CPU time of the call, there is no wait worth
# filling with another receive. From a queue in the same region an answer takes 5 ms or more.
QUICK_SECONDS = 0.002
RECENT = 16  # receives; the quickest of them counts, since any of them may have waited for its turn

# Shares of the messages that a receive asked for. SQS may answer with fewer than it has, so one
# poor answer changes little.
GOOD_SHARE = 0.5
POOR_SHARE = 0.2
POOR_STEP = 0.25

CAREFUL = 2  # receives in flight while messages have few receives left


class Receives:
    """How many receives may be in flight, by what the last ones brought."""

    def __init__(self, max_receives: int) -> None:
        self._max = max_receives
        self._wanted = 1.0
        self._waits: deque[float] = deque(maxlen=RECENT)  # seconds

    @property
    def allowed(self) -> int:
        """Receives that may be in flight, at least one."""
        return int(self._wanted)

    def messages_came(self, messages: int, asked: int, wait_seconds: float) -> None:
        """Note an answer with messages: the number doubles while all answers are good.

        :param wait_seconds: for the answer, without the CPU time of the call
        """
        self._waits.append(wait_seconds)
        if min(self._waits) < QUICK_SECONDS:
            self._wanted = 1.0
        elif messages >= asked * GOOD_SHARE:
            self._wanted = min(self._wanted + 1, self._max)
        elif messages <= asked * POOR_SHARE:
            self._wanted = max(self._wanted - POOR_STEP, 1.0)

    def nothing_came(self) -> None:
        """Note an empty answer, which can be false, or a call that failed."""
        self._wanted = max(self._wanted / 2, 1.0)

    def few_receives_are_left(self) -> None:
        """Note messages that are nearly lost: whatever is in flight now may be such too."""
        self._wanted = min(self._wanted, CAREFUL)
