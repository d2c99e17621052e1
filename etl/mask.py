"""Tokens in place of the personal values, and back.

Equal values of one context have equal tokens: recoverable ones (`etl.crypto.recoverable`), or
one-way ones (`etl.crypto.one_way`). A column that shows a part of its values has no tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.crypto.one_way import one_way_tokens, purpose
from etl.crypto.recoverable import Texts, open_texts, seal_texts
from etl.crypto.tokens import decode_utf8
from etl.errors import UnmaskError
from etl.reading.partial import shown_part

# A few thousand rows at a time stay in the processor's cache, and so does the hash table of the
# distinct values. 500,000 distinct values of 11 to 15 bytes took 0.9 us each in chunks of this
# size, and 1.1 us in one piece.
CHUNK_ROWS = 8192

_NOT_A_TOKEN = "not made by this keyring for this column, or changed"  # noqa: S105


@dataclass(frozen=True)
class MaskedColumn:
    """A plain column, and the column that replaces it: tokens of a context, or what is shown."""

    source: str
    target: str
    context: str
    is_one_way: bool = False
    shown: Callable[[str], str] | None = None  # the part of a value, instead of a token


def masking_plan(table: Table) -> list[MaskedColumn]:
    """List the columns that the configuration masks."""
    return [
        MaskedColumn(
            column.plain_name,
            column.name,
            column.masking_context,
            column.is_one_way,
            shown_part(column) if column.mask == "partial" else None,
        )
        for column in table.columns
        if column.mask
    ]


def columns(frame: pd.DataFrame, keyring: Keyring, plan: Sequence[MaskedColumn]) -> pd.DataFrame:
    """Replace the plain columns with columns of tokens, or of what is shown of their values.

    Columns in: each `source` of the plan, str or null (object or str dtype); any others.
    Columns out: each `target` in the position of its source, text or None; the others unchanged.
    The dtype is object: pandas' str dtype would check and copy every token and turn null into NaN,
    while `to_sql` writes None as NULL.
    Rows: the same number, in the same order, under the same index.

    :raises ValueError: a source is not exactly one column of the frame, two targets have the same
        name, or a value holds a lone surrogate
    :raises TypeError: a value is neither str nor null
    """
    masked = frame.rename(columns=_renamed(frame, plan))
    for column in plan:
        masked_values = _masked(frame[column.source], _maker(column, keyring), column.source)
        # A Series, because pandas would turn a bare array of str into its str dtype.
        masked[column.target] = pd.Series(masked_values, index=masked.index, dtype=object)
    return masked


def tokens(values: Any, keyring: Keyring, context: str) -> Texts:
    """Mask a Series, array or sequence of str and nulls with the primary key.

    Equal values are masked once. The result has the same length and order, with None for each
    null; an index is ignored.

    :raises ValueError: a value holds a lone surrogate
    :raises TypeError: a value is neither str nor null
    """
    return _masked(values, partial(_mask, keyring=keyring, context=context), context)


def tokens_of_column(values: Any, keyring: Keyring, column: Column) -> Texts:
    """Mask values as a column with tokens does: as :func:`tokens`, or with one-way tokens."""
    plan = MaskedColumn(column.name, column.name, column.masking_context, column.is_one_way)
    return _masked(values, _maker(plan, keyring), column.source)


def unmask(token: str, keyring: Keyring, context: str) -> str:
    """Recover the value of one token.

    :raises UnmaskError: in the same words whatever is wrong with the token
    """
    given = _objects([token if isinstance(token, str) else ""])
    values, opened = open_texts(given, _keys(keyring), context)
    if not opened[0]:
        raise UnmaskError(_NOT_A_TOKEN)
    return str(values[0])


def unmask_tokens(tokens: Any, keyring: Keyring, context: str) -> Texts:
    """Recover the values of a Series, array or sequence of tokens and nulls.

    The result has the same length and order, with None for each null; an index is ignored.

    :raises UnmaskError: names the first row position that cannot be unmasked, in the same words
        whatever is wrong with the token
    """
    masked = _objects(tokens)
    plain = np.empty(len(masked), dtype=object)
    for rows in _chunks(len(masked)):
        codes, distinct = pd.factorize(_only_text(masked[rows]))
        values, opened = open_texts(distinct, _keys(keyring), context)
        wrong = np.flatnonzero(~opened[codes])
        if wrong.size:
            row = rows.start + int(wrong[0])
            raise UnmaskError(f"row {row}: {_NOT_A_TOKEN}", row)
        plain[rows] = values[codes]
    return plain


def remask(tokens: Any, keyring: Keyring, context: str) -> Texts:
    """Replace tokens of any key with tokens of the primary key.

    The result has the same length and order, with None for each null and for each token that
    cannot be unmasked, whatever is wrong with it.
    """
    codes, distinct = pd.factorize(_only_text(_objects(tokens)))
    values, opened = open_texts(distinct, _keys(keyring), context)
    values[~opened] = None
    return _mask(values, keyring, context)[codes]


def _renamed(frame: pd.DataFrame, plan: Sequence[MaskedColumn]) -> dict[str, str]:
    """Check that the plan fits the frame; return the new column names by the old ones."""
    new_names = {column.source: column.target for column in plan}
    before = frame.columns.tolist()
    after = [new_names.get(name, name) for name in before]
    for column in plan:
        if before.count(column.source) != 1:
            raise ValueError(f"column {column.source!r} must be in the frame exactly once")
        if after.count(column.target) != 1:
            raise ValueError(
                f"column {column.target!r} would be in the frame more than once, or not at all"
            )
    return new_names


def _maker(column: MaskedColumn, keyring: Keyring) -> Callable[[Texts], Texts]:
    """The function that masks a chunk of the column."""
    if column.shown:
        return partial(_show, shown=column.shown)
    if not column.is_one_way:
        return partial(_mask, keyring=keyring, context=column.context)
    key = keyring.derive(purpose(column.context), keyring.one_way)
    return partial(_mask_one_way, key_id=keyring.one_way, key=key)


def _masked(values: Any, make: Callable[[Texts], Texts], name: str) -> Texts:
    plain = _objects(values)
    masked = np.empty(len(plain), dtype=object)
    with contextlib.suppress(TypeError, UnicodeEncodeError):
        for rows in _chunks(len(plain)):
            masked[rows] = make(plain[rows])
        return masked
    # Raised here and not in a handler: the suppressed exceptions carry the value.
    raise _fault(plain, name)


def _show(plain: Texts, shown: Callable[[str], str]) -> Texts:
    codes, distinct = pd.factorize(plain)
    return np.array([*map(shown, distinct), None], dtype=object)[codes]


def _mask_one_way(plain: Texts, key_id: str, key: bytes) -> Texts:
    codes, distinct = pd.factorize(plain)
    # The code of a null is -1, which points at the None in the last place.
    return np.array([*one_way_tokens(distinct, key_id, key), None], dtype=object)[codes]


def _keys(keyring: Keyring) -> dict[str, bytes]:
    return {key_id: keyring.key(key_id) for key_id in keyring.key_ids}


def _mask(plain: Texts, keyring: Keyring, context: str) -> Texts:
    codes, distinct = pd.factorize(plain)
    key_id = keyring.primary
    return seal_texts(distinct, key_id, keyring.key(key_id), context)[codes]


def _fault(plain: Texts, name: str) -> Exception:
    """Find the first value that cannot be masked, and say where it is but not what it is."""
    nulls = pd.isna(plain)
    for row, value in enumerate(plain):
        if isinstance(value, str):
            if decode_utf8(value.encode("utf-8", "surrogatepass")) is None:
                return ValueError(f"column {name!r}, row {row}: a lone surrogate is not text")
        elif not nulls[row]:
            return TypeError(f"column {name!r}, row {row}: only str and null can be masked")
    return ValueError(f"column {name!r} cannot be masked")


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, start + CHUNK_ROWS)


def _objects(values: Any) -> Texts:
    """Return a Series, array or sequence as a one-dimensional array of objects."""
    if isinstance(values, pd.Series):
        return values.to_numpy(dtype=object)
    return np.fromiter(values, dtype=object, count=len(values))


def _only_text(values: Texts) -> Texts:
    """Replace every value that is neither str nor null with an empty str, which is not a token."""
    if set(map(type, values)) <= {str, type(None)}:
        return values
    is_text = np.fromiter((isinstance(value, str) for value in values), np.bool_)
    return np.where(is_text | pd.isna(values), values, "")
