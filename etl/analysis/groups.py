"""Groups of linked users, from counted pairs; what :mod:`etl.analysis.linked` asks of Postgres."""

from __future__ import annotations

import numpy as np
import pandas as pd

from etl.analysis.components import Components
from etl.analysis.counted import Counted
from etl.analysis.linked import MAX_BUFFERED_LINKS, MAX_TIES, MAX_USERS, Linked, frames
from etl.analysis.named import MAX_ROWS, TooManyNames
from etl.analysis.tally import Flags, Numbers, largest, lengths, sums


def group_users(
    counted: Counted,
    exclude_shared: int | None,
    min_users: int,
    top: int,
    max_ties: int = MAX_TIES,
    max_users: int = MAX_USERS,
) -> Linked:
    """Group the users who share a value, as :func:`etl.analysis.linked.linked` does.

    :raises TooManyNames: the names of too many users would decide which groups are shown
    """
    shared = [
        _Shared(position, name, counted, exclude_shared)
        for position, name in enumerate(counted.columns)
    ]
    labels = _labels(counted, shared)
    sizes = np.bincount(labels)
    leaders = np.flatnonzero(sizes >= max(min_users, 2))
    total = {
        "groups": leaders.size,
        "users": int(sizes[leaders].sum()),
        "largest": int(sizes[leaders].max(initial=0)),
    }
    chosen = _chosen(counted, labels, sizes, leaders, top)
    groups = np.zeros(sizes.size, np.int64)  # the number of the group, by label
    groups[chosen] = np.arange(1, chosen.size + 1)
    ties = _ties(counted, shared, groups[labels], max_ties)
    edges = _edges(counted, ties, max_users)
    edges.attrs["query"] = counted.text_of_linked()
    return frames(counted.source, edges, sizes[chosen], total)


class _Shared:
    """The values of a column that link users."""

    def __init__(
        self, position: int, name: str, counted: Counted, exclude_shared: int | None
    ) -> None:
        pairs = counted.pairs[name]
        starts = pairs.starts
        users = lengths(starts, pairs.left.size)
        self.position = position
        self.name = name
        self.pairs = pairs
        self.starts = starts
        self.users = users
        self.links: Flags = users > 1
        if exclude_shared is not None:
            self.links &= users < exclude_shared


def _labels(counted: Counted, shared: list[_Shared]) -> Numbers:
    """Label each user, by code, with the lowest code in their group."""
    components = Components()
    # This join gives every user a label; code 0 means no user.
    components.join(np.array([counted.users.count]), np.array([counted.users.count]))
    for column in shared:
        is_link = np.repeat(column.links, column.users)
        users = column.pairs.right[is_link]
        firsts = np.repeat(column.pairs.right[column.starts], column.users)[is_link]
        for start in range(0, users.size, MAX_BUFFERED_LINKS):
            piece = slice(start, start + MAX_BUFFERED_LINKS)
            components.join(users[piece], firsts[piece])
        counted.stay()
    return components.labels()[: counted.users.count + 1]


def _chosen(
    counted: Counted, labels: Numbers, sizes: Numbers, leaders: Numbers, top: int
) -> Numbers:
    """Choose the largest groups; of equal ones, those whose first user has the lower name."""
    frame = pd.DataFrame({"leader": leaders, "users": sizes[leaders]})
    frame = largest(frame, ["users"], top)
    is_tied = frame["users"].duplicated(keep=False).to_numpy()
    frame["rank"] = 0
    if is_tied.any():
        is_of_tied = np.zeros(sizes.size, dtype=bool)
        is_of_tied[frame["leader"][is_tied]] = True
        members = np.flatnonzero(is_of_tied[labels])
        ranks, _ = counted.names.ranks(counted.source.entity.name, counted.users.rows[members])
        lowest = pd.Series(ranks).groupby(labels[members]).min()
        frame.loc[is_tied, "rank"] = frame["leader"][is_tied].map(lowest)
    frame = frame.sort_values(["users", "rank"], ascending=[False, True])
    return frame["leader"].to_numpy()[:top]


