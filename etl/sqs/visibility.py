"""Whether the queue's visibility timeout is long enough for this machine.

A held message is extended when half of its timeout has passed. A machine that is busy, a process
that was suspended or an SQS that answers late makes it later than that. The measure is the longest
time for which a message was held without an extension: near the timeout, it shows again while it
is being loaded. How long a batch takes is no measure, because the heartbeat keeps its messages.
"""

from __future__ import annotations

import logging
import math
import re
import shlex

log = logging.getLogger(__name__)

# When many messages are due at once, the extensions may take a quarter of the timeout by design
# (etl.sqs.pace.EXTENDING_SHARE), which comes on top of the half.
NEAR_SHARE = 0.9
# With this many times the longest time as the timeout, the same delay ends well before it: half
# of the timeout and the delay are then 0.83 of it.
ENOUGH_TIMES = 3
ROUND_SECONDS = 30
MAX_SECONDS = 12 * 3600  # SQS allows no more

# SQS may deliver a message again at any time, but seldom does, and it refuses to extend a message
# that is being deleted. More of them, and a larger share of the messages held, show that the
# timeout had passed, as SQS counts it.
FEW_AGAIN = 10
FEW_AGAIN_SHARE = 0.02


class VisibilityCheck:
    """Notes what shows that the timeout is short, and says which would be long enough."""

    def __init__(self, visibility_seconds: float) -> None:
        self._visibility_seconds = visibility_seconds
        self._longest = 0.0
        self._held = 0
        self._again = 0

    def held_unextended(self, seconds: float) -> None:
        """Note for how long a held message has not been extended."""
        self._longest = max(self._longest, seconds)

    def came(self, messages: int, again: int) -> None:
        """Note messages that came; *again* of them were held under an earlier receipt handle."""
        self._held += messages
        self._again += again

    def refused(self, messages: int) -> None:
        """Note that SQS no longer knows held messages by their newest receipt handles."""
        self._again += messages

    @property
    def needed_seconds(self) -> int:
        """The timeout to set, in seconds; 0 if the queue's own is long enough."""
        seconds = 0.0
        if self._longest >= self._visibility_seconds * NEAR_SHARE:
            seconds = self._longest * ENOUGH_TIMES
        if self._again > max(FEW_AGAIN, self._held * FEW_AGAIN_SHARE):
            seconds = max(seconds, self._visibility_seconds * ENOUGH_TIMES)
        return min(math.ceil(seconds / ROUND_SECONDS) * ROUND_SECONDS, MAX_SECONDS)


def warn(queue_url: str, needed_seconds: int) -> None:
    """Say in the log that the timeout is too short, and how to set it."""
    address = shlex.quote(re.sub("//[^/@]*@", "//", queue_url))  # without a password
    log.warning(
        "the queue's visibility timeout is too short for this machine: messages may be delivered "
        "again while they are being loaded; set the queue's VisibilityTimeout to at least %d s: "
        "aws sqs set-queue-attributes --queue-url %s --attributes VisibilityTimeout=%d",
        needed_seconds,
        address,
        needed_seconds,
    )
