"""Counting by sorting: equal numbers, pairs of numbers, and the largest counts.

A code is the number of a value, from 1; 0 means null. All functions take and return numpy arrays,
and cost a sort or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.integer[Any]]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Coded:
    """A column of codes."""

    codes: Numbers
    rows: Numbers  # a row with each code; the code is the position

    @property
    def count(self) -> int:
        """How many values there are."""
        return self.rows.size - 1


@dataclass(frozen=True)
class Pairs:
    """The distinct pairs of two columns without null, sorted, and how many rows have each."""

    left: Numbers
    right: Numbers
    rows: Numbers

    @property
    def starts(self) -> Numbers:
        """Where the pairs of each left code begin."""
        return run_starts(self.left)


def run_starts(*columns: Numbers) -> Numbers:
    """Return where the runs of equal rows begin, if the columns are sorted."""
    is_start = np.ones(columns[0].size, dtype=bool)
    if is_start.size:
        is_start[1:] = False
        for column in columns:
            is_start[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(is_start).astype(np.int32)


def lengths(starts: Numbers, size: int) -> Numbers:
    """Return the lengths of runs in an array of this size."""
    return np.diff(starts, append=np.int32(size))


def sums(numbers: Numbers, starts: Numbers) -> Numbers:
    """Return the sum of each run."""
    if starts.size == 0:
        return starts
    total: Numbers = np.add.reduceat(numbers, starts, dtype=np.int64)
    return total


def sorted_rows(hashes: Numbers) -> Numbers:
    """Return the rows in the order of their hashes, as unsigned numbers.

    Each number that is sorted holds the first bits of a hash, and the row in place of the others:
    that takes half the time of ``argsort``.
    """
    unsigned = hashes.view(np.uint64)
    bits = np.uint64(hashes.size.bit_length())
    prefixes = unsigned >> bits
    prefixes <<= bits
    prefixes |= np.arange(hashes.size, dtype=np.uint32)
    prefixes.sort()
    rows = (prefixes & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int32)
    prefixes >>= bits
    ordered = unsigned[rows]
    # A few hashes that differ begin with the same bits.
    for i in np.flatnonzero(ordered[1:] < ordered[:-1]):
        run = slice(*(np.searchsorted(prefixes, prefixes[i], side) for side in ("left", "right")))
        rows[run] = rows[run][np.argsort(unsigned[rows[run]])]
    return rows


def count_copies(hashes: Numbers) -> tuple[Flags, Numbers, Numbers]:
    """Find equal hashes.

    :returns: whether each one equals an earlier one, in some order; of those that others equal, the
        first; and how many there are of each
    """
    order = sorted_rows(hashes)
    ordered = hashes[order]
    is_same = np.zeros(order.size + 1, dtype=bool)  # as the one before; the last is the end
    np.equal(ordered[1:], ordered[:-1], out=is_same[1:-1])
    del ordered
    is_copy = np.empty(order.size, dtype=bool)
    is_copy[order] = is_same[:-1]
    starts = np.flatnonzero(~is_same[:-1] & is_same[1:])
    ends = np.flatnonzero(is_same[:-1] & ~is_same[1:])
    return is_copy, order[starts], ends - starts + 1


def encode(hashes: Numbers) -> Coded:
    """Give each distinct hash a code; the hash 0 has the code 0."""
    order = sorted_rows(hashes)  # the zeros are first
    ordered = hashes[order]
    starts = run_starts(ordered)
    is_start = np.zeros(order.size, dtype=np.int8)
    is_start[starts] = 1
    if ordered.size and ordered[0] == 0:
        is_start[0] = 0
        starts = starts[1:]
    del ordered
    codes = np.empty(order.size, np.int32)
    codes[order] = np.cumsum(is_start, dtype=np.int32)
    return Coded(codes, np.concatenate([np.zeros(1, np.int32), order[starts]]))


def count_pairs(left: Numbers, right: Numbers) -> Pairs:
    """Count the rows of each pair of codes."""
    is_known = (left != 0) & (right != 0)
    if not is_known.all():
        left, right = left[is_known], right[is_known]
    keys = left.astype(np.int64)
    keys <<= 32
    keys |= right
    keys.sort()
    starts = run_starts(keys)
    rows = lengths(starts, keys.size)
    keys = keys[starts]
    return Pairs((keys >> 32).astype(np.int32), keys.astype(np.int32), rows)


def occurs_again(columns: Sequence[Numbers], rows: Numbers) -> Numbers:
    """Return those of the rows that another of them may equal in all columns.

    Rows that equal no other are left out, except by chance.
    """
    random = np.random.default_rng()
    mixed = np.zeros(columns[0].size, np.int64)
    for column in columns:
        mixed += column * random.integers(np.iinfo(np.int64).max)
    mixed = mixed[rows]
    order = sorted_rows(mixed)
    is_equal = np.diff(mixed[order]) == 0
    again = np.zeros(order.size, dtype=bool)
    again[1:] = is_equal
    again[:-1] |= is_equal
    return rows[order[again]]


def largest(
    frame: pd.DataFrame, counts: list[str], top: int | None, within: list[str] | None = None
) -> pd.DataFrame:
    """Return the rows with the largest counts, and all that are equal to the last of them.

    :param counts: columns, the most important one first
    :param top: how many rows; None means all
    :param within: columns; *top* rows for each group of equal values in them
    """
    if top is None:
        return frame
    within = within or []
    if not within and len(frame) > top:
        # So that few rows have to be sorted.
        least = np.partition(frame[counts[0]].to_numpy(), -top)[-top]
        frame = frame[frame[counts[0]] >= least]
    keys = within + counts
    ascending = [True] * len(within) + [False] * len(counts)
    ordered = frame.sort_values(keys, ascending=ascending)
    columns = [ordered[name].to_numpy() for name in keys]
    # The position within the group of the first row that is equal to this one.
    equal = run_starts(*columns)
    groups = run_starts(*columns[: len(within)]) if within else equal[:1]
    of_equal = np.repeat(equal, lengths(equal, len(ordered)))
    of_group = np.repeat(groups, lengths(groups, len(ordered)))
    return ordered[of_equal - of_group < top]
