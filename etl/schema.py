"""The columns of config.yaml -> checks, conversions, table columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from etl.checks.searches import (
    Failed,
    bad,
    equal_to,
    not_encodable,
    of_other_type,
    too_long,
    utf8_bytes,
    with_nul,
)
from etl.config import Column, Table
from etl.crypto.key_ids import MAX_KEY_ID_CHARACTERS
from etl.crypto.tokens import check_one_way_fits, longest_value
from etl.errors import SettingsError, UsageError, nearest
from etl.fieldtypes import Values, field_type, utc
from etl.frames import ABSENT
from etl.reading.partial import shown_part

STAGING = "etl_staging"
DAY_MS = 24 * 3600 * 1000
MAX_UTF8_BYTES = 4  # of one character

Check = tuple[str, Callable[[Values], Failed]]


def column_checks(column: Column) -> list[Check]:
    """The checks of one column in order.

    A check takes the decoded Python values of an object column and returns the positions of those
    that fail it. The checks are strict: True is not an integer, 2.5 is not an integer, "5" is not a
    number. A check passes any value that an earlier check has refused, so a row lists each fault
    once.
    """
    kind = field_type(column)
    python = (int,) if column.is_time else kind.python
    checks: list[Check] = []
    if column.required:
        checks.append(("missing", lambda values: equal_to(ABSENT, values)))
    if not column.nullable:
        checks.append(("null", lambda values: equal_to(None, values)))
    # type() instead of isinstance(), because True is an instance of int.
    allowed = frozenset((*python, type(None), type(ABSENT)))
    checks.append(("type", lambda values: of_other_type(values, allowed)))
    if column.is_time:
        return checks
    if python == (str,):
        checks += [("NUL character", with_nul), ("lone surrogate", not_encodable)]
    checks += [
        (name, lambda values, good=good: bad(values, python, good))  # type: ignore[misc]
        for name, good in kind.checks
    ]
    length = _length_check(column) if column.mask or python == (str,) else None
    return [*checks, ("length", length)] if length else checks


def _length_check(column: Column) -> Callable[[Values], Failed] | None:
    limit = column.max_length
    if limit is None:
        return None
    if column.mask == "partial":
        shown = shown_part(column)
        return lambda values: bad(values, (str,), lambda text: len(shown(text)) <= limit)
    if column.mask:
        try:
            return _token_length_check(column, limit)
        except SettingsError as error:
            raise SettingsError(f"column {column.name!r}: {error}") from None
    # An address may be stored in fewer characters than it came in.
    size = field_type(column).text_length if column.type == "ip" else len
    return lambda values: too_long(values, limit, size, 1)


def _token_length_check(column: Column, limit: int) -> Callable[[Values], Failed] | None:
    if column.is_one_way:
        check_one_way_fits(limit)
        return None  # all of its tokens are equally long
    # The token must fit into the column, so the limit is on the bytes of the value. There is room
    # for the longest key id, so that the tokens of every key fit after a rotation.
    limit_bytes = longest_value(limit, MAX_KEY_ID_CHARACTERS)
    kind = field_type(column)
    if column.type == "text":
        return lambda values: too_long(values, limit_bytes, utf8_bytes, MAX_UTF8_BYTES)
    # What failed a check may have no text, or one of a million digits. The others are ASCII.
    if kind.python == (str,):
        return lambda values: too_long(values, limit_bytes, kind.text_length, MAX_UTF8_BYTES)
    return lambda values: bad(
        values, kind.python, lambda value: kind.text_length(value) <= limit_bytes
    )


def convert(column: Column, values: list[Any]) -> Any:
    """Convert checked values to what the table stores, or to what is masked. Absent becomes null.

    What is masked is text, and equal for equal values: of 5 it is "5".

    :returns: the same number of values, in the same order: a list, or a nullable array
    """
    # A column that is required holds no ABSENT once it is checked.
    present = values if column.required else [None if v is ABSENT else v for v in values]
    if column.is_time:
        return _times(present, column.type)
    kind = field_type(column)
    if column.mask and column.type not in ("text", "ip"):
        return [None if value is None else kind.text(value) for value in present]
    return kind.convert(present)


def _times(milliseconds: list[int | None], kind: str) -> list[Any]:
    if kind == "timestamp":
        return [None if value is None else utc(value) for value in milliseconds]
    # A batch spans a day or two, so each date is made once.
    days = {None if value is None else value // DAY_MS for value in milliseconds}
    dates = {day: None if day is None else utc(day * DAY_MS).date() for day in days}
    return [dates[None if value is None else value // DAY_MS] for value in milliseconds]


def masked_columns(table: Table) -> list[Column]:
    """The columns of the table that hold tokens, of either kind."""
    return [column for column in table.columns if column.has_tokens]


def recoverable_columns(table: Table) -> list[Column]:
    """The columns of the table whose tokens the keyring opens."""
    return [column for column in table.columns if column.is_recoverable]


def masked_column(table: Table, name: str) -> Column:
    """The masked column of this name, or the one that is made from a field of this name.

    :raises UsageError: there is none, or several; the message names them
    """
    masked = masked_columns(table)
    found = [c for c in masked if c.name == name] or [c for c in masked if name in c.fields]
    if len(found) > 1:
        names = ", ".join(repr(column.name) for column in found)
        raise UsageError(f"{name!r} is masked in several columns; name one of them: {names}")
    if found:
        return found[0]
    fields = [field for column in masked_columns(table) for field in column.fields]
    meant = nearest(name, [*fields, *(column.name for column in masked_columns(table))])
    way_out = f"did you mean {meant!r}?" if meant else f"masked are {', '.join(fields) or 'none'}"
    raise UsageError(f"{name!r} is not a masked field; {way_out}")


def table_columns(columns: tuple[Column, ...]) -> list[sa.Column[Any]]:
    """The columns of the target table, in order."""
    return [sa.Column(column.name, sql_type(column)) for column in columns]


def target_table(table: Table) -> sa.Table:
    """Describe the columns of the target table, for statements."""
    return sa.Table(
        table.name, sa.MetaData(), *table_columns(table.columns), schema=table.schema_name
    )


def staging_table(table: Table, name: str = STAGING) -> sa.Table:
    """Describe the temporary table in which a batch waits for the ledger."""
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("message_id", sa.Text),
        # The target may have a column of this name, which holds the same.
        *(column for column in table_columns(table.columns) if column.name != "message_id"),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def sql_type(column: Column) -> sa.types.TypeEngine[Any]:
    """The type that the database stores. A token is text, whatever it was made from."""
    if column.mask:
        return sa.String(column.max_length) if column.max_length else sa.Text()
    return field_type(column).sql
