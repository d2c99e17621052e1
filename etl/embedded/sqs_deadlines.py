"""When each message becomes visible again, or expires."""

from __future__ import annotations

import heapq


class Deadlines:
    """A moment in milliseconds for each key; finds the keys that are due without a full scan."""

    def __init__(self) -> None:
        self._moments: dict[int, int] = {}
        self._heap: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._moments)

    def __contains__(self, key: int) -> bool:
        return key in self._moments

    def set(self, key: int, moment_ms: int) -> None:
        """Set the moment of *key*, replacing any earlier one."""
        self._moments[key] = moment_ms
        heapq.heappush(self._heap, (moment_ms, key))
        # An entry that was discarded or moved stays in the heap until it is due. A heartbeat that
        # moves a key every second would leave hours of them, so the heap is rebuilt when most of
        # it is out of date.
        if len(self._heap) > 2 * len(self._moments) + 64:
            self._heap = [(moment, key) for key, moment in self._moments.items()]
            heapq.heapify(self._heap)

    def discard(self, key: int) -> None:
        """Forget *key* if it is known."""
        self._moments.pop(key, None)

    def due(self, now_ms: int) -> list[int]:
        """Forget and return the keys whose moment has come, earliest first."""
        keys: list[int] = []
        while self._heap and self._heap[0][0] <= now_ms:
            moment, key = heapq.heappop(self._heap)
            if self._moments.get(key) == moment:
                del self._moments[key]
                keys.append(key)
        return keys

    def next_ms(self) -> int | None:
        """Return the earliest moment, or None when there is none."""
        while self._heap and self._moments.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
