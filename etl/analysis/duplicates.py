"""Duplicates in the masked table, as tidy frames: one fact a row, one kind of fact a frame.

    from etl import connect, duplicates
    source = connect()
    duplicates.shared_values(source, by="masked_device_id", top=10)

All counting is done in Postgres by the queries of ``etl/sql/duplicates.sql``; only the answer
travels. *User* stands for the value of ``report.entity``, whatever it is called in the table.
Counts are int64; times are UTC, null where the table has no time. ``top`` keeps the first rows (of
each column, where a frame is about several); None keeps all. Rows without a user count for nobody.

Every function raises as :meth:`etl.analysis.source.Source.reading` does.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import pandas as pd

from etl.analysis.key_usage import key_usage
from etl.analysis.linked import Linked, linked
from etl.analysis.source import Source
from etl.postgres.queries import quote_name

__all__ = [
    "Linked",
    "column_totals",
    "deliveries",
    "distribution",
    "exact_rows",
    "headline",
    "linked",
    "over_time",
    "repeats",
    "shared_values",
    "token_keys",
    "users_with_many",
]

DELIVERIES = ["runs", "received", "loaded", "already_handled", "quarantined"]


def headline(source: Source) -> pd.DataFrame:
    """One row about the whole table.

    Columns: ``rows``, ``users``, ``first`` and ``last`` (times), ``surplus_rows`` (rows that would
    go if of all rows that are equal in every column only one stayed).
    """
    return source.ask("headline")


def exact_rows(source: Source, *, top: int | None = None) -> pd.DataFrame:
    """Rows that are equal in every column, null being equal to null, most copies first.

    Columns: those of the table, then ``copies`` (rows, at least 2; ``copies_`` if the table has a
    column of that name).
    """
    copies = _free("copies", source.columns)
    frame = source.ask("exact_rows", {"copies": quote_name(copies)}, top=top)
    return _shown(source, frame, {name: name for name in source.columns})


def over_time(source: Source) -> pd.DataFrame:
    """Rows of each UTC day.

    Columns: ``day``, ``rows``, ``surplus_rows`` as in :func:`headline`. Empty where the table has
    no time.
    """
    return source.ask("rows_over_time")


def column_totals(source: Source, by: str | None = None) -> pd.DataFrame:
    """One row for each masked column, or for the column *by*.

    Columns: ``column``, ``rows`` (with a value and a user), ``values`` (distinct),
    ``shared_values`` (of at least two users), ``most_users`` (of one value).
    """
    return _by_column(source, by, "column_totals")


def shared_values(
    source: Source, by: str | None = None, *, min_users: int = 2, top: int | None = None
) -> pd.DataFrame:
    """Values that at least *min_users* users have, most users first.

    Columns: ``column``, ``value`` (a token, if the column is masked), ``users``, ``rows``,
    ``first``, ``last``.
    """
    return _by_column(source, by, "shared_values", min_users=min_users, top=top)


def users_with_many(
    source: Source, by: str | None = None, *, min_values: int = 2, top: int | None = None
) -> pd.DataFrame:
    """Users that have at least *min_values* values in a column (devices, say), most values first.

    Columns: ``column``, ``user``, ``values`` (distinct), ``rows``, ``first``, ``last``.
    """
    return _by_column(source, by, "users_with_many", min_values=min_values, top=top)


def distribution(source: Source, by: str | None = None) -> pd.DataFrame:
    """How many values have one user, two users and so on.

    Columns: ``column``, ``users`` (of one value), ``values`` (that have so many users).
    """
    return _by_column(source, by, "distribution")


def repeats(
    source: Source, *, within_seconds: float | None = None, top: int | None = None
) -> pd.DataFrame:
    """Rows of one user that agree in all masked columns and follow closely on one another.

    :param within_seconds: longest pause between two of them; by default 60, or 0 where the table
        knows only the date, so that all rows of a day are one repeat

    Columns: ``user``, the masked columns, ``rows`` (at least 2), ``first``, ``last``, ``seconds``
    (from the first to the last). Nulls agree. Most rows first. Empty where the table has no time.
    """
    if within_seconds is None:
        within_seconds = 60 if source.time is not None and source.time.type == "timestamp" else 0
    aliases = {f"masked{i}": name for i, name in enumerate(source.asked())}
    named = (f"{quote_name(name)} as {alias}" for alias, name in aliases.items())
    places = {"names": ", ".join(aliases), "named": ", ".join(named)}
    frame = source.ask("repeats", places, within_seconds=within_seconds, top=top)
    frame = _shown(source, frame, {"user": source.entity.name, **aliases})
    return frame.rename(
        columns={a: _free(name, frame.columns.tolist()) for a, name in aliases.items()}
    )


def token_keys(source: Source) -> pd.DataFrame:
    """Under which keys the tokens of each masked column are, in the whole table at any time.

    Equal values are equal tokens under one key only, so rows under different keys are not joined by
    any of the functions here.

    Columns: ``column``, ``key_id`` (null for what is no token), ``rows``.
    """
    return key_usage(source.engine, source.settings.table)


def deliveries(source: Source) -> pd.DataFrame:
    """What became of all deliveries of the queue, by ``etl.runs``.

    Columns: ``runs``, ``received``, ``loaded``, ``already_handled`` (redeliveries, which never
    become rows), ``quarantined``. Empty where there is no ``etl.runs``, or no right to read it.
    """
    if source.ask("runs_readable").empty:
        return pd.DataFrame(columns=DELIVERIES)
    return source.ask("deliveries")


def _by_column(source: Source, by: str | None, query: str, **parameters: Any) -> pd.DataFrame:
    parts = [_of_column(source, name, query, parameters) for name in source.asked(by)]
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs["query"] = ";\n\n".join(part.attrs["query"] for part in parts)
    return frame


def _of_column(source: Source, column: str, query: str, parameters: dict[str, Any]) -> pd.DataFrame:
    frame = source.ask(query, {"value": quote_name(column)}, **parameters)
    frame.insert(0, "column", pd.Series(column, index=frame.index, dtype="str"))
    own = {"value": column, "user": source.entity.name}
    return _shown(source, frame, {name: own[name] for name in own if name in frame})


def _shown(source: Source, frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    return frame.assign(**{name: source.shown(c, frame[name]) for name, c in columns.items()})


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name += "_"
    return name
