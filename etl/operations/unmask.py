"""Recovers plain values from tokens: all or none, and after writing an audit row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl import mask
from etl.config import Column
from etl.crypto.keyring import Keyring
from etl.crypto.tokens import ONE_WAY_TOKEN
from etl.errors import UnmaskError, UsageError
from etl.operations import audit

_ONE_WAY = "is a one-way token ('mask: hmac'), from which nothing recovers the value"
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
    is_one_way = re.fullmatch(ONE_WAY_TOKEN, token) is not None
    raise UnmaskError(f"token {number} {_ONE_WAY if is_one_way else _NOT_MADE_HERE}")


def unmask_frame(
    masked: pd.DataFrame, columns: Mapping[str, Column], scope: str, request: UnmaskRequest
) -> pd.DataFrame:
    """Replace columns of tokens with plain columns.

    Columns in: each key of *columns*, token or null (object); any others.
    Columns out: the field's name in the position of its tokens, str or None, or the column's
    ``plain_name`` if another column has that name; the others unchanged.
    Rows: the same number, in the same order.

    :raises UsageError: there are too many rows, or two columns would have the same name
    :raises UnmaskError: names the row, from 1, and the column of the first token that cannot be
        recovered
    :raises EtlError: the audit row could not be written
    """
    request.check_limit(masked, "row")
    sources = [column.source for column in columns.values()]
    taken = [*sources, *(name for name in masked.columns if name not in columns)]
    new_names = {
        name: column.source if taken.count(column.source) == 1 else column.plain_name
        for name, column in columns.items()
    }
    plain = masked.rename(columns=new_names)
    if plain.columns.has_duplicates:
        raise UsageError("two columns would have the same name after unmasking; remove one of them")
    tokens = [token for name in columns for token in masked[name].dropna()]
    entry = audit.AuditEntry("unmask", request.reason, scope, sources, len(masked))
    audit.write(request.engine, entry, tokens, request.keyring)
    for name, column in columns.items():
        values = _plain_values(masked[name], name, column, request.keyring)
        plain[new_names[name]] = pd.Series(values, index=plain.index, dtype=object)
    return plain


def _plain_values(tokens: Any, name: str, column: Column, keyring: Keyring) -> Any:
    try:
        return mask.unmask_tokens(tokens, keyring, column.masking_context)
    except UnmaskError as error:
        row = "" if error.row is None else f" in row {error.row + 1}"
    raise UnmaskError(f"the token of {name!r}{row} {_NOT_MADE_HERE}")
