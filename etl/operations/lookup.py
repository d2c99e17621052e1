"""Looks up values and rows under every key of a keyring.

After a rotation, equal values have one token for each key that was used for them, until ``rekey``
has brought all rows under the primary key. A search for a value is therefore a search for each of
its tokens.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from etl import mask
from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UsageError
from etl.fieldtypes import canonical_ip, field_type
from etl.operations.spellings import spellings, unwrapped
from etl.postgres.engine import transaction
from etl.postgres.queries import fetch_frame
from etl.postgres.tables import check_target_exists
from etl.reading.cleaning import cleaned_value
from etl.reading.literals import literal
from etl.schema import column_checks, convert, target_table


def tokens_of(value: str, column: Column, keyring: Keyring) -> dict[str, str]:
    """Return the token of a value under every key, by key id, with the primary key first.

    The value is cleaned, checked and brought into the column's canonical form, as the loader does
    it.

    :raises UsageError: the loader would have rejected the value, and the check is named, or would
        have stored null
    """
    read = cleaned_value(column, value)
    if isinstance(read, str) and str not in field_type(column).python:
        with contextlib.suppress(SettingsError):  # it fails the check of the type then
            read = literal(column, read)
    values = [read]
    if values == [None]:
        raise UsageError(f"the value counts as null in {column.source!r}, so no row can contain it")
    for check, failed in column_checks(column):
        if failed(values):
            raise UsageError(
                f"the value fails the check {check!r} of {column.source!r}, so no row can contain "
                "it"
            )
    plain = convert(column, values)
    return {
        key_id: str(mask.tokens_of_column(plain, keyring.with_primary(key_id), column)[0])
        for key_id in key_ids(column, keyring)
    }


def key_ids(column: Column, keyring: Keyring) -> list[str]:
    """The keys under which a column has tokens, the one that makes new ones first."""
    if column.is_one_way:
        return [keyring.one_way]
    return sorted(keyring.key_ids, key=lambda key_id: key_id != keyring.primary)


def tokens_of_one(
    value: str, column: Column, keyring: Keyring, *, exact: bool = False
) -> dict[str, str]:
    """Return the tokens of a value by key id, if only one text can be meant.

    :param exact: the value as given is meant
    :raises UsageError: the loader would have rejected it, or what is around it may be part of it
    """
    texts = [value] if exact else unwrapped(value)
    tokens = tokens_of_texts(texts, column, keyring)
    if len({text for _, text in tokens}) > 1:
        raise UsageError(
            "the value has spaces, quotes or invisible characters around it; give it without them, "
            "or, if they are part of it, as a JSON string with --quoted"
        )
    return {key_id: token for (key_id, _), token in tokens.items()}


def tokens_of_spellings(
    value: str, column: Column, keyring: Keyring, *, exact: bool = False
) -> dict[tuple[str, str], str]:
    """Return the tokens of each spelling of a value that the column can hold, by key id and text.

    :param exact: only the value as given
    :raises UsageError: the column can hold none of them; names the check that the value fails
    """
    texts = [value] if exact else spellings(value)
    if column.type == "ip" and not column.canonical:
        texts = list(dict.fromkeys(notation for text in texts for notation in _notations(text)))
    return tokens_of_texts(texts, column, keyring)


def tokens_of_texts(
    texts: Iterable[str], column: Column, keyring: Keyring
) -> dict[tuple[str, str], str]:
    """Return the tokens of the texts that the column can hold, by key id and text.

    Of several texts with the same tokens only the first is named.

    :raises UsageError: the column can hold none of them; names the check that the first one fails
    """
    found: dict[tuple[str, str], str] = {}
    refused: UsageError | None = None
    for text in texts:
        try:
            tokens = tokens_of(text, column, keyring)
        except UsageError as error:
            refused = refused or error
        else:
            if not set(tokens.values()) <= set(found.values()):
                found |= {(key_id, text): token for key_id, token in tokens.items()}
    if not found and refused:
        raise refused
    return found


def _notations(text: str) -> list[str]:
    """The usual notations of an address, for a column that keeps the one that was sent."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return [text]
    canonical = canonical_ip(text)
    forms = [text, canonical, address.compressed, address.exploded]
    if "." in canonical:
        forms.append(f"::ffff:{canonical}")
    return [form for lower in forms for form in (lower, lower.upper())]


def _as_shown(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """A column, as text where Python would show another text or fewer digits than Postgres."""
    kind = column.type.item_type if isinstance(column.type, sa.ARRAY) else column.type
    if isinstance(kind, (postgresql.JSONB, postgresql.BYTEA)):
        return sa.cast(column, sa.Text).label(column.name)
    return column


def find_rows(
    engine: sa.Engine, table: Table, column: Column, tokens: Mapping[Any, str], limit: int
) -> pd.DataFrame:
    """Find the rows that have one of the tokens in the column: the table's columns, in any order.

    :param tokens: the tokens are the values of this mapping
    :param limit: maximum number of rows to return
    :raises TableError: the table is missing
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    statement = (
        sa.select(*map(_as_shown, target.c))
        .where(target.c[column.name].in_(tokens.values()))
        .limit(limit)
    )
    with transaction(engine) as connection:
        check_target_exists(connection, table)
        return fetch_frame(connection, statement)
