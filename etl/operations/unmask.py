"""Recovers plain values from tokens: all or none, and after writing an audit row."""

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
from etl.errors import UnmaskError, UsageError
from etl.operations import audit
from etl.operations.spellings import innermost

_NOT_MADE_HERE = "was not made by this keyring for this column, or was changed"


@dataclass(frozen=True)
class UnmaskRequest:
    """The database, keys, reason and row limit of one unmask."""

    engine: sa.Engine
    keyring: Keyring
    reason: str
    max_rows: int

    def check_limit(self, items: Sized, kind: str) -> None:
        """Check that no more is asked for than may be shown at once.

        :param kind: noun for the error, in the singular
        :raises UsageError: there are more items than that
        """
        if len(items) > self.max_rows:
            kinds = kind if self.max_rows == 1 else f"{kind}s"
            raise UsageError(f"more than {self.max_rows} {kinds}; ask for fewer, or raise --limit")


def unmask_values(
    tokens: Sequence[str], columns: Sequence[Column], request: UnmaskRequest
) -> list[str]:
    """Recover the values of tokens, each of which was made from one of the columns.

    :raises UsageError: there is no token, or there are too many
    :raises UnmaskError: names the position, from 1, of the first token that cannot be recovered
    :raises EtlError: the audit row could not be written
    """
    if not tokens:
        raise UsageError("there is no token to recover")
    request.check_limit(tokens, "token")
    fields = [column.source for column in columns]
    entry = audit.AuditEntry("unmask", request.reason, "tokens", fields, len(tokens))
    audit.write(request.engine, entry, tokens, request.keyring)
    contexts = list(dict.fromkeys(column.masking_context for column in columns))
    return [
        _value(token, number, contexts, request.keyring) for number, token in enumerate(tokens, 1)
    ]


def _value(token: str, number: int, contexts: Iterable[str], keyring: Keyring) -> str:
    for context in contexts:
        try:
            return mask.unmask(token, keyring, context)
        except UnmaskError:
            continue
    raise UnmaskError(f"token {number} {_NOT_MADE_HERE}")


def unmask_frame(
    masked: pd.DataFrame, columns: Mapping[str, Column], scope: str, request: UnmaskRequest
) -> pd.DataFrame:
    """Replace columns of tokens with plain columns.

    Columns in: each key of *columns*, token or null (object); any others.
    Columns out: the field's name in the position of its tokens, str or None; the others unchanged.
    Rows: the same number, in the same order.

    :raises UsageError: there are too many rows, or two columns would have the same name
    :raises UnmaskError: names the row, from 1, and the column of the first token that cannot be
        recovered
    :raises EtlError: the audit row could not be written
    """
    request.check_limit(masked, "row")
    new_names = {name: column.source for name, column in columns.items()}
    plain = masked.rename(columns=new_names)
    if plain.columns.has_duplicates:
        raise UsageError("two columns would have the same name after unmasking; remove one of them")
    tokens = [token for name in columns for token in masked[name].dropna()]
    entry = audit.AuditEntry("unmask", request.reason, scope, list(new_names.values()), len(masked))
    audit.write(request.engine, entry, tokens, request.keyring)
    for name, column in columns.items():
        values = _plain_values(masked[name], name, column, request.keyring)
        plain[column.source] = pd.Series(values, index=plain.index, dtype=object)
    return plain


def _plain_values(tokens: Any, name: str, column: Column, keyring: Keyring) -> Any:
    try:
        return mask.unmask_tokens(tokens, keyring, column.masking_context)
    except UnmaskError as error:
        row = "" if error.row is None else f" in row {error.row + 1}"
    raise UnmaskError(f"the token of {name!r}{row} {_NOT_MADE_HERE}")


def read_csv(lines: Iterable[str], max_rows: int) -> pd.DataFrame:
    """Read CSV with a header line; every cell is a str, or None if it is empty.

    Reading stops at one row more than *max_rows*, so that the caller can refuse it.

    :raises UsageError: this is not a table in CSV; names the row, from 1, and never a cell
    """
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, [])
        rows: list[list[str | None]] = []
        for row in reader:
            if row and len(row) != len(header):
                raise UsageError(
                    f"row {len(rows) + 1} has {len(row)} cells, but the header has {len(header)}"
                )
            if row:
                rows.append([cell or None for cell in row])
            if len(rows) > max_rows:
                break
    except (csv.Error, UnicodeError):
        raise UsageError(f"line {reader.line_num + 1} is not CSV in UTF-8") from None
    if len(set(header)) < len(header) or not header:
        raise UsageError("the header must name every column, and no two columns alike")
    return pd.DataFrame(rows, columns=header, dtype=object)


def token_columns(header: Sequence[str], columns: Sequence[Column]) -> dict[str, Column]:
    """Find the columns of a table that hold tokens: those named like a masked column or its field.

    :raises UsageError: there is none
    """
    found = {
        name: column
        for name in header
        for column in columns
        if innermost(name) in (column.name, *column.fields)
    }
    if not found:
        known = ", ".join(repr(column.name) for column in columns)
        raise UsageError(
            "no column of the CSV file is named like a masked column; expected one of "
            f"{known}, or its event field, in a header separated by commas"
        )
    return found
