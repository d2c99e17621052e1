"""Plain values from tokens, for who has the keyring: with an audit row first, and all or none."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl import mask
from etl.config import Column
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UnmaskError
from etl.operations import audit

_NOT_MADE_HERE = "was not made by this keyring for this column, or was changed"


@dataclass(frozen=True)
class Asking:
    """Who wants plain values, and how many at most."""

    engine: sa.Engine
    keyring: Keyring
    reason: str
    max_rows: int

    def limited(self, found: Sized, what: str) -> None:
        """See that it is not too much.

        :raises SettingsError: more is asked for than may be shown at once
        """
        if len(found) > self.max_rows:
            raise SettingsError(
                f"more than {self.max_rows} {what}; ask for fewer, or raise --limit"
            )


def unmask_values(tokens: Sequence[str], columns: Sequence[Column], asking: Asking) -> list[str]:
    """Recover the values of tokens, each made from any one of the columns.

    :raises SettingsError: too many
    :raises UnmaskError: names the position of the first that cannot be recovered, from 1
    :raises EtlError: the audit row could not be written
    """
    asking.limited(tokens, "tokens")
    fields = [column.source for column in columns]
    entry = audit.AuditEntry("unmask", asking.reason, "tokens", fields, len(tokens))
    audit.write(asking.engine, entry, tokens, asking.keyring)
    contexts = list(dict.fromkeys(column.masking_context for column in columns))
    return [
        _value(token, number, contexts, asking.keyring) for number, token in enumerate(tokens, 1)
    ]


def _value(token: str, number: int, contexts: Iterable[str], keyring: Keyring) -> str:
    for context in contexts:
        try:
            return mask.unmask(token, keyring, context)
        except UnmaskError:
            continue
    raise UnmaskError(f"token {number} {_NOT_MADE_HERE}")


def unmask_frame(
    masked: pd.DataFrame, columns: Mapping[str, Column], scope: str, asking: Asking
) -> pd.DataFrame:
    """Put plain columns in the place of columns of tokens.

    Columns in: each key of *columns*, token or null (object); any others.
    Columns out: the name of the field where its tokens stood, str or None; the others untouched.
    Rows: as many, in the same order.

    :raises SettingsError: too many rows, or two columns would have one name
    :raises UnmaskError: names the row, from 1, and the column of the first token that cannot be
        recovered
    :raises EtlError: the audit row could not be written
    """
    asking.limited(masked, "rows")
    renamed = {name: column.source for name, column in columns.items()}
    plain = masked.rename(columns=renamed)
    if plain.columns.has_duplicates:
        raise SettingsError("two columns would have one name; take one of them out")
    tokens = [token for name in columns for token in masked[name].dropna()]
    entry = audit.AuditEntry("unmask", asking.reason, scope, list(renamed.values()), len(masked))
    audit.write(asking.engine, entry, tokens, asking.keyring)
    for name, column in columns.items():
        found = _column(masked[name], name, column, asking.keyring)
        plain[column.source] = pd.Series(found, index=plain.index, dtype=object)
    return plain


def _column(tokens: Any, name: str, column: Column, keyring: Keyring) -> Any:
    try:
        return mask.unmask_tokens(tokens, keyring, column.masking_context)
    except UnmaskError as error:
        row = "" if error.row is None else f" in row {error.row + 1}"
    raise UnmaskError(f"the token of {name!r}{row} {_NOT_MADE_HERE}")


def read_csv(lines: Iterable[str], max_rows: int) -> pd.DataFrame:
    """Read CSV with a header line; every cell a str, or None if it is empty.

    :raises SettingsError: it is no such table; names the row, from 1, and never a cell
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        rows: list[list[str | None]] = []
        for row in reader:
            if row and len(row) != len(header):
                raise SettingsError(
                    f"row {len(rows) + 1} has {len(row)} cells, but the header {len(header)}"
                )
            if row:
                rows.append([cell or None for cell in row])
            if len(rows) > max_rows:
                break
    except (csv.Error, UnicodeError):
        raise SettingsError(f"line {reader.line_num + 1} is no CSV in UTF-8") from None
    if len(set(header)) < len(header) or not header:
        raise SettingsError("the header must name each column, and each by another name")
    return pd.DataFrame(rows, columns=header, dtype=object)


def token_columns(header: Sequence[str], columns: Sequence[Column]) -> dict[str, Column]:
    """Which columns of a table hold tokens: those of a masked column's or of its field's name.

    :raises SettingsError: none does
    """
    found = {
        name: column
        for name in header
        for column in columns
        if name in (column.name, column.source)
    }
    if not found:
        known = ", ".join(repr(column.name) for column in columns)
        raise SettingsError(f"no column of the table holds tokens; known are {known}")
    return found
