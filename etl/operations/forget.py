"""Finds a person's rows and quarantined messages by one value, and removes them.

Only the tables and entries of the job are searched: each job has its own fields and contexts.
Rows are found by the value's token under every key. In the quarantine the value is as it was sent,
valid or not and in any field, so every body is opened and searched; so are columns of JSON and of
lists of text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, UsageError
from etl.operations import audit
from etl.operations.body_search import BodySearch
from etl.operations.entries import (
    Selection,
    close,
    id_pages,
    read_open,
    unseal_entries,
)
from etl.operations.lookup import tokens_of_spellings
from etl.operations.spellings import spellings
from etl.operations.within_columns import Change, Tokens, change_within, find_within
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import check_target_exists
from etl.postgres.target import check_changes
from etl.schema import target_table
from etl.text import counted, in_words


class Rows(NamedTuple):
    """How many rows of a table hold the value."""

    with_token: int
    within: int  # others, which have it within JSON or a list


@dataclass(frozen=True)
class Matches:
    """The rows and quarantine entries that hold the value, or held it before it was forgotten."""

    rows: int  # with its token
    entries: tuple[int, ...]  # of the quarantine, by id
    unopened: tuple[int, ...]  # entries that no key of the keyring opens
    searched: int = field(default=0, compare=False)  # entries that were opened and searched
    within: int = 0  # other rows, which have it within JSON or a list


@dataclass(frozen=True)
class Search:
    """A value of a masked column, and where to look for it."""

    engine: sa.Engine
    settings: Settings  # with one table
    keyring: Keyring
    column: Column
    value: str
    exact: bool = False  # only as given, without other spellings
    others: tuple[Search, ...] = ()  # for the same value in the other tables of the job

    @property
    def each(self) -> tuple[Search, ...]:
        """The searches of all tables, which have no others."""
        return (replace(self, others=()), *self.others)

    @property
    def place(self) -> str:
        """The table in which rows are looked for: ``schema.name``."""
        return f"{self.settings.table.schema_name}.{self.settings.table.name}"

    @property
    def tokens(self) -> list[str]:
        """The value's tokens; empty if the value fails a check, because then no row has it."""
        return [] if self.refusal else list(self._tokens().values())

    @property
    def spellings(self) -> list[str]:
        """The texts that the value may stand for."""
        texts = [self.value] if self.exact else spellings(self.value)
        if self.column.type != "uuid":
            return texts
        return list(dict.fromkeys(form for t in texts for form in (t, t.lower(), t.upper())))

    @property
    def parts(self) -> list[Column]:
        """The other columns that are made of the same value: its tokens, parts and networks."""
        return [
            column
            for column in self.settings.table.columns
            if column.source == self.column.source and column.name != self.column.name
        ]

    @property
    def bodies(self) -> BodySearch:
        """What finds the value in texts and in JSON."""
        return BodySearch(self.column, self.spellings)

    @property
    def refusal(self) -> UsageError | None:
        """Why no row can have the value, or None if one can."""
        try:
            self._tokens()
        except UsageError as error:
            return error
        return None

    def _tokens(self) -> dict[tuple[str, str], str]:
        return tokens_of_spellings(self.value, self.column, self.keyring, exact=self.exact)


