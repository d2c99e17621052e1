"""Connected components, from links that come in pieces.

A disjoint-set forest (Tarjan 1975) in one array: the memory is that of the nodes, however many the
links. Whole pieces are joined at once, with the hooking and pointer jumping of Shiloach and Vishkin
(1982), since a step a link would take Python a microsecond each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Nodes = npt.NDArray[np.integer[Any]]


class Components:
    """Which nodes are connected; nodes are numbers from 0 on."""

    def __init__(self) -> None:
        self._above: Nodes = np.arange(0, dtype=np.int32)

    def join(self, one: Nodes, other: Nodes) -> None:
        """Take in links between the nodes at equal positions."""
        if one.size == 0:
            return
        self._grow(int(max(one.max(), other.max())) + 1)
        while True:
            one, other = self._roots(one), self._roots(other)
            apart = one != other
            if not apart.any():
                return
            one, other = one[apart], other[apart]
            high = np.maximum(one, other)
            # A root that several want to hook goes to the least; the others come round again.
            np.minimum.at(self._above, high, np.minimum(one, other))
            self._flatten(np.unique(high))

    def labels(self) -> Nodes:
        """The least node of each node's component."""
        self._flatten(np.arange(self._above.size, dtype=np.int32))
        return self._above

    def _grow(self, size: int) -> None:
        if size > self._above.size:
            more = np.arange(self._above.size, max(size, 2 * self._above.size), dtype=np.int32)
            self._above = np.concatenate([self._above, more])

    def _roots(self, nodes: Nodes) -> Nodes:
        roots = self._above[nodes]
        while not np.array_equal(above := self._above[roots], roots):
            roots = above
        self._above[nodes] = roots
        return roots

    def _flatten(self, nodes: Nodes) -> None:
        # Each round halves every path: a chain of a million takes twenty rounds, not a million.
        while True:
            above = self._above[nodes]
            further = self._above[above]
            if np.array_equal(above, further):
                return
            self._above[nodes] = further
