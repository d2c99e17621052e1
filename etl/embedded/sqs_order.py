"""Which visible message a queue hands out next: the oldest one, or the next one of a FIFO group."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from etl.embedded.sqs_messages import StoredMessage


class Order(Protocol):
    """The visible messages of a queue."""

    def show(self, message: StoredMessage) -> None:
        """Make a message visible, which may have been in flight."""

    def take(self) -> int | None:
        """Remove the next message that may be handed out; return its number, or None."""

    def hold(self, message: StoredMessage) -> None:
        """Note that a message that was taken is now in flight."""

    def discard(self, message: StoredMessage) -> None:
        """Forget a message, visible or in flight."""

    def can_take(self) -> bool:
        """Whether :meth:`take` would return a message."""

    def __len__(self) -> int:
        """How many messages are visible, whether they may be handed out or not."""

    def __iter__(self) -> Iterator[int]:
        """The numbers of the visible messages."""


class ArrivalOrder:
    """The order of a standard queue: what became visible first is handed out first."""

    def __init__(self) -> None:
        # Not a plain dict: to find its first key, a dict scans the gaps that removed keys left.
        self._visible: OrderedDict[int, None] = OrderedDict()

    def show(self, message: StoredMessage) -> None:
        """Make a message visible, which may have been in flight."""
        self._visible[message.number] = None

    def take(self) -> int | None:
        """Remove the next message that may be handed out; return its number, or None."""
        return self._visible.popitem(last=False)[0] if self._visible else None

    def hold(self, message: StoredMessage) -> None:
        """Note that a message that was taken is now in flight."""
        self._visible.pop(message.number, None)

    def discard(self, message: StoredMessage) -> None:
        """Forget a message, visible or in flight."""
        self._visible.pop(message.number, None)

    def can_take(self) -> bool:
        """Whether :meth:`take` would return a message."""
        return bool(self._visible)

    def __len__(self) -> int:
        return len(self._visible)

    def __iter__(self) -> Iterator[int]:
        return iter(self._visible)


@dataclass
class _Group:
    visible: list[int] = field(default_factory=list)  # a heap
    held: set[int] = field(default_factory=set)  # in flight


class GroupOrder:
    """The order of a FIFO queue.

    "FIFO queue and message group ID behavior", Amazon SQS Developer Guide: the messages of a group
    are handed out in the order in which they were sent; while one of them is in flight, no other
    message of its group is; one receive takes as many messages of one group as it can.
    """

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}
        self._free: OrderedDict[str, None] = OrderedDict()  # groups to take messages from
        self._visible: set[int] = set()

    def show(self, message: StoredMessage) -> None:
        """Make a message visible, which may have been in flight."""
        group = self._groups.setdefault(message.group, _Group())
        group.held.discard(message.number)
        if message.number not in self._visible:
            self._visible.add(message.number)
            heapq.heappush(group.visible, message.number)
        self._update(message.group)

    def take(self) -> int | None:
        """Remove the next message that may be handed out; return its number, or None."""
        while self._free:
            name = next(iter(self._free))
            group = self._groups[name]
            while group.visible:
                number = heapq.heappop(group.visible)
                # What was discarded stays in the heap until its turn comes.
                if number in self._visible:
                    self._visible.discard(number)
                    return number
            self._update(name)
        return None

    def hold(self, message: StoredMessage) -> None:
        """Note that a message that was taken is now in flight."""
        self._visible.discard(message.number)
        self._groups.setdefault(message.group, _Group()).held.add(message.number)
        self._update(message.group)

    def discard(self, message: StoredMessage) -> None:
        """Forget a message, visible or in flight."""
        self._visible.discard(message.number)
        if group := self._groups.get(message.group):
            group.held.discard(message.number)
        self._update(message.group)

    def can_take(self) -> bool:
        """Whether :meth:`take` would return a message."""
        return bool(self._free)

    def __len__(self) -> int:
        return len(self._visible)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._visible))

    def _update(self, name: str) -> None:
        group = self._groups.get(name)
        if group is None:
            return
        while group.visible and group.visible[0] not in self._visible:
            heapq.heappop(group.visible)
        if group.visible and not group.held:
            self._free.setdefault(name)
            return
        self._free.pop(name, None)
        if not group.visible and not group.held:
            del self._groups[name]
