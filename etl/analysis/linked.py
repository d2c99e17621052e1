"""Users linked by the values they share: connected components, and the values that link them.

Postgres finds the links, numbers the users, and streams pairs of numbers. Only the forest of
:mod:`etl.analysis.components` is held in memory: 4 bytes for each user who shares a value. Then
Postgres describes the groups that were chosen. Both queries run in one snapshot, so the numbers are
the same. Both need only the right to read the table, and a replica will do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa

from etl.analysis.components import Components, Nodes
from etl.analysis.source import Source
from etl.postgres.queries import filled, quote_name

MAX_BUFFERED_LINKS = 200_000
DEFAULT_TOP = 20
MAX_TIES = 20
MAX_USERS = 50


@dataclass(frozen=True)
class Linked:
    """Groups of linked users, numbered from 1, the largest first.

    groups  ``group``, ``users``, ``values`` (that link them), ``why`` (for example
            ``"2 masked_ip, 1 masked_id"``)
    ties    ``group``, ``column``, ``value``, ``users``, ``rows``: the values that link the group,
            most users first, up to a limit
    edges   ``group``, ``column``, ``value``, ``user``, ``rows``: the users who have these values,
            most rows first, up to a limit for each value
    total   ``groups``, ``users``, ``largest``: one row about all groups, listed or not
    """

    groups: pd.DataFrame
    ties: pd.DataFrame
    edges: pd.DataFrame
    total: pd.DataFrame


def linked(
    source: Source,
    by: str | None = None,
    *,
    exclude_shared: int | None = None,
    min_users: int = 2,
    top: int = DEFAULT_TOP,
    max_ties: int = MAX_TIES,
    max_users: int = MAX_USERS,
) -> Linked:
    """Group the users who share a value, directly or through other users.

    :param by: the column whose values link users; None means all masked columns
    :param exclude_shared: a value that this many users or more share links nobody (the address of a
        large network, say)
    :param min_users: leave out smaller groups
    :param top: number of groups to describe, the largest first
    :param max_ties: values to list for a group; at least one of each column that links it is listed
    :param max_users: users to list for each of these values
    :raises UsageError: *by* is not a column to compare, or no column is masked; it also raises what
        :meth:`etl.analysis.source.Source.reading` raises
    """
    columns = source.value_columns(by)
    tied = _tied(source, columns)
    with source.snapshot() as snapshot:
        labels = _labels(snapshot, tied, exclude_shared)
        leaders, sizes = _large_groups(labels, min_users)
        # Leaders are in the order of their names, which a stable sort keeps for groups of one size.
        chosen = np.argsort(-sizes, kind="stable")[:top]
        answer = snapshot.ask(
            "linked",
            {"tied": tied},
            exclude_shared=exclude_shared,
            **_members(labels, leaders[chosen]),
            max_ties=max_ties,
            max_users=max_users,
        )
    answer.insert(1, "column", answer["position"].map(dict(enumerate(columns))).astype("str"))
    total = {"groups": sizes.size, "users": int(sizes.sum()), "largest": int(sizes.max(initial=0))}
    return frames(source, answer, sizes[chosen], total)


def _large_groups(labels: Nodes, min_users: int) -> tuple[Nodes, Nodes]:
    """Return the label and the size of each group of at least *min_users* users."""
    leaders, sizes = np.unique(labels, return_counts=True)
    is_large = sizes >= max(min_users, 2)
    return leaders[is_large], sizes[is_large]


def _members(labels: Nodes, leaders: Nodes) -> dict[str, str]:
    """Make the query's parameters: the users of the groups, and the number of each user's group."""
    members = np.flatnonzero(np.isin(labels, leaders))
    numbers = {int(leader): number for number, leader in enumerate(leaders, 1)}
    groups = [numbers[label] for label in labels[members].tolist()]
    return {"members": _array(members), "groups": _array(groups)}


def frames(source: Source, answer: pd.DataFrame, sizes: Nodes, total: dict[str, int]) -> Linked:
    """Make the frames of the answer of the query "linked".

    :param sizes: users of each group
    :param total: the columns of the frame of that name
    """
    # Before plain values are hidden, because hidden ones are all alike.
    is_first_user = ~answer.duplicated(["group", "column", "value"])
    _hide_plain_values(source, answer)
    ties = answer[is_first_user]
    edges = answer[["group", "column", "value", "user", "user_rows"]]
    named = {
        "groups": _groups(ties, sizes),
        "ties": ties[["group", "column", "value", "users", "rows"]].reset_index(drop=True),
        "edges": edges.rename(columns={"user_rows": "rows"}),
        "total": pd.DataFrame([total]),
    }
    for frame in named.values():
        frame.attrs["query"] = answer.attrs["query"]
    return Linked(**named)


def _hide_plain_values(source: Source, answer: pd.DataFrame) -> None:
    answer["user"] = source.without_plain_values(source.entity.name, answer["user"])
    for name in answer["column"].unique():
        is_of_column = answer["column"] == name
        values = answer.loc[is_of_column, "value"]
        answer.loc[is_of_column, "value"] = source.without_plain_values(name, values)


def _groups(ties: pd.DataFrame, sizes: Nodes) -> pd.DataFrame:
    counts = ties.drop_duplicates(["group", "column"]).sort_values(["group", "position"])
    pairs = zip(counts["values_of_column"], counts["column"], strict=True)
    reasons = pd.Series([f"{n:,} {column}" for n, column in pairs], counts.index, dtype="str")
    values = counts.groupby("group", sort=True)["values_of_column"].sum()
    return pd.DataFrame(
        {
            "group": np.arange(1, sizes.size + 1),
            "users": sizes.astype("int64"),
            "values": values.to_numpy(dtype="int64"),
            "why": reasons.groupby(counts["group"]).agg(", ".join).to_numpy(),
        }
    ).astype({"why": "str"})


def _array(numbers: Iterable[int]) -> str:
    # As text, because psycopg2 would make an object for each of perhaps a million numbers.
    return f"{{{','.join(map(str, numbers))}}}"


def _tied(source: Source, columns: list[str]) -> str:
    fragments = source.fragments()
    pairs = [
        filled("pairs", {**fragments, "position": str(i), "value": quote_name(name)})
        for i, name in enumerate(columns)
    ]
    return filled("tied", {"pairs": " union all ".join(pairs)})


def query_of_linked(source: Source, columns: list[str]) -> str:
    """Return the query that describes groups, for readers."""
    return source.text("linked", {"tied": _tied(source, columns)})


def _labels(source: Source, tied: str, exclude_shared: int | None) -> Nodes:
    """Label each user, by number, with the lowest number in their group."""
    components = Components()
    text = sa.text(filled("links", {"tied": tied}))
    with source.reading() as connection:
        answer = connection.execute(
            text.execution_options(stream_results=True, max_row_buffer=MAX_BUFFERED_LINKS),
            {**source.bounds, "exclude_shared": exclude_shared},
        )
        for links in answer.partitions(MAX_BUFFERED_LINKS):
            # numpy gets columns, because it would ask each row of a list for its length, in 60 us.
            users, first_users = zip(*links, strict=True)
            components.join(np.array(users, np.int32), np.array(first_users, np.int32))
    return components.labels()
