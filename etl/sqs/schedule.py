"""Which held messages are to be extended, and when: rules without a thread, a lock or a clock.

A message is due when half of its visibility timeout has passed since it was received or last
extended. All of them get the same time, so the order in which they were entered is the order in
which they are due. Only failed extensions are tried again earlier; they have an order of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from etl.sqs.message import CALL_ENTRIES, Handle, Message

# A failed extension is tried again after this share of the visibility timeout. That leaves three
# more tries before the message shows again.
RETRY_SHARE = 1 / 8
# Calls this much later than due, as a share of the visibility timeout, need more threads.
BEHIND_SHARE = 1 / 16
# SQS counts these from the receive, however often the visibility is extended.
MAX_VISIBILITY_SECONDS = 12 * 3600


@dataclass(slots=True)
class _Held:
    receipt_handle: str
    received: float  # monotonic seconds
    due_at: float  # monotonic seconds


class Schedule:
    """The messages held now, by the time at which each is to be extended.

    A message that is let go leaves nothing behind. With a visibility timeout of an hour, entries
    that wait until their time has passed would be millions.
    """

    def __init__(self, visibility_seconds: float) -> None:
        self._visibility_seconds = visibility_seconds
        self._held: OrderedDict[str, _Held] = OrderedDict()  # by due_at
        self._again: OrderedDict[str, float] = OrderedDict()  # ids of failed ones, by time to retry

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, messages: Iterable[Message | Handle], now: float) -> int:
        """Enter messages just received; return how many were held under another receipt handle.

        The newer handle replaces the older one.
        """
        again = 0
        for message in messages:
            message_id, receipt_handle = message.message_id, message.receipt_handle
            earlier = self._held.get(message_id)
            if earlier is not None and earlier.receipt_handle != receipt_handle:
                again += 1
            self._enter(message_id, _Held(receipt_handle, now, now), now)
        return again

    def newest(self, messages: Iterable[Message | Handle]) -> list[Handle]:
        """The newest receipt handle of each message, in the given order."""
        held = self._held
        return [
            Handle(message.message_id, held.get(message.message_id, message).receipt_handle)
            for message in messages
        ]

    def oldest_seconds(self, now: float) -> float:
        """How long ago the message that waits longest was received or last extended."""
        first = next(iter(self._held.values()), None)
        return now - first.due_at + self._visibility_seconds / 2 if first else 0.0

    def is_held(self, handle: Handle) -> bool:
        """Whether a message is held under this very handle."""
        held = self._held.get(handle.message_id)
        return held is not None and held.receipt_handle == handle.receipt_handle

    def let_go(self, handles: Iterable[Handle]) -> None:
        """Forget messages, except those that came again under another handle."""
        for handle in handles:
            if self.is_held(handle):
                del self._held[handle.message_id]
                self._again.pop(handle.message_id, None)

    def take_due(self, now: float) -> tuple[list[Handle], list[str]]:
        """Take up to ten messages that are due, and the ids of those that are held for too long.

        What is taken counts as extended at *now*, which is before SQS extends it.
        """
        taken: list[Handle] = []
        too_long: list[str] = []
        for message_id in self._due(now):
            held = self._held[message_id]
            self._again.pop(message_id, None)
            if now - held.received + self._visibility_seconds > MAX_VISIBILITY_SECONDS:
                # SQS would refuse every extension from here on.
                del self._held[message_id]
                too_long.append(message_id)
                continue
            self._enter(message_id, held, now)
            taken.append(Handle(message_id, held.receipt_handle))
            if len(taken) == CALL_ENTRIES:
                break
        return taken, too_long

    def has_failed(self, handles: Iterable[Handle], now: float) -> None:
        """Try these extensions again soon."""
        for handle in handles:
            if self.is_held(handle):
                self._again[handle.message_id] = now + self._visibility_seconds * RETRY_SHARE
                self._again.move_to_end(handle.message_id)

    def is_due(self, now: float) -> bool:
        """Whether a message is due."""
        return self._first_due() <= now

    def is_behind(self, now: float) -> bool:
        """Whether a message has been due for so long that more calls at a time are needed."""
        return self._first_due() + self._visibility_seconds * BEHIND_SHARE <= now

    def _first_due(self) -> float:
        first = next(iter(self._held.values()), None)
        return min(
            first.due_at if first else float("inf"),
            next(iter(self._again.values()), float("inf")),
        )

    def _due(self, now: float) -> Iterator[str]:
        """The ids that are due, each of which the caller enters again or forgets."""
        for times in (self._again, self._held):
            while times:
                message_id = next(iter(times))
                if self._due_at(message_id, times is self._again) > now:
                    break
                yield message_id

    def _due_at(self, message_id: str, is_again: bool) -> float:
        return self._again[message_id] if is_again else self._held[message_id].due_at

    def _enter(self, message_id: str, held: _Held, now: float) -> None:
        held.due_at = now + self._visibility_seconds / 2
        self._held[message_id] = held
        self._held.move_to_end(message_id)
        self._again.pop(message_id, None)
