"""Rows that are skipped, or replace another one, by the columns of ``table.key``.

Of several events with one key, the one that was sent last wins, in whatever order they come. Two
that were sent in the same millisecond are told apart by their rows, written as text and compared
byte by byte: the greater one wins. So what is stored depends on the events alone, and neither on
their order, nor on how they fall into batches and workers.

The rows that are new are inserted first, so that they can be counted apart. Each statement takes
the keys in order, so that two workers with the same keys wait for each other and do not deadlock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from etl.config import Column, Table
from etl.postgres.columns import existing_columns, staged_values
from etl.postgres.queries import quote_name

# An event without a sent time is older than any other.
_BEFORE_ALL = "'-infinity'"


class Outcome(NamedTuple):
    """What the database did with some events."""

    taken: int  # events that it refused for no reason
    updated: int = 0  # of these, events whose row has replaced another one
    skipped: int = 0  # of these, events whose row is not stored, for another one of its key


@dataclass(frozen=True)
class Statements:
    """The statements that move staged rows to the target.

    :param replace: None if rows are skipped
    :param lost: counts the events that the table has no row for
    """

    insert: str
    replace: str | None
    lost: str


@dataclass(frozen=True)
class Target:
    """The target and what the catalogue says of its columns."""

    table: Table
    types: Mapping[str, str]  # as SQL writes them, by column
    values: str  # of a row, from the staging table
    staging: str  # the table in which the rows wait

    @classmethod
    def look_up(cls, connection: sa.Connection, table: Table, staging: str) -> Target:
        """Ask the catalogue."""
        found = existing_columns(connection, table)
        return cls(
            table=table,
            types={name: _escaped(column.written) for name, column in found.items()},
            values=_escaped(", ".join(staged_values(connection, table))),
            staging=staging,
        )


def statements(found: Target, ids: str | None = None) -> Statements:
    """Make the statements, for :func:`sqlalchemy.text`.

    :param ids: a query for the ids of the messages; by default all staged rows are moved
    """
    table, types = found.table, found.types
    target = quote_name(table.schema_name, table.name)
    names = ", ".join(quote_name(column.name) for column in table.columns)
    keys = ", ".join(map(quote_name, table.key))
    # What is compared is what the target would store: of a citext, A and a are one.
    typed_keys = ", ".join(_typed(name, types) for name in table.key)
    staged = f"from {found.staging} as s where " + (f"s.message_id in ({ids})" if ids else "true")
    into = f"insert into {target} as t ({names})"
    of_key = " and ".join(f"t.{quote_name(name)} = {_typed(name, types)}" for name in table.key)
    if table.on_conflict == "skip":
        return Statements(
            insert=f"{into} select {found.values} {staged} order by {typed_keys}, s.ctid "
            f"on conflict ({keys}) do nothing",
            replace=None,
            lost=_lost(target, staged, of_key),
        )
    sent = quote_name(_sent_column(table).name)
    last = (
        f"{into} select {found.values} from (select distinct on ({typed_keys}) {names} {staged} "  # noqa: S608
        f"order by {typed_keys}, {_moment('s', sent)} desc, {_staged_text(table, types)} desc"
        f") as s on conflict ({keys})"
    )
    changes = ", ".join(f"{name} = excluded.{name}" for name in _replaced(table))
    is_newer = (
        f"({_moment('excluded', sent)}, {_row_text(table, 'excluded')}) > "
        f"({_moment('t', sent)}, {_row_text(table, 't')})"
    )
    not_older = f"{of_key} and {_moment('t', sent)} >= {_moment('s', sent)}"
    return Statements(
        insert=f"{last} do nothing",
        replace=f"{last} do update set {changes} where {is_newer}",
        lost=_lost(target, staged, not_older),
    )


def _lost(target: str, staged: str, found: str) -> str:
    return f"select count(*) {staged} and not exists (select from {target} as t where {found})"  # noqa: S608


def _typed(name: str, types: Mapping[str, str]) -> str:
    value = f"s.{quote_name(name)}"
    return f"cast({value} as {types[name]})" if name in types else value


def _escaped(sql: str) -> str:
    # In a text, a colon would begin a parameter.
    return sql.replace(":", "\\:")


def _moment(row: str, sent: str) -> str:
    return f"coalesce({row}.{sent}, {_BEFORE_ALL})"


def _row_text(table: Table, row: str) -> str:
    values = ", ".join(f"{row}.{quote_name(name)}" for name in _of_the_event(table))
    return f'cast(row({values}) as text) collate "C"'


def _staged_text(table: Table, types: Mapping[str, str]) -> str:
    values = ", ".join(_typed(name, types) for name in _of_the_event(table))
    return f'cast(row({values}) as text) collate "C"'


def _of_the_event(table: Table) -> Iterator[str]:
    """The columns that are the same in whichever run a message is loaded."""
    loading = ("run_id", "loaded_at")
    return (column.name for column in table.columns if column.metadata not in loading)


def _replaced(table: Table) -> Iterator[str]:
    """The columns that a newer row replaces, quoted. To set a key would lock out foreign keys."""
    return (quote_name(column.name) for column in table.columns if column.name not in table.key)


def _sent_column(table: Table) -> Column:
    column = table.sent_column
    if column is None:
        raise AssertionError("the settings were not checked")
    return column


class Mover:
    """Moves staged rows to the target, in the caller's transaction."""

    def __init__(self, connection: sa.Connection, table: Table, staging: str) -> None:
        self._connection = connection
        self._target = Target.look_up(connection, table, staging)

    def move(self, message_ids: Sequence[str], *, is_all: bool) -> Outcome:
        """Move the rows of these messages.

        :param is_all: whether no other row is staged
        """
        # One JSON text, since an array of thousands of parameters would be parsed one by one.
        listed = None if is_all else "select jsonb_array_elements_text(cast(:ids as jsonb))"
        parameters = {} if is_all else {"ids": json.dumps(list(message_ids))}
        made = statements(self._target, listed)
        events = len(message_ids)
        inserted = self._connection.execute(sa.text(made.insert), parameters).rowcount
        if inserted == events:
            return Outcome(events)
        updated = 0
        if made.replace is not None:
            updated = self._connection.execute(sa.text(made.replace), parameters).rowcount
        # A trigger or a rule may have left out a row. Such an event is not one that was skipped.
        lost = self._connection.execute(sa.text(made.lost), parameters).scalar_one()
        return Outcome(events - lost, updated, events - inserted - updated - lost)
