"""How each masked column was first loaded: the kind of its mask, its context, its spelling.

They decide which token a value gets, and so do cleaning and the key of one-way tokens. A
configuration that changes one of them would give equal values other tokens from then on, and
searches would miss the rows from before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import yaml

from etl.config import MASKABLE, Column, Network, Settings, Table
from etl.crypto.keyring import Keyring
from etl.errors import RESTORE, KeyringError, SettingsError
from etl.postgres import once_masked
from etl.postgres.queries import queries

# What a run remembers, it remembers from its start, even if it loads nothing.
_AFTER_A_TRIAL = (
    "if there are none, after a trial, let the owner of the tables delete the column's row in "
    "etl.masked_columns; else "
)


# Types whose values have several spellings, of which one is masked.
_CANONICAL = ("uuid", "decimal")


@dataclass(frozen=True)
class FirstLoad:
    """How a masked column was first loaded."""

    column_name: str
    context: str
    canonical: bool
    fields: Sequence[str]  # of the event
    job: str
    first_used_at: dt.datetime
    cleaning: Sequence[str] = ()  # what was done to a text first, see Column.token_steps
    kind: str = "siv"  # or hmac, partial, network
    key_id: str | None = None  # of the key that makes one-way tokens


def read(connection: sa.Connection, table: Table) -> list[FirstLoad]:
    """Read how the masked columns of a table were first loaded."""
    rows = connection.execute(queries()["masked_columns"], {"target": table.full_name}).mappings()
    return [FirstLoad(**row) for row in rows]


def check(table: Table, known: Sequence[FirstLoad]) -> None:
    """Check that each column is masked as it was when it was first loaded.

    A column that is no longer in the configuration is not written to, so it cannot differ.

    :raises SettingsError: says what differs, and the lines to write in the configuration
    """
    by_name = {column.name: column for column in table.columns}
    problems: list[str] = []
    lines: list[str] = []
    for first in known:
        column = by_name.get(first.column_name)
        difference = column and _difference(column, first)
        if column and difference:
            day = first.first_used_at.astimezone(dt.UTC).date()
            problems.append(
                f"column {column.name!r} {difference} (first loaded on {day} by job {first.job!r})"
            )
            lines.append(line(column, first, table, known))
    if problems:
        raise _refusal(table, "; ".join(problems), lines, _AFTER_A_TRIAL)


def check_one_way_key(table: Table, known: Sequence[FirstLoad], keyring: Keyring) -> None:
    """Check that one-way tokens are made with the key of the first ones.

    They cannot be made again under another key, so equal values would stay different for ever.

    :raises KeyringError: they are not; names the column and the key
    """
    one_way = {column.name for column in table.columns if column.is_one_way}
    for first in known:
        if first.column_name not in one_way or first.key_id in (None, keyring.one_way):
            continue
        way_out = f"{RESTORE} that has key {first.key_id!r}"
        if first.key_id in keyring.key_ids:
            way_out = f'write "hmac": "{first.key_id}" in the keyring, beside "primary"'
        raise KeyringError(
            f"column {first.column_name!r} of {table.full_name!r} holds one-way tokens of key "
            f"{first.key_id!r}, and this keyring would make them with {keyring.one_way!r}, so that "
            f"equal values would differ from those before; {way_out}"
        )


def unlike_stored_tokens(column: Column, table: Table, context: str | None) -> SettingsError:
    """Make the error about a column whose context opens none of the tokens that it holds.

    :param context: one that opens them, if one is known
    """
    problem = f"column {column.name!r} holds tokens of another context than "
    problem += repr(column.masking_context)
    if context is None:
        return SettingsError(
            f"{table.full_name!r}: {problem}; set its 'context' to the name that its field had "
            "when it was first loaded"
        )
    changed = column.model_copy(update={"context": context})
    return _refusal(table, problem, [_written(changed)])


def _refusal(
    table: Table, problem: str, lines: Sequence[str], otherwise: str = ""
) -> SettingsError:
    written = "".join(f"\n    - {text}" for text in lines)
    return SettingsError(
        f"{table.full_name!r}: {problem}; with this configuration, rows that are loaded from now "
        f"on would not match those before; {otherwise}write under "
        f"'{table.section}.columns':{written}"
    )


def is_canonical(column: Column) -> bool:
    """Whether the column's values are brought into one spelling before they are masked."""
    return (column.type == "ip" and column.canonical) or column.type in _CANONICAL


