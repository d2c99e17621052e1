"""The columns of config.yaml -> checks, conversions, table columns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from itertools import repeat
from operator import is_not
from typing import Any

import sqlalchemy as sa

from etl.config import Column, Table
from etl.crypto.key_ids import MAX_KEY_ID_CHARACTERS
from etl.crypto.tokens import longest_value
from etl.errors import SettingsError, UsageError, nearest
from etl.fieldtypes import TYPES, Values, utc
from etl.frames import ABSENT

STAGING = "etl_staging"
DAY_MS = 24 * 3600 * 1000
MAX_UTF8_BYTES = 4  # of one character

Failed = list[int]  # positions
Check = tuple[str, Callable[[Values], Failed]]


def check_columns(columns: tuple[Column, ...]) -> None:
    """Check that the configured columns can be checked and stored; imports no pandas.

    :raises SettingsError: a masked column is too narrow for any token
    """
    for column in columns:
        column_checks(column)


def column_checks(column: Column) -> list[Check]:
    """The checks of one column in order.

    A check takes the decoded Python values of an object column and returns the positions of those
    that fail it. The checks are strict: True is not an integer, 2.5 is not an integer, "5" is not a
    number. A check passes any value that an earlier check has refused, so a row lists each fault
    once.
    """
    kind = TYPES[column.type]
    python = (int,) if column.attribute else kind.python
    checks: list[Check] = []
    if column.required:
        checks.append(("missing", lambda values: _equal_to(ABSENT, values)))
    if not column.nullable:
        checks.append(("null", lambda values: _equal_to(None, values)))
    # type() instead of isinstance(), because True is an instance of int.
    allowed = frozenset((*python, type(None), type(ABSENT)))
    checks.append(("type", lambda values: _of_other_type(values, allowed)))
    if column.attribute:
        return checks
    if python == (str,):
        checks += [("NUL character", _with_nul), ("lone surrogate", _not_encodable)]
    checks += [
        (name, lambda values, good=good: _bad(values, python, good))  # type: ignore[misc]
        for name, good in kind.checks
    ]
    length = _length_check(column)
    return [*checks, ("length", length)] if length else checks


def _length_check(column: Column) -> Callable[[Values], Failed] | None:
    limit = column.max_length
    if limit is None:
        return None
    if column.mask:
        # The token must fit into the column, so the limit is on the bytes of the value. There is
        # room for the longest key id, so that the tokens of every key fit after a rotation.
        try:
            limit_bytes = longest_value(limit, MAX_KEY_ID_CHARACTERS)
        except SettingsError as error:
            raise SettingsError(f"column {column.name!r}: {error}") from None
        return lambda values: _too_long(values, limit_bytes, _utf8_bytes, MAX_UTF8_BYTES)
    return lambda values: _too_long(values, limit, len, 1)


def _too_long(values: Values, limit: int, size: Callable[[str], int], most: int) -> Failed:
    """Find the texts above the limit; a character adds *most* to the size, or less."""
    is_short = _longest(values) * most <= limit
    return [] if is_short else _bad(values, (str,), lambda value: size(value) <= limit)


def _longest(values: Values) -> float:
    """The number of characters in the longest text; infinity if a value is not text."""
    try:
        return max(map(len, filter(None, values)), default=0)
    except TypeError:
        return math.inf


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# Hardly any value fails, so the searches below first rule that out without a loop in Python.


def _equal_to(unwanted: object, values: Values) -> Failed:
    if all(map(is_not, values, repeat(unwanted))):
        return []
    return [row for row, value in enumerate(values) if value is unwanted]


def _of_other_type(values: Values, allowed: frozenset[type]) -> Failed:
    if allowed.issuperset(map(type, values)):
        return []
    return [row for row, value in enumerate(values) if type(value) not in allowed]


def _bad(values: Values, python: tuple[type, ...], good: Callable[[Any], bool]) -> Failed:
    if python == (str,) and _all_good(values, good):
        return []
    return [row for row, value in enumerate(values) if type(value) in python and not good(value)]


def _all_good(values: Values, good: Callable[[Any], bool]) -> bool:
    """Check each distinct text once: most columns of a batch repeat values, mostly good ones."""
    try:
        distinct = set(values)
    except TypeError:  # a list or an object, which cannot be in a set
        return False
    distinct.discard(None)
    return set(map(type, distinct)) <= {str} and all(map(good, distinct))


def _all_text(values: Values) -> str:
    """Join the texts of a column: one search of the whole can show that every text is good."""
    try:
        return "".join(values)
    except TypeError:  # there are nulls, or values of other types
        return "".join([value for value in values if type(value) is str])


def _with_nul(values: Values) -> Failed:
    if "\0" not in _all_text(values):
        return []
    return _bad(values, (str,), lambda value: "\0" not in value)


def _not_encodable(values: Values) -> Failed:
    # A surrogate is the only thing in a str that UTF-8 cannot encode.
    return [] if _encodes(_all_text(values)) else _bad(values, (str,), _encodes)


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def convert(column: Column, values: list[Any]) -> Any:
    """Convert checked values to what the table stores. Absent becomes null.

    :returns: the same number of values, in the same order: a list, or a nullable array
    """
    # A column that is required holds no ABSENT once it is checked.
    present = values if column.required else [None if v is ABSENT else v for v in values]
    if column.attribute:
        return _times(present, column.type)
    if column.type == "ip" and not column.canonical:
        return present
    return TYPES[column.type].convert(present)


def _times(milliseconds: list[int | None], kind: str) -> list[Any]:
    if kind == "timestamp":
        return [None if value is None else utc(value) for value in milliseconds]
    # A batch spans a day or two, so each date is made once.
    days = {None if value is None else value // DAY_MS for value in milliseconds}
    dates = {day: None if day is None else utc(day * DAY_MS).date() for day in days}
    return [dates[None if value is None else value // DAY_MS] for value in milliseconds]


def masked_columns(table: Table) -> list[Column]:
    """The masked columns of the table."""
    return [column for column in table.columns if column.mask]


def masked_column(table: Table, name: str) -> Column:
    """The masked column of this name, or the one that is made from a field of this name.

    :raises UsageError: there is none; the message names the masked fields
    """
    for column in masked_columns(table):
        if name in (column.name, *column.fields):
            return column
    fields = [field for column in masked_columns(table) for field in column.fields]
    meant = nearest(name, [*fields, *(column.name for column in masked_columns(table))])
    way_out = f"did you mean {meant!r}?" if meant else f"masked are {', '.join(fields) or 'none'}"
    raise UsageError(f"{name!r} is not a masked field; {way_out}")


def table_columns(columns: tuple[Column, ...]) -> list[sa.Column[Any]]:
    """The columns of the target table, in order."""
    return [sa.Column(column.name, sql_type(column)) for column in columns]


def target_table(table: Table) -> sa.Table:
    """Describe the target table as configured."""
    described = sa.Table(
        table.name, sa.MetaData(), *table_columns(table.columns), schema=table.schema_name
    )
    if table.token_check:
        for column in masked_columns(table):
            described.append_constraint(_token_check(described, column))
    return described


def _token_check(described: sa.Table, column: Column) -> sa.CheckConstraint:
    # Names have at most 63 bytes; Postgres would cut a longer one silently.
    name = f"{_cut(column.name, 54)}_is_token"
    if any(constraint.name == name for constraint in described.constraints):
        # Two long names begin alike.
        digest = hashlib.sha256(column.name.encode()).hexdigest()
        name = f"{_cut(column.name, 45)}_{digest[:8]}_is_token"
    call = sa.func.etl.check_token(described.c[column.name], name)
    return sa.CheckConstraint(call, name=name)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def staging_table(table: Table) -> sa.Table:
    """Describe the temporary table in which a batch waits for the ledger."""
    return sa.Table(
        STAGING,
        sa.MetaData(),
        sa.Column("message_id", sa.Text),
        *table_columns(table.columns),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )


def sql_type(column: Column) -> sa.types.TypeEngine[Any]:
    """The type that the database stores. A token is text, whatever it was made from."""
    if column.mask:
        return sa.String(column.max_length) if column.max_length else sa.Text()
    if column.type == "ip" and not column.canonical and not column.max_length:
        return sa.Text()  # inet would store every notation of an address as the same value
    return TYPES[column.type].sql(column.max_length)