def find_value(search: Search) -> Matches:
    """Count what has the value, without changing anything.

    :raises UsageError: no row can have the value, and no quarantined message has it
    :raises TableError: the table is missing
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    found = _find_entries(search)
    with transaction(search.engine) as connection:
        rows = [_count_rows(connection, in_table) for in_table in search.each]
    found = _with_rows(found, rows)
    _check_refusal(search, found)
    return found


def forget_value(search: Search, change: Change, reason: str) -> Matches:
    """Delete the rows or null the column in them, and close the quarantined messages.

    Everything commits together with its audit row, or nothing does. If a replay is loading a
    message, this waits for it. It does not find what a run is loading or what the queue still
    holds.

    :raises UsageError: the column does not allow null; or no row can have the value, and no
        quarantined message has it
    :raises TableError: the rows are replicated and cannot be changed
    :raises DatabaseRefused: a privilege is missing, or a constraint refuses the change
    :raises DatabaseUnavailable: an outage; check whether the change was made
    """
    for in_table in search.each:
        _check_change(in_table, change)
    found = _find_entries(search)
    try:
        with transaction(search.engine) as connection:
            # The quarantine comes first. If a replay is moving an entry to the table, closing waits
            # for its lock, and then the row is in the table.
            closed = close(connection, found.entries, "forgotten", reason)
            # The last table first: it may refer to those before it.
            rows = {
                in_table.place: _change_rows(connection, in_table, change)
                for in_table in reversed(search.each)
            }
            found = _with_rows(found, rows.values())
            _check_refusal(search, found)
            entry = _audit_entry(search, change, reason, rows, closed)
            tokens = dict.fromkeys(token for in_table in search.each for token in in_table.tokens)
            audit.add(connection, entry, list(tokens), search.keyring)
    except RowRefused as refused:
        raise DatabaseRefused(f"nothing was changed: {refused.check}") from None
    return replace(found, entries=tuple(closed))


def _check_change(search: Search, change: Change) -> None:
    for column in (search.column, *search.parts) if change == "null" else ():
        if not column.nullable:
            raise UsageError(
                f"column {column.name!r} of {search.place} is not nullable; leave --null out to "
                "delete the rows"
            )
    check_changes(search.engine, search.settings.table, "update" if change == "null" else "delete")


def _with_rows(found: Matches, each: Collection[Rows]) -> Matches:
    rows, within = (sum(counts) for counts in zip(*each, strict=True))
    return replace(found, rows=rows, within=within)


def _count_rows(connection: sa.Connection, search: Search) -> Rows:
    check_target_exists(connection, search.settings.table)
    table, tokens = target_table(search.settings.table), Tokens(search.column.name, search.tokens)
    has_token = table.c[tokens.column].in_(tokens.texts)
    count = sa.select(sa.func.count()).select_from(table).where(has_token)
    rows = int(connection.execute(count).scalar_one())
    within = find_within(connection, search.settings.table, search.bodies, tokens)
    return Rows(rows, sum(not row.has_token for row in within))


def _change_rows(connection: sa.Connection, search: Search, change: Change) -> Rows:
    table, tokens = target_table(search.settings.table), Tokens(search.column.name, search.tokens)
    within = change_within(connection, search.settings.table, search.bodies, tokens, change)
    has_token = table.c[tokens.column].in_(tokens.texts)
    nulls = {table.c[c.name]: None for c in (search.column, *search.parts)}
    statement: Any = sa.delete(table) if change == "delete" else sa.update(table).values(nulls)
    return Rows(int(connection.execute(statement.where(has_token)).rowcount), within)


def _audit_entry(
    search: Search, change: Change, reason: str, rows: dict[str, Rows], closed: Sequence[int]
) -> audit.AuditEntry:
    verb = "deleted" if change == "delete" else "nulled"
    of_tables = in_words(
        f"{counted(sum(rows[in_table.place]), 'row')} of {in_table.place}"
        for in_table in search.each
    )
    scope = f"{of_tables} {verb}, {len(closed)} in quarantine"
    count = sum(map(sum, rows.values())) + len(closed)
    return audit.AuditEntry("forget", reason, scope, [search.column.source], count)


def _find_entries(search: Search) -> Matches:
    """Find the open entries that have the value, and those that cannot be opened; no rows yet."""
    bodies = [in_table.bodies for in_table in search.each]
    matching: list[int] = []
    unopened: list[int] = []
    searched = 0
    own = Selection(job=search.settings.job_name)
    for page in id_pages(search.engine, own, search.settings.batch.bytes):
        with transaction(search.engine) as connection:
            entries = read_open(connection, page)
        for entry, body in unseal_entries(entries, search.keyring):
            if body is None:
                unopened.append(entry.quarantine_id)
                continue
            searched += 1
            if any(body_search.finds(body) for body_search in bodies):
                matching.append(entry.quarantine_id)
    return Matches(0, tuple(matching), tuple(unopened), searched)


def _check_refusal(search: Search, found: Matches) -> None:
    """Check that the value was found, or could have been.

    :raises UsageError: all entries could be opened, none has it, and no row has or can have it
    """
    is_refused = all(in_table.refusal for in_table in search.each)
    if is_refused and not (found.entries or found.unopened or found.within):
        raise UsageError(
            f"{search.refusal}; it is in none of {counted(found.searched, 'quarantined message')}"
        )
