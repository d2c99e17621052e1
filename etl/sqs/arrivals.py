"""Looks at each delivery: whether it is whole, and whether the message may be received at all.

A damaged delivery is the fault of the network or of a proxy, and the copy in the queue is whole. So
the message is received again. Only when it arrives damaged several times, or must not be received
once more, is it handled as it came; then the checks name what is wrong with it.

On a FIFO queue, what follows a released message in its group is released with it, to keep the
order. It was received with it each time, so it has as many receives left, at the least.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from etl.errors import LastReceives, NoSentTimestamp, Stopped
from etl.sqs.limits import Stop
from etl.sqs.message import Message
from etl.text import counted

log = logging.getLogger(__name__)

MAX_DAMAGED = 3  # deliveries of a message; the last of them is handled as it came

# How long a released message stays hidden. Visible at once, it would come back at once, through the
# same network.
PAUSE_SECONDS = 5

# For that long after it is visible again a message is expected, and the queue not taken for idle.
GRACE_SECONDS = 2

# Messages whose damaged deliveries are remembered. Other workers may receive them next time, so
# there is no moment at which all of them are settled here.
MAX_REMEMBERED = 10_000


class Arrivals:
    """The damaged deliveries of one worker. Safe to use from several threads."""

    def __init__(
        self,
        release: Callable[[Sequence[Message], int], object],
        stop: Stop,
        max_receive_count: int | None = None,
        sent_time_column: str | None = None,
        receives_to_leave: int = 0,
    ) -> None:
        """Start with no delivery seen.

        :param release: releases messages, which stay hidden for a number of seconds
        :param max_receive_count: of the queue; after so many receives a message is not released
        :param sent_time_column: a column that is made from the messages' SentTimestamp
        :param receives_to_leave: how many receives each message must have left after this one
        """
        self.released = 0  # deliveries
        self.oldest_sent_ms = math.inf  # of all messages; milliseconds since 1970
        self._release = release
        self._stop = stop
        self._max_receive_count = max_receive_count
        self._sent_time_column = sent_time_column
        self._receives_to_leave = receives_to_leave
        self._has_sent_time = False  # whether any message came with one
        self._error: Stopped | None = None
        self._expected_until = -math.inf  # monotonic seconds
        self._damaged: dict[str, int] = {}  # deliveries by message id
        self._lock = threading.Lock()  # guards everything above

    def sift(self, messages: list[Message]) -> list[Message]:
        """Release the messages that arrived damaged; return the others.

        If no message comes with what a column needs, or one may not be received, this asks for the
        stop of the run, and all messages are returned, to be released with the rest.
        """
        sent = [message.sent_ms for message in messages if message.sent_ms is not None]
        with self._lock:
            self.oldest_sent_ms = min([self.oldest_sent_ms, *sent])
            error = self._problem(messages)
            if error is not None:
                self._error = self._error or error
                self._stop.request(error.stop_reason, release_rest=True)
                return messages
            damaged, followers = self._to_release(messages)
            if not damaged:
                return messages
            again = [*damaged, *followers]
            self.released += len(again)
            self._expected_until = time.monotonic() + PAUSE_SECONDS + GRACE_SECONDS
        log.warning(
            "%s arrived damaged, such as %s; released, to be received again",
            counted(len(damaged), "message"),
            damaged[0].message_id,
        )
        self._release(again, PAUSE_SECONDS)
        return [message for message in messages if message not in again]

    def come_again(self, now: float) -> bool:
        """Whether released messages are still expected at this time."""
        return now < self._expected_until

    def raise_error(self) -> None:
        """Raise what ended the run, if something did.

        :raises NoSentTimestamp: no message came with what a column needs
        :raises LastReceives: a message has too few receives left
        """
        if self._error is not None:
            raise self._error

    def _problem(self, messages: Sequence[Message]) -> Stopped | None:
        """Why the run must not go on, if so; decided at each receive, before many were received."""
        if not messages:
            return None
        maximum = self._max_receive_count
        to_leave = self._receives_to_leave
        receives = max(message.receive_count for message in messages) if to_leave else 0
        if to_leave and maximum is not None and receives + to_leave > maximum:
            if receives < maximum:
                hint = "a look that is refused is a receive too: load them before you look again"
            else:
                hint = "it was the last one: the next receive, also by a run, moves them there"
            return LastReceives(
                f"SQS moves a message to the dead-letter queue after {counted(maximum, 'receive')} "
                f"(maxReceiveCount), and this look is receive {receives}; so it was given up at "
                f"its first messages and everything was released; {hint}; to look all the same, "
                "add --use-last-receives"
            )
        if self._sent_time_column is None or self._has_sent_time:
            return None
        self._has_sent_time = any(message.sent_ms is not None for message in messages)
        if self._has_sent_time:
            return None
        return NoSentTimestamp(
            f"messages come without SentTimestamp, and column {self._sent_time_column!r} is made "
            "from it; the SQS emulator or proxy must answer with the system attributes that a "
            "receive asks for"
        )

    def _to_release(self, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """The damaged messages, and those that follow them in their FIFO groups."""
        damaged: list[Message] = []
        followers: list[Message] = []
        if not self._damaged and all(map(self._is_whole, messages)):
            return damaged, followers
        groups: set[str] = set()
        for message in messages:
            if message.group in groups:
                followers.append(message)
            elif self._comes_again(message):
                damaged.append(message)
                if message.group is not None:
                    groups.add(message.group)
        return damaged, followers

    def _comes_again(self, message: Message) -> bool:
        if self._is_whole(message):
            self._damaged.pop(message.message_id, None)
            return False
        times = self._damaged.pop(message.message_id, 0) + 1
        receives = max(times, message.receive_count)
        is_last = self._max_receive_count is not None and receives >= self._max_receive_count
        if times >= MAX_DAMAGED or is_last:
            return False
        self._damaged[message.message_id] = times
        if len(self._damaged) > MAX_REMEMBERED:
            del self._damaged[next(iter(self._damaged))]  # the oldest
        return True

    def _is_whole(self, message: Message) -> bool:
        lacks_time = self._sent_time_column is not None and message.sent_ms is None
        return not lacks_time and not message.is_damaged
