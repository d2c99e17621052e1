"""Finds a value within columns that hold many values of an event: JSON, and lists of text.

A row that was loaded before its field was masked has the value there, or one that has it under
another name. No statement may carry a plain value, since the server can log it, so the rows are
read and searched here, as quarantined bodies are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import sqlalchemy as sa

from etl.config import Column, Table
from etl.errors import DatabaseRefused, UsageError
from etl.operations.body_search import BodySearch
from etl.schema import target_table

Change = Literal["delete", "null"]

_ROWS = 1000  # that are in memory at a time
_TRIES = 3


@dataclass(frozen=True)
class Tokens:
    """The tokens of the value, and the column that has them."""

    column: str
    texts: Sequence[str]


@dataclass(frozen=True)
class Found:
    """A row that has the value within columns."""

    part: int  # the partition, as its oid
    columns: tuple[str, ...]
    place: str  # the row's ctid
    has_token: bool  # so it is found without this search, too


def searched_columns(table: Table) -> list[Column]:
    """The columns that are searched."""
    return [column for column in table.columns if column.is_container]


def find_within(
    connection: sa.Connection, table: Table, bodies: BodySearch, tokens: Tokens
) -> list[Found]:
    """Find the rows that have the value within columns."""
    if not (columns := searched_columns(table)):
        return []
    target = target_table(table)
    statement = sa.select(
        sa.literal_column("cast(tableoid as bigint)"),
        sa.literal_column("cast(ctid as text)"),
        target.c[tokens.column].in_(tokens.texts),
        *(_as_json(target.c[column.name], column) for column in columns),
    ).select_from(target)
    found = []
    rows = connection.execute(statement, execution_options={"yield_per": _ROWS})
    for part, place, has_one, *texts in rows:
        names = [
            column.name
            for column, text in zip(columns, texts, strict=True)
            if text is not None and bodies.finds(text)
        ]
        if names:
            found.append(Found(part, tuple(names), place, bool(has_one)))
    return found


def change_within(
    connection: sa.Connection,
    table: Table,
    bodies: BodySearch,
    tokens: Tokens,
    change: Change,
) -> int:
    """Delete the rows that have the value within columns, or null those columns.

    With ``delete``, rows with a token are left to the caller.

    :returns: how many rows without a token were changed
    :raises UsageError: one of the columns does not allow null
    :raises DatabaseRefused: rows were changed at the same time, again and again
    """
    changed = 0
    for _ in range(_TRIES):
        found = find_within(connection, table, bodies, tokens)
        if change == "delete":
            found = [row for row in found if not row.has_token]
        else:
            _check_nullable(table, found)
        count = 0
        found.sort(key=lambda row: (row.part, row.columns))
        for (part, names), rows in groupby(found, lambda row: (row.part, row.columns)):
            statement = _statement(table, change, names)
            places = {"part": part, "places": [row.place for row in rows]}
            count += connection.execute(statement, places).rowcount
        # A row that another transaction has changed meanwhile is at another place.
        changed += sum(not row.has_token for row in found) - (len(found) - count)
        if count == len(found):
            return changed
    raise DatabaseRefused("nothing was changed: the rows are changed all the time; try again")


def _as_json(stored: sa.Column[Any], column: Column) -> sa.ColumnElement[Any]:
    as_json = sa.func.array_to_json(stored) if column.array else stored
    return sa.cast(as_json, sa.Text).label(column.name)


def _check_nullable(table: Table, found: Sequence[Found]) -> None:
    names = {name for row in found for name in row.columns}
    for column in searched_columns(table):
        if column.name in names and not column.nullable:
            raise UsageError(
                f"column {column.name!r} of {table.schema_name}.{table.name} has the value within "
                "it and is not nullable; leave --null out to delete the rows"
            )


def _statement(table: Table, change: Change, names: Sequence[str]) -> Any:
    target = target_table(table)
    nulls = {target.c[name]: None for name in names}
    statement: Any = sa.delete(target) if change == "delete" else sa.update(target).values(nulls)
    return statement.where(
        sa.text("tableoid = cast(:part as oid) and ctid = any(cast(:places as tid[]))")
    )