def _ties(counted: Counted, shared: list[_Shared], groups: Numbers, max_ties: int) -> pd.DataFrame:
    """Choose the values that link each group.

    Columns: ``group``, ``position``, ``code``, ``users``, ``rows``, ``values_of_column``,
    ``value``; in the order in which they are shown.
    """
    parts = []
    for column in shared:
        group = groups[column.pairs.right[column.starts]] * column.links
        chosen = group > 0
        parts.append(
            pd.DataFrame(
                {
                    "group": group[chosen],
                    "position": column.position,
                    "code": column.pairs.left[column.starts[chosen]],
                    "users": column.users[chosen],
                    "rows": sums(column.pairs.rows, column.starts)[chosen],
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    by_column = ["group", "position"]
    frame["values_of_column"] = frame.groupby(by_column)["code"].transform("size")
    frame["before"] = -frame["position"]
    counts = ["users", "rows", "before"]
    first = largest(frame, counts, max_ties, ["group"])
    first_of_column = largest(frame, counts[:2], 1, by_column)
    frame = frame.loc[first.index.union(first_of_column.index)]
    frame = _ranked(counted, frame, counted.columns)
    frame = frame.sort_values(
        ["group", *counts, "rank"], ascending=[True, False, False, False, True]
    )
    nth = frame.groupby("group").cumcount()
    nth_of_column = frame.groupby(by_column).cumcount()
    return frame[(nth < max_ties) | (nth_of_column == 0)].reset_index(drop=True)


def _ranked(counted: Counted, frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Add ``rank`` and ``value``, by which values of one column are ordered."""
    parts = [frame.assign(rank=0, value="")[:0]]
    for position, part in frame.groupby("position"):
        name = columns[int(str(position))]
        ranks, texts = counted.names.ranks(name, counted.values[name].rows[part["code"]])
        parts.append(part.assign(rank=ranks, value=texts.to_numpy()))
    return pd.concat(parts)


def _edges(counted: Counted, ties: pd.DataFrame, max_users: int) -> pd.DataFrame:
    """Choose the users who have these values, and name them.

    Columns: ``group``, ``position``, ``value``, ``users``, ``rows``, ``values_of_column``,
    ``user``, ``user_rows``.
    """
    parts = []
    for position, name in enumerate(counted.columns):
        tie_of_code = np.full(counted.values[name].rows.size, -1, np.int64)
        is_of_column = ties["position"] == position
        tie_of_code[ties["code"][is_of_column]] = np.flatnonzero(is_of_column)
        pairs = counted.pairs[name]
        tie = tie_of_code[pairs.left]
        chosen = tie >= 0
        columns = {"tie": tie, "user_code": pairs.right, "user_rows": pairs.rows}
        parts.append(pd.DataFrame({key: array[chosen] for key, array in columns.items()}))
    frame = largest(pd.concat(parts, ignore_index=True), ["user_rows"], max_users, ["tie"])
    users = np.unique(frame["user_code"])
    if users.size > MAX_ROWS:
        raise TooManyNames
    ranks, texts = counted.names.ranks(counted.source.entity.name, counted.users.rows[users])
    nth = np.searchsorted(users, frame["user_code"])
    frame = frame.assign(rank=ranks[nth], user=texts.to_numpy()[nth])
    frame = frame.sort_values(["tie", "user_rows", "rank"], ascending=[True, False, True])
    frame = frame[frame.groupby("tie").cumcount() < max_users]
    described = ties.take(frame["tie"].to_numpy()).reset_index(drop=True)
    names = ["group", "position", "value", "users", "rows", "values_of_column"]
    edges = described[names].assign(
        user=frame["user"].to_numpy(), user_rows=frame["user_rows"].to_numpy(dtype="int64")
    )
    integers = [name for name in edges if name not in ("value", "user")]
    edges = edges.astype({**dict.fromkeys(integers, "int64"), "value": "str", "user": "str"})
    edges.insert(1, "column", edges["position"].map(dict(enumerate(counted.columns))).astype("str"))
    return edges