def _difference(column: Column, first: FirstLoad) -> str:
    """Say how a column differs from its first load; empty if it does not."""
    if first.kind == once_masked.NETWORK:
        return "" if column.network else "stored the network only, and now does not"
    if not column.mask:
        return "was masked, and now is not"
    if column.mask_kind != first.kind:
        return f"was masked with {first.kind!r}, and now with {column.mask_kind!r}"
    if not column.has_tokens:
        return ""
    if column.masking_context != first.context:
        return f"had the context {first.context!r}, and now has {column.masking_context!r}"
    if is_canonical(column) != first.canonical:
        now, before = ("as sent", "in canonical form")[:: 1 if first.canonical else -1]
        return f"had its values masked {before}, and now {now}"
    if column.token_steps != tuple(first.cleaning):
        before, now = (", ".join(s) or "nothing" for s in (first.cleaning, column.token_steps))
        return f"had its texts changed before they were masked by {before}, and now by {now}"
    return ""


def line(column: Column, first: FirstLoad, table: Table, known: Sequence[FirstLoad]) -> str:
    """Write a column for the configuration so that it is masked as in its first load.

    It reads the field under its old and its new names.
    """
    changes: dict[str, Any] = {"context": first.context, "attribute": None}
    is_network = first.kind == once_masked.NETWORK
    changes["mask"] = False if is_network else True if first.kind == "siv" else first.kind
    if is_network:
        changes["context"] = None
    if first.kind == "partial":
        changes["context"] = None
        if not column.keep_domain and column.keep_last is None:
            changes["keep_last"] = 4
    else:
        changes |= {"keep_last": None, "keep_domain": False}
    names = _names(column, first, table, known)
    changes["field"] = names[0] if len(names) == 1 else tuple(names)
    if first.canonical:
        kept = column.type if column.type in _CANONICAL else "ip"
        changes |= {"type": kept, "canonical": True}
    elif column.type == "ip":
        changes["canonical"] = False
    elif column.type not in MASKABLE or column.type in _CANONICAL:
        changes["type"] = "text"
    # It is for columns that are not masked.
    changes["network"] = Network() if is_network else None
    if changes.get("type", column.type) != column.type:
        changes["accept"] = ()
    written = column.model_copy(update=changes)
    if written.token_steps != tuple(first.cleaning):
        written = written.model_copy(update=Column.settings_of(first.cleaning))
    return _written(written)


def _written(column: Column) -> str:
    facts = column.model_dump(mode="json", exclude_defaults=True)
    if column.network is not None:
        facts["network"] = column.network.model_dump()  # the numbers that are defaults, too
    return yaml.safe_dump(
        facts, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    ).strip()


def _names(column: Column, first: FirstLoad, table: Table, known: Sequence[FirstLoad]) -> list[str]:
    """Choose the names of the field: the old ones, then the new ones, none of another column."""
    others = [other for other in table.columns if other is not column]
    # A column that differs too gets a line of its own, with the names that it had.
    remembered = {other.column_name: other for other in known if other is not first}
    kept = {
        name
        for other in others
        if other.name not in remembered or not _difference(other, remembered[other.name])
        for name in other.fields
    } | {other.name for other in others}
    returned = {name for other in remembered.values() for name in other.fields}
    names = [name for name in first.fields if name not in kept]
    names += [name for name in column.fields if name not in {*names, *returned}]
    return names or list(column.fields or first.fields)


def missing(settings: Settings, known: Sequence[FirstLoad]) -> list[Column]:
    """List the columns that are not recorded: masked, or with no more than networks."""
    names = {first.column_name for first in known}
    masked = [column for column in settings.table.columns if column.mask]
    found = [*masked, *once_masked.only_networks(settings)]
    return [column for column in found if column.name not in names]


def add(
    connection: sa.Connection, settings: Settings, columns: Sequence[Column], keyring: Keyring
) -> None:
    """Record how columns are masked."""
    for column in columns:
        connection.execute(
            queries()["add_masked_column"],
            {
                "target": settings.table.full_name,
                "column_name": column.name,
                "context": column.masking_context,
                "canonical": is_canonical(column),
                "fields": list(column.fields),
                "job": settings.job_name,
                "cleaning": list(column.token_steps),
                "kind": column.mask_kind or once_masked.NETWORK,
                "key_id": keyring.one_way if column.is_one_way else None,
            },
        )
