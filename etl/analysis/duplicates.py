"""Duplicates in the masked table, as tidy frames.

    from etl import connect, duplicates
    source = connect()
    duplicates.shared_values(source, by="masked_device_id", top=10)

Postgres does the counting, with the queries in ``etl/sql/duplicates.sql``, and sends only the
result. A *user* is a value of the column ``report.entity``, whatever the table calls it; a row
where it is null belongs to no user. Counts are int64. Times are UTC, and null if the table has no
time column. ``top`` is the maximum number of rows (for each column, if a frame is about several
columns); None means all.

Every function raises what :meth:`etl.analysis.source.Source.reading` raises, and ``UsageError`` if
*by* is not a column to compare, or no column is masked.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import pandas as pd

from etl.analysis.key_usage import key_usage_in
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
    """Count the whole table, in one row.

    Columns: ``rows``, ``users``, ``first`` and ``last`` (times), ``surplus_rows`` (how many rows
    would be removed if one row of each set of identical rows were kept).
    """
    return source.ask("headline")


def exact_rows(source: Source, *, top: int | None = None) -> pd.DataFrame:
    """Find rows that are equal in every column, most copies first. Null equals null.

    Columns with ``metadata``, such as the message's id, are left out: they always differ.

    Columns: the others of the table, then ``copies`` (number of equal rows, at least 2; called
    ``copies_`` if the table has a column ``copies``).
    """
    copies = unused_name("copies", source.compared)
    frame = source.ask("exact_rows", {"copies": quote_name(copies)}, top=top)
    return without_plain_values(source, frame, {name: name for name in source.compared})


def over_time(source: Source) -> pd.DataFrame:
    """Count the rows of each UTC day.

    Columns: ``day``, ``rows``, ``surplus_rows`` as in :func:`headline`. Empty if the table has no
    time column.
    """
    return source.ask("rows_over_time")


def column_totals(source: Source, by: str | None = None) -> pd.DataFrame:
    """Count the values of each masked column, or of the column *by*, in one row for each column.

    Columns: ``column``, ``rows`` (those with a value and a user), ``values`` (distinct),
    ``shared_values`` (values of at least two users), ``most_users`` (the most users of one value).
    """
    return _by_column(source, by, "column_totals")


def shared_values(
    source: Source, by: str | None = None, *, min_users: int = 2, top: int | None = None
) -> pd.DataFrame:
    """Find values that at least *min_users* users have, most users first.

    Columns: ``column``, ``value`` (a token, if the column is masked), ``users``, ``rows``,
    ``first``, ``last``.
    """
    return _by_column(source, by, "shared_values", min_users=min_users, top=top)


def users_with_many(
    source: Source, by: str | None = None, *, min_values: int = 2, top: int | None = None
) -> pd.DataFrame:
    """Find users with at least *min_values* values in a column (devices, say), most values first.

    Columns: ``column``, ``user``, ``values`` (distinct), ``rows``, ``first``, ``last``.
    """
    return _by_column(source, by, "users_with_many", min_values=min_values, top=top)


def distribution(source: Source, by: str | None = None) -> pd.DataFrame:
    """Count the values that have one user, two users, and so on.

    Columns: ``column``, ``users`` (of a value), ``values`` (how many have that many users).
    """
    return _by_column(source, by, "distribution")


def repeats(
    source: Source, *, within_seconds: float | None = None, top: int | None = None
) -> pd.DataFrame:
    """Find rows of one user that agree in all masked columns, each shortly after the one before.

    :param within_seconds: longest pause between two rows of a repeat; None means 60, or 0 if the
        table has only dates, so that all rows of a day are one repeat

    Columns: ``user``, the masked columns, ``rows`` (at least 2), ``first``, ``last``, ``seconds``
    (from the first row to the last). Null equals null. Most rows first. Empty if the table has no
    time column.
    """
    within_seconds, fragments, aliases = repeat_options(source, within_seconds)
    frame = source.ask("repeats", fragments, within_seconds=within_seconds, top=top)
    return finished_repeats(source, frame, aliases)


def repeat_options(
    source: Source, within_seconds: float | None
) -> tuple[float, dict[str, str], dict[str, str]]:
    """Return the longest pause, the query's fragments, and the masked columns by their aliases."""
    if within_seconds is None:
        within_seconds = 60 if source.time is not None and source.time.type != "date" else 0
    aliases = {f"masked{i}": name for i, name in enumerate(source.value_columns())}
    aliased = (f"{quote_name(name)} as {alias}" for alias, name in aliases.items())
    fragments = {"aliases": ", ".join(aliases), "aliased": ", ".join(aliased)}
    return within_seconds, fragments, aliases


def finished_repeats(source: Source, frame: pd.DataFrame, aliases: dict[str, str]) -> pd.DataFrame:
    """Hide plain values, and call the masked columns by their names."""
    frame = without_plain_values(source, frame, {"user": source.entity.name, **aliases})
    taken = frame.columns.tolist()
    return frame.rename(columns={alias: unused_name(n, taken) for alias, n in aliases.items()})


def token_keys(source: Source) -> pd.DataFrame:
    """Count the tokens of each masked column by key, in the whole table whatever the period.

    Equal values have equal tokens only under the same key, so no function here can match rows under
    different keys.

    Columns: ``column``, ``key_id`` (null for values that are not tokens), ``rows``.
    """
    with source.reading() as connection:
        return key_usage_in(connection, source.settings.table).drop(columns="one_way")


def deliveries(source: Source) -> pd.DataFrame:
    """Sum up what happened to all deliveries to this job, according to ``etl.runs``.

    Columns: ``runs``, ``received``, ``loaded``, ``already_handled`` (redeliveries, which are not
    loaded again), ``quarantined``. Empty if there is no ``etl.runs``, if it is from an earlier
    version, or without the right to read it.
    """
    if source.ask("runs_readable").empty:
        return pd.DataFrame(columns=DELIVERIES)
    return source.ask("deliveries", job=source.settings.job_name)


def _by_column(source: Source, by: str | None, query: str, **parameters: Any) -> pd.DataFrame:
    parts = [_of_column(source, name, query, parameters) for name in source.value_columns(by)]
    frame = pd.concat(parts, ignore_index=True)
    frame.attrs["query"] = ";\n\n".join(part.attrs["query"] for part in parts)
    return frame


def _of_column(source: Source, column: str, query: str, parameters: dict[str, Any]) -> pd.DataFrame:
    frame = source.ask(query, {"value": quote_name(column)}, **parameters)
    frame.insert(0, "column", pd.Series(column, index=frame.index, dtype="str"))
    origins = {"value": column, "user": source.entity.name}
    return without_plain_values(
        source, frame, {name: origin for name, origin in origins.items() if name in frame}
    )


def without_plain_values(
    source: Source, frame: pd.DataFrame, origins: dict[str, str]
) -> pd.DataFrame:
    """Hide plain values of masked columns; *origins* maps columns of the frame to the table's."""
    hidden = {
        name: source.without_plain_values(origin, frame[name]) for name, origin in origins.items()
    }
    return frame.assign(**hidden)


def unused_name(name: str, taken: Container[str]) -> str:
    """Lengthen a name until it is not taken."""
    while name in taken:
        name += "_"
    return name
