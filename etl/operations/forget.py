"""Finds a person's rows and quarantined messages by one value, and removes them.

Rows are found by the value's token under every key. In the quarantine the value is as it was sent,
valid or not, so every body is opened and searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from etl import extract
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, UsageError
from etl.frames import ABSENT
from etl.operations import audit
from etl.operations.entries import (
    Selection,
    as_message,
    close,
    id_pages,
    read_open,
    unseal_entries,
)
from etl.operations.lookup import tokens_of
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import target_table
from etl.postgres.target import check_changes
from etl.schema import convert
from etl.sqs.message import Message

Change = Literal["delete", "null"]


@dataclass(frozen=True)
class Matches:
    """The rows and quarantine entries that hold the value, or held it before it was forgotten."""

    rows: int
    entries: tuple[int, ...]  # of the quarantine, by id
    unopened: tuple[int, ...]  # entries that no key of the keyring opens


@dataclass(frozen=True)
class Search:
    """A value of a masked column, and where to look for it."""

    engine: sa.Engine
    settings: Settings
    keyring: Keyring
    column: Column
    value: str

    @property
    def tokens(self) -> list[str]:
        """The value's tokens; empty if the value fails a check, because then no row has it."""
        try:
            return list(tokens_of(self.value, self.column, self.keyring).values())
        except UsageError:
            return []


def find_value(search: Search) -> Matches:
    """Count what has the value, without changing anything.

    :raises DatabaseRefused: the table or a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    table = target_table(search.settings.table)
    has_value = table.c[search.column.name].in_(search.tokens)
    count = sa.select(sa.func.count()).select_from(table).where(has_value)
    with transaction(search.engine) as connection:
        rows = int(connection.execute(count).scalar_one())
    return Matches(rows, *_find_entries(search))


def forget_value(search: Search, change: Change, reason: str) -> Matches:
    """Delete the rows or null the column in them, and close the quarantined messages.

    Everything commits together with its audit row, or nothing does. If a replay is loading a
    message, this waits for it. It does not find what a run is loading or what the queue still
    holds.

    :raises UsageError: the column does not allow null
    :raises TableError: the rows are replicated and cannot be changed
    :raises DatabaseRefused: a privilege is missing, or a constraint refuses the change
    :raises DatabaseUnavailable: an outage; check whether the change was made
    """
    if change == "null" and not search.column.nullable:
        raise UsageError(
            f"column {search.column.name!r} is not nullable; leave --null out to delete the rows"
        )
    check_changes(search.engine, search.settings.table, "update" if change == "null" else "delete")
    matching, unopened = _find_entries(search)
    try:
        with transaction(search.engine) as connection:
            # The quarantine comes first. If a replay is moving an entry to the table, closing waits
            # for its lock, and then the row is in the table.
            closed = close(connection, matching, "forgotten", reason)
            rows = _change_rows(connection, search, change)
            entry = _audit_entry(search, change, reason, rows, closed)
            audit.add(connection, entry, search.tokens, search.keyring)
    except RowRefused as refused:
        raise DatabaseRefused(f"nothing was changed: {refused.check}") from None
    return Matches(rows, tuple(closed), unopened)


def _change_rows(connection: sa.Connection, search: Search, change: Change) -> int:
    table = target_table(search.settings.table)
    column = table.c[search.column.name]
    statement: Any = (
        sa.delete(table) if change == "delete" else sa.update(table).values({column: None})
    )
    return int(connection.execute(statement.where(column.in_(search.tokens))).rowcount)


def _audit_entry(
    search: Search, change: Change, reason: str, rows: int, closed: Sequence[int]
) -> audit.AuditEntry:
    table = search.settings.table
    verb = "deleted" if change == "delete" else "nulled"
    scope = f"{rows} rows of {table.schema_name}.{table.name} {verb}, {len(closed)} in quarantine"
    return audit.AuditEntry("forget", reason, scope, [search.column.source], rows + len(closed))


def _find_entries(search: Search) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the open entries that have the value, and those that cannot be opened, by id."""
    matching: list[int] = []
    unopened: list[int] = []
    for page in id_pages(search.engine, Selection(), search.settings.batch.bytes):
        with transaction(search.engine) as connection:
            entries = read_open(connection, page)
        messages: list[tuple[int, Message]] = []
        for entry, body in unseal_entries(entries, search.keyring):
            if body is None:
                unopened.append(entry.quarantine_id)
            else:
                messages.append((entry.quarantine_id, as_message(entry, body)))
        with_value = _with_value(search, [message for _, message in messages])
        matching += [entry_id for entry_id, message in messages if message.message_id in with_value]
    return tuple(matching), tuple(unopened)


def _with_value(search: Search, messages: Sequence[Message]) -> set[str]:
    """Return the ids of messages with the value in the field, or, without that field, anywhere."""
    field = search.column.source
    wanted = canonical_text(search.column, search.value)
    by_id = {message.message_id: message for message in messages}
    envelope = search.settings.queue.envelope
    raw, _ = extract.read(list(by_id.values()), [field], envelope=envelope)
    values = dict(zip(raw["message_id"], raw[field], strict=True))
    with_value = set()
    for message_id, message in by_id.items():
        value = values.get(message_id, ABSENT)
        if value is ABSENT:
            has_value = _mentions(message.body, {search.value, wanted})
        else:
            has_value = any(canonical_text(search.column, text) == wanted for text in _texts(value))
        if has_value:
            with_value.add(message_id)
    return with_value


def canonical_text(column: Column, text: str) -> str:
    """Return a value in the column's canonical form if it has one; strips spaces around it."""
    try:
        return str(convert(column, [text.strip()])[0])
    except ValueError:
        return text.strip()


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a field that could be a value, even if the field's type is wrong."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for element in value:
            yield from _texts(element)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _mentions(body: str, values: set[str]) -> bool:
    """Whether a text contains one of the values as a word, verbatim or as escaped in JSON."""
    escaped = {json.dumps(value)[1:-1] for value in values}
    return any(
        re.search(rf"(?<!\w){re.escape(text)}(?!\w)", body) for text in values | escaped if text
    )
