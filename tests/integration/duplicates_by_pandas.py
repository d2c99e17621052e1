"""The duplicate report's answers once more, slowly: by pandas, on the whole table."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from typing import Any

import pandas as pd

Rows = list[tuple[Any, ...]]


def plain(value: Any) -> Any:
    """A value without what differs between pandas and Python: None for every null, naive times."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.tz_localize(None).to_pydatetime()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, dt.date):
        return dt.datetime.combine(value, dt.time())
    return value.item() if hasattr(value, "item") else value


def rows_of(frame: pd.DataFrame) -> Rows:
    """The rows of a frame as plain tuples, in order."""
    return [tuple(map(plain, row)) for row in frame.itertuples(index=False, name=None)]


def headline(table: pd.DataFrame, user: str, time: str) -> Rows:
    """Rows, users, first, last, surplus rows."""
    first, last = _span(table[time])
    surplus = int(table.astype(object).where(table.notna(), None).duplicated().sum())
    return [(len(table), table[user].nunique(), first, last, surplus)]


def exact_rows(table: pd.DataFrame) -> Counter[Any]:
    """How often each row occurs that occurs more than once."""
    counted = Counter(rows_of(table))
    return Counter({row: copies for row, copies in counted.items() if copies > 1})


def shared_values(table: pd.DataFrame, user: str, column: str, time: str, least: int) -> Rows:
    """Value, users, rows, first, last."""
    return _pairs(table, column, user, time, least)


def users_with_many(table: pd.DataFrame, user: str, column: str, time: str, least: int) -> Rows:
    """User, values, rows, first, last."""
    return _pairs(table, user, column, time, least)


def _pairs(table: pd.DataFrame, one: str, other: str, time: str, least: int) -> Rows:
    both = table.dropna(subset=[one, other])
    found = [
        (value, part[other].nunique(), len(part), *_span(part[time]))
        for value, part in both.groupby(one)
    ]
    kept = [row for row in found if row[1] >= least]
    return sorted(kept, key=lambda row: (-row[1], -row[2], row[0].encode()))


def distribution(table: pd.DataFrame, user: str, column: str) -> Rows:
    """Users, values that have so many."""
    users = table.dropna(subset=[user, column]).groupby(column)[user].nunique()
    return sorted(Counter(users.tolist()).items())


def repeats(
    table: pd.DataFrame, user: str, masked: list[str], time: str, seconds: float
) -> Counter[Any]:
    """User, masked values, rows, first, last, seconds."""
    moments = defaultdict(list)
    for row in table.dropna(subset=[user, time]).to_dict("records"):
        moments[tuple(plain(row[name]) for name in [user, *masked])].append(plain(row[time]))
    found = []
    for who, times in moments.items():
        parts: list[list[dt.datetime]] = []
        for moment in sorted(times):
            if not parts or (moment - parts[-1][-1]).total_seconds() > seconds:
                parts.append([])
            parts[-1].append(moment)
        found += [
            (*who, len(p), p[0], p[-1], (p[-1] - p[0]).total_seconds()) for p in parts if len(p) > 1
        ]
    return Counter(found)


def groups(table: pd.DataFrame, user: str, columns: list[str], most: int | None) -> list[set[str]]:
    """The users of each linked group, by merging sets until nothing merges."""
    merged: list[set[str]] = []
    for users in _ties(table, user, columns, most).values():
        touched = [group for group in merged if group & users]
        merged = [group for group in merged if not group & users]
        merged.append(set().union(users, *touched))
    return sorted(merged, key=lambda group: (-len(group), min(name.encode() for name in group)))


def why(table: pd.DataFrame, user: str, columns: list[str], most: int | None) -> list[str]:
    """How many values of each column tie each of these groups."""
    ties = _ties(table, user, columns, most)
    return [
        ", ".join(
            f"{number:,} {name}"
            for name in columns
            if (number := sum(c == name and users <= group for (c, _), users in ties.items()))
        )
        for group in groups(table, user, columns, most)
    ]


def _ties(
    table: pd.DataFrame, user: str, columns: list[str], most: int | None
) -> dict[tuple[str, str], set[str]]:
    holders: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in columns:
        for who, value in table[[user, name]].dropna().itertuples(index=False, name=None):
            holders[name, value].add(who)
    return {k: u for k, u in holders.items() if 1 < len(u) < (most or len(u) + 1)}


def _span(times: pd.Series) -> tuple[Any, Any]:
    return plain(times.min()), plain(times.max())
