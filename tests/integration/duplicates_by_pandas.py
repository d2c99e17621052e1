"""The answers of etl.analysis.duplicates, computed slowly by pandas on the whole table.

The tests compare the two. Each function returns plain tuples; its docstring names their fields.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from typing import Any

import pandas as pd

Rows = list[tuple[Any, ...]]


def plain(value: Any) -> Any:
    """Convert a value to plain Python: None for every null, a naive datetime for every time."""
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
    """The rows that occur more than once, each with the number of its copies."""
    counted = Counter(rows_of(table))
    return Counter({row: copies for row, copies in counted.items() if copies > 1})


def shared_values(table: pd.DataFrame, user: str, column: str, time: str, min_users: int) -> Rows:
    """Value, users, rows, first, last."""
    return _pairs(table, column, user, time, min_users)


def users_with_many(
    table: pd.DataFrame, user: str, column: str, time: str, min_values: int
) -> Rows:
    """User, values, rows, first, last."""
    return _pairs(table, user, column, time, min_values)


def _pairs(table: pd.DataFrame, group_by: str, counted: str, time: str, min_count: int) -> Rows:
    complete = table.dropna(subset=[group_by, counted])
    rows = [
        (value, group[counted].nunique(), len(group), *_span(group[time]))
        for value, group in complete.groupby(group_by)
    ]
    kept = [row for row in rows if row[1] >= min_count]
    return sorted(kept, key=lambda row: (-row[1], -row[2], row[0].encode()))


def distribution(table: pd.DataFrame, user: str, column: str) -> Rows:
    """Number of users, number of values that have this many users."""
    users = table.dropna(subset=[user, column]).groupby(column)[user].nunique()
    return sorted(Counter(users.tolist()).items())


def repeats(
    table: pd.DataFrame, user: str, masked: list[str], time: str, seconds: float
) -> Counter[Any]:
    """User, masked values, rows, first, last, seconds."""
    moments = defaultdict(list)
    for row in table.dropna(subset=[user, time]).to_dict("records"):
        moments[tuple(plain(row[name]) for name in [user, *masked])].append(plain(row[time]))
    rows = []
    for user_and_masked, times in moments.items():
        streaks: list[list[dt.datetime]] = []
        for moment in sorted(times):
            if not streaks or (moment - streaks[-1][-1]).total_seconds() > seconds:
                streaks.append([])
            streaks[-1].append(moment)
        rows += [
            (*user_and_masked, len(s), s[0], s[-1], (s[-1] - s[0]).total_seconds())
            for s in streaks
            if len(s) > 1
        ]
    return Counter(rows)


def groups(
    table: pd.DataFrame, user: str, columns: list[str], exclude_shared: int | None
) -> list[set[str]]:
    """The users of each linked group, found by merging sets that overlap."""
    merged: list[set[str]] = []
    for users in _ties(table, user, columns, exclude_shared).values():
        touched = [group for group in merged if group & users]
        merged = [group for group in merged if not group & users]
        merged.append(set().union(users, *touched))
    return sorted(merged, key=lambda group: (-len(group), min(name.encode() for name in group)))


def why(
    table: pd.DataFrame, user: str, columns: list[str], exclude_shared: int | None
) -> list[str]:
    """How many values of each column link each of these groups, in words."""
    ties = _ties(table, user, columns, exclude_shared)
    return [
        ", ".join(
            f"{number:,} {name}"
            for name in columns
            if (number := sum(c == name and users <= group for (c, _), users in ties.items()))
        )
        for group in groups(table, user, columns, exclude_shared)
    ]


def _ties(
    table: pd.DataFrame, user: str, columns: list[str], exclude_shared: int | None
) -> dict[tuple[str, str], set[str]]:
    """The users of each value, by column and value, of the values that link users."""
    users_by_value: dict[tuple[str, str], set[str]] = defaultdict(set)
    for column in columns:
        for name, value in table[[user, column]].dropna().itertuples(index=False, name=None):
            users_by_value[column, value].add(name)
    return {
        column_and_value: users
        for column_and_value, users in users_by_value.items()
        if len(users) > 1 and (exclude_shared is None or len(users) < exclude_shared)
    }


def _span(times: pd.Series) -> tuple[Any, Any]:
    return plain(times.min()), plain(times.max())
