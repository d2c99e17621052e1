"""A person's rows and quarantined messages, found by one value and taken away.

The rows are found by the value's token under every key. In the quarantine the value stands as it
was sent, right or wrong, so every body is opened and looked into.
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
from etl.errors import DatabaseRefused, SettingsError
from etl.frames import ABSENT
from etl.operations import audit, entries
from etl.operations.entries import Selection
from etl.operations.lookup import tokens_of
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import target_table
from etl.schema import convert
from etl.sqs.message import Message

Way = Literal["delete", "null"]


@dataclass(frozen=True)
class Found:
    """What has the value, or had it."""

    rows: int
    entries: tuple[int, ...]  # of the quarantine, by id
    unopened: tuple[int, ...]  # entries that no key of the keyring opens


@dataclass(frozen=True)
class Search:
    """A value of a masked column, and where it is looked for."""

    engine: sa.Engine
    settings: Settings
    keyring: Keyring
    column: Column
    value: str

    @property
    def tokens(self) -> list[str]:
        """The value's tokens; none if it breaks a check, so that no row has it."""
        try:
            return list(tokens_of(self.value, self.column, self.keyring).values())
        except SettingsError:
            return []


def find(search: Search) -> Found:
    """Count what has the value; changes nothing.

    :raises DatabaseRefused: the table is missing, or a privilege
    :raises DatabaseUnavailable: an outage
    """
    table = target_table(search.settings.table)
    meant = table.c[search.column.name].in_(search.tokens)
    with transaction(search.engine) as connection:
        counted = connection.execute(sa.select(sa.func.count()).select_from(table).where(meant))
        rows = int(counted.scalar_one())
    return Found(rows, *_entries(search))


def forget(search: Search, way: Way, reason: str) -> Found:
    """Delete the rows or null the column in them, and take the bodies out of the quarantine.

    All of it and its audit row commit together, or nothing. What another replay is loading is
    waited for. What a run is loading, or the queue still holds, is not found.

    :raises SettingsError: null is not allowed in the column
    :raises DatabaseRefused: a privilege is missing, or a constraint refuses the change
    :raises DatabaseUnavailable: an outage; look again whether it happened
    """
    if way == "null" and not search.column.nullable:
        raise SettingsError(
            f"column {search.column.name!r} is not nullable; leave --null out to delete the rows"
        )
    meant, unopened = _entries(search)
    try:
        with transaction(search.engine) as connection:
            # The quarantine first: what a replay moves from there to the table in the meantime
            # stands in the table once its lock on the entry is gone.
            closed = entries.close(connection, meant, "forgotten", reason)
            rows = _change(connection, search, way)
            audit.add(connection, _audit(search, way, reason, rows, closed), search.tokens,
                      search.keyring)  # fmt: skip
    except RowRefused as refused:
        raise DatabaseRefused(f"nothing was changed: {refused.check}") from None
    return Found(rows, tuple(closed), unopened)


def _change(connection: sa.Connection, search: Search, way: Way) -> int:
    table = target_table(search.settings.table)
    column = table.c[search.column.name]
    change: Any = sa.delete(table) if way == "delete" else sa.update(table).values({column: None})
    return int(connection.execute(change.where(column.in_(search.tokens))).rowcount)


def _audit(
    search: Search, way: Way, reason: str, rows: int, closed: Sequence[int]
) -> audit.AuditEntry:
    table = search.settings.table
    done = "deleted" if way == "delete" else "nulled"
    scope = f"{rows} rows of {table.schema_name}.{table.name} {done}, {len(closed)} in quarantine"
    return audit.AuditEntry("forget", reason, scope, [search.column.source], rows + len(closed))


def _entries(search: Search) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The open entries that have the value, and those that cannot be opened."""
    meant: list[int] = []
    unopened: list[int] = []
    for page in entries.pages(search.engine, Selection(), search.settings.batch.bytes):
        with transaction(search.engine) as connection:
            found = entries.read(connection, page)
        readable = []
        for entry, body in entries.opened(found, search.keyring):
            if body is None:
                unopened.append(entry.quarantine_id)
            else:
                readable.append((entry.quarantine_id, entries.message(entry, body)))
        having = _having(search, [message for _, message in readable])
        meant += [number for number, message in readable if message.message_id in having]
    return tuple(meant), tuple(unopened)


def _having(search: Search, messages: Sequence[Message]) -> set[str]:
    """Messages that have the value in the field, or in a text that has no such field."""
    field, wanted = search.column.source, spelling(search.column, search.value)
    distinct = {message.message_id: message for message in messages}
    envelope = search.settings.queue.envelope
    raw, _ = extract.read(list(distinct.values()), [field], envelope=envelope)
    values = dict(zip(raw["message_id"], raw[field], strict=True))
    having = set()
    for message_id, message in distinct.items():
        value = values.get(message_id, ABSENT)
        if value is ABSENT:
            has = _mentions(message.body, {search.value, wanted})
        else:
            has = any(spelling(search.column, text) == wanted for text in _texts(value))
        if has:
            having.add(message_id)
    return having


def spelling(column: Column, text: str) -> str:
    """The one spelling of a value, as far as it has one; a reject may have spaces around it."""
    try:
        return str(convert(column, [text.strip()])[0])
    except ValueError:
        return text.strip()


def _texts(value: Any) -> Iterator[str]:
    """All that could be a value in what stands in a field, however wrong its type is."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _mentions(body: str, values: set[str]) -> bool:
    """Whether one of the values stands in a text, as it is or as JSON spells it, as a word."""
    spelt = {one for value in values for one in (value, json.dumps(value)[1:-1]) if one}
    return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", body) for one in spelt)
