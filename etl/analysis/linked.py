"""Users linked through the values that they share: connected components, and what ties them.

Postgres finds the links and numbers the users; the links come as a stream of pairs of numbers, and
only the forest of :mod:`etl.analysis.components` is held: 4 bytes for each user that shares
something. Then Postgres is asked about the groups that were chosen. Both answers are of one moment,
so the numbers are the same; neither needs more than the right to read the table, on a replica too.
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

LINKS_AT_ONCE = 200_000
TOP, MAX_TIES, MAX_USERS = 20, 20, 50


@dataclass(frozen=True)
class Linked:
    """Groups of linked users, the largest first; they are numbered from 1.

    groups  ``group``, ``users``, ``values`` (that tie it), ``why`` (``"2 masked_ip, 1 masked_id"``)
    ties    ``group``, ``column``, ``value``, ``users``, ``rows``: what ties the group, most users
            first; all that the group is tied by, up to a limit
    edges   ``group``, ``column``, ``value``, ``user``, ``rows``: who has those values, most rows
            first; up to a limit for each value
    total   one row about all groups, shown or not: ``groups``, ``users`` (in them), ``largest``
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
    top: int = TOP,
    max_ties: int = MAX_TIES,
    max_users: int = MAX_USERS,
) -> Linked:
    """Connect the users that share a value, directly or through others.

    :param by: a column to go by; by default every masked one ties
    :param exclude_shared: a value that so many users or more share ties nobody (the address of a
        large network)
    :param min_users: leave out smaller groups
    :param top: groups to describe, the largest first
    :param max_ties: values to name in a group; of each column that ties it, one is always named
    :param max_users: users to name for each of these values
    """
    columns = source.asked(by)
    tied = _tied(source, columns)
    with source.snapshot() as still:
        labels = _labels(still, tied, exclude_shared)
        leaders, sizes = np.unique(labels, return_counts=True)
        large = sizes >= max(min_users, 2)
        leaders, sizes = leaders[large], sizes[large]
        # The largest first; those of one size by the name of their first user.
        chosen = np.argsort(-sizes, kind="stable")[:top]
        members = np.flatnonzero(np.isin(labels, leaders[chosen]))
        place = {int(leader): nth for nth, leader in enumerate(leaders[chosen], 1)}
        answer = still.ask(
            "linked",
            {"tied": tied},
            exclude_shared=exclude_shared,
            members=_array(members),
            groups=_array([place[label] for label in labels[members].tolist()]),
            max_ties=max_ties,
            max_users=max_users,
        )
    total = {"groups": sizes.size, "users": int(sizes.sum()), "largest": int(sizes.max(initial=0))}
    answer.insert(1, "column", answer["position"].map(dict(enumerate(columns))).astype("str"))
    first = ~answer.duplicated(["group", "column", "value"])
    answer["user"] = source.shown(source.entity.name, answer["user"])
    for name in columns:
        here = answer["column"] == name
        answer.loc[here, "value"] = source.shown(name, answer.loc[here, "value"])
    ties = answer[first]
    frames = {
        "groups": _groups(ties, sizes[chosen]),
        "ties": ties[["group", "column", "value", "users", "rows"]].reset_index(drop=True),
        "edges": answer[["group", "column", "value", "user", "user_rows"]].rename(
            columns={"user_rows": "rows"}
        ),
        "total": pd.DataFrame([total]),
    }
    for frame in frames.values():
        frame.attrs["query"] = answer.attrs["query"]
    return Linked(**frames)


def _groups(ties: pd.DataFrame, sizes: Nodes) -> pd.DataFrame:
    counted = ties.drop_duplicates(["group", "column"]).sort_values(["group", "position"])
    by_group = counted.groupby("group", sort=True)
    pairs = zip(counted["values_here"], counted["column"], strict=True)
    words = pd.Series([f"{n:,} {column}" for n, column in pairs], counted.index, dtype="str")
    return pd.DataFrame(
        {
            "group": np.arange(1, sizes.size + 1),
            "users": sizes.astype("int64"),
            "values": by_group["values_here"].sum().to_numpy(dtype="int64"),
            "why": words.groupby(counted["group"]).agg(", ".join).to_numpy(),
        }
    ).astype({"why": "str"})


def _array(numbers: Iterable[int]) -> str:
    # As text: the driver would make an object of each of what may be a million numbers.
    return f"{{{','.join(map(str, numbers))}}}"


def _tied(source: Source, columns: list[str]) -> str:
    places = source.places()
    parts = [
        filled("pairs", {**places, "position": str(i), "value": quote_name(name)})
        for i, name in enumerate(columns)
    ]
    return filled("tied", {"pairs": " union all ".join(parts)})


def _labels(source: Source, tied: str, exclude_shared: int | None) -> Nodes:
    """The least number of each user's group, by the user's number."""
    components = Components()
    text = sa.text(filled("links", {"tied": tied}))
    with source.reading() as connection:
        answer = connection.execute(
            text.execution_options(stream_results=True, max_row_buffer=LINKS_AT_ONCE),
            {**source.bounds, "exclude_shared": exclude_shared},
        )
        for links in answer.partitions(LINKS_AT_ONCE):
            # By column: of a list of rows numpy asks each for its length, for 60 us.
            one, other = (np.array(side, dtype=np.int32) for side in zip(*links, strict=True))
            components.join(one, other)
    return components.labels()
