"""Connected components of a graph whose links arrive in chunks.

The nodes are in a disjoint-set forest (Tarjan 1975), held in one array: memory grows with the
nodes, not with the links. Whole chunks are joined at once by hooking and pointer jumping
(Shiloach and Vishkin 1982), because a Python loop would spend a microsecond on each link.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Nodes = npt.NDArray[np.integer[Any]]


class Components:
    """Groups of connected nodes; nodes are numbers from 0 on."""

    def __init__(self) -> None:
        self._parents: Nodes = np.arange(0, dtype=np.int32)

    def join(self, left: Nodes, right: Nodes) -> None:
        """Link each node of *left* with the one at the same position of *right*."""
        if left.size == 0:
            return
        self._grow(int(max(left.max(), right.max())) + 1)
        while True:
            left = self._roots(left)
            right = self._roots(right)
            apart = left != right
            if not apart.any():
                return
            left = left[apart]
            right = right[apart]
            higher = np.maximum(left, right)
            # If one root has several lower ones to hook to, it takes the lowest; the links to the
            # others are still apart in the next round.
            np.minimum.at(self._parents, higher, np.minimum(left, right))
            self._flatten(np.unique(higher))

    def labels(self) -> Nodes:
        """The lowest node of each node's component."""
        self._flatten(np.arange(self._parents.size, dtype=np.int32))
        return self._parents

    def _grow(self, size: int) -> None:
        if size > self._parents.size:
            new_size = max(size, 2 * self._parents.size)
            new_nodes = np.arange(self._parents.size, new_size, dtype=np.int32)
            self._parents = np.concatenate([self._parents, new_nodes])

    def _roots(self, nodes: Nodes) -> Nodes:
        roots = self._parents[nodes]
        while not np.array_equal(parents := self._parents[roots], roots):
            roots = parents
        self._parents[nodes] = roots
        return roots

    def _flatten(self, nodes: Nodes) -> None:
        # Each round halves every path: a chain of a million nodes takes twenty rounds.
        while True:
            parents = self._parents[nodes]
            grandparents = self._parents[parents]
            if np.array_equal(parents, grandparents):
                return
            self._parents[nodes] = grandparents
