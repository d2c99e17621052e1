"""Tokens in place of the personal values, and back.

A token is `<key id>.<base64url without padding of SIV || ciphertext>`: AES-256-SIV (RFC 5297) of
the value as UTF-8, padded by 0x80 00... to whole 16-byte blocks, with exactly one associated-data
string, `etl:v1:<key id>:<context>`. Equal values of one context have equal tokens. The key alone is
enough to recover the value, with any RFC 5297 library.

Values are handled as matrices of bytes with one value in each row, and only whole columns of them
become str.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etl.config import Table
from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.crypto.tokens import (
    associated_data,
    decode_utf8,
    is_sealed_length,
    pad_texts,
    padded_bytes,
    read_base64,
    unpad_texts,
    write_tokens,
)
from etl.errors import UnmaskError
from etl.schema import masked_columns

Texts = NDArray[np.object_]

# A few thousand rows at a time stay in the processor's cache, and so does the hash table of the
# distinct values. 500,000 distinct values of 11 to 15 bytes took 0.9 us each in chunks of this
# size, and 1.1 us in one piece.
CHUNK_ROWS = 8192

_NOT_A_TOKEN = "not made by this keyring for this column, or changed"  # noqa: S105


@dataclass(frozen=True)
class MaskedColumn:
    """A plain column, the column of tokens that replaces it, and the context of the tokens."""

    source: str
    target: str
    context: str


def masking_plan(table: Table) -> list[MaskedColumn]:
    """List the columns that the configuration masks."""
    return [
        MaskedColumn(column.plain_name, column.name, column.masking_context)
        for column in masked_columns(table)
    ]


def columns(frame: pd.DataFrame, keyring: Keyring, plan: Sequence[MaskedColumn]) -> pd.DataFrame:
    """Replace the plain columns with columns of tokens.

    Columns in: each `source` of the plan, str or null (object or str dtype); any others.
    Columns out: each `target` in the position of its source, token or None; the others unchanged.
    The dtype is object: pandas' str dtype would check and copy every token and turn null into NaN,
    while `to_sql` writes None as NULL.
    Rows: the same number, in the same order, under the same index.

    :raises ValueError: a source is not exactly one column of the frame, two targets have the same
        name, or a value holds a lone surrogate
    :raises TypeError: a value is neither str nor null
    """
    masked = frame.rename(columns=_renamed(frame, plan))
    for column in plan:
        masked_values = _tokens(frame[column.source], keyring, column.context, column.source)
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
    return _tokens(values, keyring, context, context)


def unmask(token: str, keyring: Keyring, context: str) -> str:
    """Recover the value of one token.

    :raises UnmaskError: in the same words whatever is wrong with the token
    """
    values, opened = _open(_objects([token if isinstance(token, str) else ""]), keyring, context)
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
        values, opened = _open(distinct, keyring, context)
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
    values, opened = _open(distinct, keyring, context)
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


def _tokens(values: Any, keyring: Keyring, context: str, name: str) -> Texts:
    plain = _objects(values)
    masked = np.empty(len(plain), dtype=object)
    with contextlib.suppress(TypeError, UnicodeEncodeError):
        for rows in _chunks(len(plain)):
            masked[rows] = _mask(plain[rows], keyring, context)
        return masked
    # Raised here and not in a handler: the suppressed exceptions carry the value.
    raise _fault(plain, name)


def _mask(plain: Texts, keyring: Keyring, context: str) -> Texts:
    codes, distinct = pd.factorize(plain)
    lengths = _utf8_lengths(distinct.tolist())
    key_id = keyring.primary
    key = keyring.key(key_id)
    bound_to = [associated_data(key_id, context)]
    # The code of a null is -1, which points at the None in the last place.
    masked = np.full(len(distinct) + 1, None, dtype=object)
    for width, rows in siv.by_length(padded_bytes(lengths)):
        padded = pad_texts(distinct[rows].tolist(), lengths[rows], width)
        masked[rows] = write_tokens(siv.seal_matrix(key, padded, bound_to), key_id)
    return masked[codes]


def _utf8_lengths(texts: list[str]) -> siv.Positions:
    if "".join(texts).isascii():
        return siv.lengths_of(texts)
    return siv.lengths_of([text.encode() for text in texts])


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


def _open(distinct: Texts, keyring: Keyring, context: str) -> tuple[Texts, NDArray[np.bool_]]:
    """Recover the value of each token, and say which tokens could be opened.

    Both results have one more element than there are tokens: a None that counts as opened, for
    the code of a null to point at.
    """
    values = np.full(len(distinct) + 1, None, dtype=object)
    opened = np.arange(len(distinct) + 1) == len(distinct)
    for length, rows in siv.by_length(siv.lengths_of(distinct.tolist())):
        # Any character outside ASCII becomes one ?, which no token has.
        joined = "".join(distinct[rows].tolist()).encode("ascii", "replace")
        written = np.frombuffer(joined, np.uint8).reshape(len(rows), length)
        for key_id in keyring.key_ids:
            prefix = np.frombuffer(f"{key_id}.".encode(), np.uint8)
            if not is_sealed_length(length - len(prefix)):
                continue
            named = (written[:, : len(prefix)] == prefix).all(axis=1)
            sealed, canonical = read_base64(written[named, len(prefix) :])
            key = keyring.key(key_id)
            bound_to = [associated_data(key_id, context)]
            padded, genuine = siv.open_matrix(key, sealed, bound_to)
            texts, whole = unpad_texts(padded)
            values[rows[named]] = texts
            opened[rows[named]] = canonical & genuine & whole
    return values, opened


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
