"""Tokens in the place of the personal values, and back.

A token is `<key id>.<base64url without padding of SIV || ciphertext>`: AES-256-SIV (RFC 5297) of
the value as UTF-8, padded by 0x80 00... to whole 16-byte blocks, with exactly one associated-data
string, `etl:v1:<key id>:<context>`. Equal values of one context have equal tokens; the key alone,
and any RFC 5297 library, gives the value back.

Values are worked on as matrices of bytes, a row a value, and turned into str all at once.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.crypto.siv import BLOCK_BYTES, Matrix, Positions
from etl.crypto.tokens import (
    PAD_MARK,
    associated_data,
    base64_length,
    is_sealed_length,
    padded_bytes,
)
from etl.errors import UnmaskError

Texts = NDArray[np.object_]

# A few thousand rows at a time stay in the processor's cache, the hash table of the distinct values
# too. 500,000 distinct values of 11 to 15 bytes took 0.9 us each so, and 1.1 us in one piece.
CHUNK_ROWS = 8192

_NEWLINE = ord("\n")
_NOT_A_TOKEN = "not made by this keyring for this column, or changed"  # noqa: S105
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class MaskedColumn:
    """A plain column, the column of tokens that takes its place, and the context of the tokens."""

    source: str
    target: str
    context: str


def columns(frame: pd.DataFrame, keyring: Keyring, plan: Sequence[MaskedColumn]) -> pd.DataFrame:
    """Put columns of tokens in the place of the plain columns.

    Columns in: each `source` of the plan, str or null (object or str dtype); any others.
    Columns out: each `target` where its source stood, token or None; the others untouched. The
    dtype is object: pandas' str dtype would check and copy every token and spell null as NaN,
    while None goes through `to_sql` as NULL as it is.
    Rows: as many, in the same order, under the same index.

    :raises ValueError: a source is not one column of the frame, two targets have one name, or a
        value holds a lone surrogate
    :raises TypeError: a value is neither str nor null
    """
    masked = frame.rename(columns=_renamed(frame, plan))
    for column in plan:
        made = _tokens(frame[column.source], keyring, column.context, column.source)
        # A Series, for a bare array of str would be turned to str dtype.
        masked[column.target] = pd.Series(made, index=masked.index, dtype=object)
    return masked


def tokens(values: Any, keyring: Keyring, context: str) -> Texts:
    """Mask a Series, array or sequence of str and nulls with the primary key.

    Equal values are masked once. As many come out, in the same order, None for each null; an index
    plays no part.

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

    As many come out, in the same order, None for each null; an index plays no part.

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
    """Put tokens of the primary key in the place of those of any key.

    As many come out, in the same order; None for each null, and for each token that cannot be
    unmasked, whatever is wrong with it.
    """
    codes, distinct = pd.factorize(_only_text(_objects(tokens)))
    values, opened = _open(distinct, keyring, context)
    values[~opened] = None
    return _mask(values, keyring, context)[codes]


def _renamed(frame: pd.DataFrame, plan: Sequence[MaskedColumn]) -> dict[str, str]:
    """Check that the plan fits the frame; return the new column names by the old."""
    new_names = {column.source: column.target for column in plan}
    before = frame.columns.tolist()
    after = [new_names.get(name, name) for name in before]
    for column in plan:
        if before.count(column.source) != 1:
            raise ValueError(f"column {column.source!r} must stand once in the frame")
        if after.count(column.target) != 1:
            raise ValueError(f"column {column.target!r} would stand more than once, or not at all")
    return new_names


def _tokens(values: Any, keyring: Keyring, context: str, name: str) -> Texts:
    plain = _objects(values)
    made = np.empty(len(plain), dtype=object)
    with contextlib.suppress(TypeError, UnicodeEncodeError):
        for rows in _chunks(len(plain)):
            made[rows] = _mask(plain[rows], keyring, context)
        return made
    # Here and not in a handler: the exceptions that were suppressed carry the value.
    raise _fault(plain, name)


def _mask(plain: Texts, keyring: Keyring, context: str) -> Texts:
    codes, distinct = pd.factorize(plain)
    lengths = _utf8_lengths(distinct.tolist())
    key_id = keyring.primary
    key, bound_to = keyring.key(key_id), [associated_data(key_id, context)]
    # None in the last place, where the code of a null, -1, points.
    made = np.full(len(distinct) + 1, None, dtype=object)
    for width, rows in siv.by_length(padded_bytes(lengths)):
        padded = _pad(distinct[rows].tolist(), lengths[rows], width)
        made[rows] = _spell(siv.seal_matrix(key, padded, bound_to), key_id)
    return made[codes]


def _utf8_lengths(texts: list[str]) -> Positions:
    if "".join(texts).isascii():
        return siv.lengths_of(texts)
    return siv.lengths_of([text.encode() for text in texts])


def _fault(plain: Texts, name: str) -> Exception:
    """Find the first value that cannot be masked, and say where it is but not what it is."""
    nulls = pd.isna(plain)
    for row, value in enumerate(plain):
        if isinstance(value, str):
            if _decoded(value.encode("utf-8", "surrogatepass")) is None:
                return ValueError(f"column {name!r}, row {row}: a lone surrogate is no text")
        elif not nulls[row]:
            return TypeError(f"column {name!r}, row {row}: only str and null can be masked")
    return ValueError(f"column {name!r} cannot be masked")


def _pad(texts: list[str], lengths: Positions, width: int) -> Matrix:
    """Lay out texts as rows of UTF-8 that a 0x80 byte ends and zero bytes fill."""
    padded = np.zeros((len(texts), width), np.uint8)
    padded[np.arange(width) < lengths[:, None]] = np.frombuffer("".join(texts).encode(), np.uint8)
    padded[np.arange(len(texts)), lengths] = PAD_MARK
    return padded


def _spell(sealed: Matrix, key_id: str) -> list[str]:
    """Write each row as a token."""
    rows, length = sealed.shape
    # Rows of whole 3-byte groups take whole base64 characters, so that one call encodes them all.
    grouped = np.zeros((rows, length + -length % 3), np.uint8)
    grouped[:, :length] = sealed
    encoded = np.frombuffer(base64.urlsafe_b64encode(grouped.data), np.uint8).reshape(rows, -1)
    prefix, characters = f"{key_id}.".encode(), base64_length(length)
    lines = np.full((rows, len(prefix) + characters + 1), _NEWLINE, np.uint8)
    lines[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    lines[:, len(prefix) : -1] = encoded[:, :characters]
    # Splitting one long str makes the many short ones four times as fast as slicing it.
    return lines.tobytes().decode("ascii").split("\n")[:-1]


def _open(distinct: Texts, keyring: Keyring, context: str) -> tuple[Texts, NDArray[np.bool_]]:
    """Recover the value of each token, and say which ones could be.

    One place more than there are tokens comes back: a good None, where the code of a null points.
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
            sealed, canonical = _unspell(written[named, len(prefix) :])
            key, bound_to = keyring.key(key_id), [associated_data(key_id, context)]
            padded, genuine = siv.open_matrix(key, sealed, bound_to)
            texts, whole = _unpad(padded)
            values[rows[named]] = texts
            opened[rows[named]] = canonical & genuine & whole
    return values, opened


def _unspell(encoded: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Decode rows of base64url, and say which are the one right spelling of their bytes."""
    rows, characters = encoded.shape
    spelled = np.ones(rows, np.bool_)
    if encoded.tobytes().translate(None, _ALPHABET):  # what is left is outside the alphabet
        in_alphabet = np.isin(np.arange(256), np.frombuffer(_ALPHABET, np.uint8))
        spelled[:] = in_alphabet[encoded].all(axis=1)
    # Any other character would be skipped, and shift the rows after it.
    grouped = np.full((rows, characters + -characters % 4), ord("A"), np.uint8)
    grouped[:, :characters] = encoded
    grouped[~spelled] = ord("A")
    decoded = np.frombuffer(base64.urlsafe_b64decode(grouped.tobytes()), np.uint8)
    length = characters * 3 // 4
    matrix = decoded.reshape(rows, grouped.shape[1] // 4 * 3)
    # The A's after the last character are zero bits, and so must be its own surplus bits.
    return matrix[:, :length], spelled & (matrix[:, length:] == 0).all(axis=1)


def _unpad(padded: Matrix) -> tuple[list[str | None], NDArray[np.bool_]]:
    """Return each row's text, and say which rows were padded UTF-8. Overwrites the matrix."""
    rows, width = padded.shape
    after = (padded[:, : -BLOCK_BYTES - 1 : -1] != 0).argmax(axis=1)
    ends = width - 1 - after
    marked = padded[np.arange(rows), ends] == PAD_MARK
    padded[~marked] = 0
    padded[np.arange(rows), ends] = _NEWLINE
    joined = padded[np.arange(width) <= ends[:, None]].tobytes()
    lines = (_decoded(joined) or "").split("\n")[:-1]
    if len(lines) == rows:
        return [*lines], marked
    # A value is not UTF-8, or has a newline of its own: one by one.
    texts = [_decoded(row[:end].tobytes()) for row, end in zip(padded, ends, strict=True)]
    return texts, marked & np.array([text is not None for text in texts], np.bool_)


def _decoded(utf8: bytes) -> str | None:
    try:
        return utf8.decode()
    except UnicodeDecodeError:
        return None


def _chunks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, CHUNK_ROWS):
        yield slice(start, start + CHUNK_ROWS)


def _objects(values: Any) -> Texts:
    """Return a Series, array or sequence as a one-dimensional array of objects."""
    if isinstance(values, pd.Series):
        return values.to_numpy(dtype=object)
    return np.fromiter(values, dtype=object, count=len(values))


def _only_text(values: Texts) -> Texts:
    """Put an empty str, which is no token, for whatever is neither str nor null."""
    if set(map(type, values)) <= {str, type(None)}:
        return values
    strange = ~(np.fromiter((isinstance(one, str) for one in values), np.bool_) | pd.isna(values))
    return np.where(strange, "", values)
