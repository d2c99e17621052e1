"""Tokens for the personal columns, and sealed bodies for the quarantine.

A token is `<key id>.<base64url without padding of SIV || ciphertext>`: AES-256-SIV (RFC 5297) of
the value as UTF-8, padded by 0x80 00... to whole 16-byte blocks, with exactly one associated-data
string, `etl:v1:<key id>:<context>`. Equal values of one context have equal tokens; the key alone,
and any RFC 5297 library, gives the value back.

A sealed body is randomised instead, and bound to its message id: equal bodies look different.

Values are worked on as matrices of bytes, a row a value, and turned into str all at once.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from etl import siv
from etl.errors import SettingsError, UnmaskError
from etl.keyring import Keyring
from etl.siv import BLOCK_BYTES, Matrix, Positions

Texts = NDArray[np.object_]

# A few thousand rows at a time stay in the processor's cache, the hash table of the distinct values
# too. 500,000 distinct values of 11 to 15 bytes took 0.9 us each so, and 1.1 us in one piece.
CHUNK_ROWS = 8192

_PAD_MARK = 0x80
_NEWLINE = ord("\n")
_NOT_A_TOKEN = "not made by this keyring for this column, or changed"  # noqa: S105
_NOT_A_BODY = "not sealed by this keyring for this message, or changed"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_SEAL_PURPOSE = "quarantine"
_SEAL_VERSION = 1
_NONCE_BYTES = 16


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
            raise UnmaskError(f"row {rows.start + wrong[0]}: {_NOT_A_TOKEN}")
        plain[rows] = values[codes]
    return plain


def token_length(value_bytes: int, key_id_length: int) -> int:
    """Return the characters in the token of a value of so many bytes of UTF-8."""
    return key_id_length + 1 + _base64_length(BLOCK_BYTES + _padded_bytes(value_bytes))


def longest_value(token_length: int, key_id_length: int) -> int:
    """Return the most bytes of UTF-8 of a value whose token fits in so many characters.

    :raises SettingsError: no token fits
    """
    sealed_bytes = (token_length - key_id_length - 1) * 3 // 4
    blocks = sealed_bytes // BLOCK_BYTES - 1
    if blocks < 1:
        least = key_id_length + 1 + _base64_length(2 * BLOCK_BYTES)
        raise SettingsError(
            f"{token_length} characters hold no token; give a masked column at least {least}"
        )
    return blocks * BLOCK_BYTES - 1


def seal(
    bodies: Sequence[str | bytes], message_ids: Sequence[str], keyring: Keyring
) -> list[bytes]:
    """Encrypt bodies under fresh nonces, each bound to its message id.

    A sealed body is a version byte, the key id's length and the key id, a 16-byte nonce, then
    SIV || ciphertext. The key is derived from the primary key, so that it never masks. The
    associated data are `etl:v1:<key id>:quarantine`, the message id and, last, the nonce (RFC 5297,
    section 3). What is encrypted is `t` and a str's UTF-8, or `b` and bytes, padded as in a token;
    lone surrogates are encoded with `surrogatepass`.

    :raises ValueError: there are not as many message ids as bodies
    """
    if len(bodies) != len(message_ids):
        raise ValueError("each body needs its message id")
    key_id = keyring.primary
    random = os.urandom(_NONCE_BYTES * len(bodies))
    nonces = [random[at : at + _NONCE_BYTES] for at in range(0, len(random), _NONCE_BYTES)]
    sealed = siv.seal(
        keyring.derive(_SEAL_PURPOSE, key_id),
        [_pad_one(_typed_bytes(body)) for body in bodies],
        _seal_data(key_id, message_ids, nonces),
    )
    head = bytes([_SEAL_VERSION, len(key_id)]) + key_id.encode()
    return [head + nonce + rest for nonce, rest in zip(nonces, sealed, strict=True)]


def unseal(
    sealed: Sequence[bytes], message_ids: Sequence[str], keyring: Keyring
) -> list[str | bytes]:
    """Decrypt sealed bodies; a str comes back as str and bytes as bytes.

    :raises UnmaskError: names the first row position that cannot be opened, in the same words
        whatever is wrong with it
    :raises ValueError: there are not as many message ids as sealed bodies
    """
    if len(sealed) != len(message_ids):
        raise ValueError("each sealed body needs its message id")
    parts = [_sealed_parts(bytes(one)) for one in sealed]
    opened: list[bytes | None] = [None] * len(parts)
    for key_id in keyring.key_ids:
        at = [row for row, (named, _, _) in enumerate(parts) if named == key_id]
        ids, nonces = [message_ids[row] for row in at], [parts[row][1] for row in at]
        values = siv.open_each(
            keyring.derive(_SEAL_PURPOSE, key_id),
            [parts[row][2] for row in at],
            _seal_data(key_id, ids, nonces),
        )
        for row, value in zip(at, values, strict=True):
            opened[row] = value
    bodies = [_body(value) for value in opened]
    for row, body in enumerate(bodies):
        if body is None:
            raise UnmaskError(f"row {row}: {_NOT_A_BODY}")
    return [body for body in bodies if body is not None]


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
    key, associated_data = keyring.key(key_id), [_associated(key_id, context)]
    # None in the last place, where the code of a null, -1, points.
    made = np.full(len(distinct) + 1, None, dtype=object)
    for width, rows in siv.by_length(_padded_bytes(lengths)):
        padded = _pad(distinct[rows].tolist(), lengths[rows], width)
        made[rows] = _spell(siv.seal_matrix(key, padded, associated_data), key_id)
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
    padded[np.arange(len(texts)), lengths] = _PAD_MARK
    return padded


def _spell(sealed: Matrix, key_id: str) -> list[str]:
    """Write each row as a token."""
    rows, length = sealed.shape
    # Rows of whole 3-byte groups take whole base64 characters, so that one call encodes them all.
    grouped = np.zeros((rows, length + -length % 3), np.uint8)
    grouped[:, :length] = sealed
    encoded = np.frombuffer(base64.urlsafe_b64encode(grouped.data), np.uint8).reshape(rows, -1)
    prefix, characters = f"{key_id}.".encode(), _base64_length(length)
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
            if not _is_sealed_length(length - len(prefix)):
                continue
            named = (written[:, : len(prefix)] == prefix).all(axis=1)
            sealed, canonical = _unspell(written[named, len(prefix) :])
            key, associated_data = keyring.key(key_id), [_associated(key_id, context)]
            padded, genuine = siv.open_matrix(key, sealed, associated_data)
            texts, whole = _unpad(padded)
            values[rows[named]] = texts
            opened[rows[named]] = canonical & genuine & whole
    return values, opened


def _unspell(encoded: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Decode rows of base64url, and say which are the one right spelling of their bytes."""
    rows, characters = encoded.shape
    in_alphabet = np.isin(np.arange(256), np.frombuffer(_ALPHABET, np.uint8))
    spelled = in_alphabet[encoded].all(axis=1)
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
    marked = padded[np.arange(rows), ends] == _PAD_MARK
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


def _associated(key_id: str, context: str) -> bytes:
    return f"etl:v1:{key_id}:{context}".encode()


def _padded_bytes(value_bytes: Any) -> Any:
    """Return the bytes of a value, or of each value of an array, with its padding."""
    return (value_bytes // BLOCK_BYTES + 1) * BLOCK_BYTES


def _base64_length(length_bytes: int) -> int:
    return (4 * length_bytes + 2) // 3


def _is_sealed_length(characters: int) -> bool:
    sealed_bytes = characters * 3 // 4
    return (
        sealed_bytes >= 2 * BLOCK_BYTES
        and sealed_bytes % BLOCK_BYTES == 0
        and _base64_length(sealed_bytes) == characters
    )


def _typed_bytes(body: str | bytes) -> bytes:
    return b"t" + body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b"b" + body


def _pad_one(value: bytes) -> bytes:
    return (value + bytes([_PAD_MARK])).ljust(_padded_bytes(len(value)), b"\0")


def _seal_data(
    key_id: str, message_ids: Sequence[str], nonces: Sequence[bytes]
) -> siv.AssociatedData:
    ids = [message_id.encode("utf-8", "surrogatepass") for message_id in message_ids]
    return [_associated(key_id, _SEAL_PURPOSE), ids, nonces]


def _sealed_parts(sealed: bytes) -> tuple[str | None, bytes, bytes]:
    """Split into key id, nonce, and SIV || ciphertext; None for a key id of another format."""
    head = 2 + (sealed[1] if len(sealed) > 1 else 0)
    if sealed[:1] != bytes([_SEAL_VERSION]) or len(sealed) < head + _NONCE_BYTES:
        return None, b"", b""
    key_id = sealed[2:head].decode("ascii", "replace")
    return key_id, sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]


def _body(opened: bytes | None) -> str | bytes | None:
    """Undo the padding and the type mark of a body; None for what has none."""
    value, mark, zeros = (opened or b"").rpartition(bytes([_PAD_MARK]))
    if not mark or zeros.strip(b"\0"):
        return None
    if value[:1] == b"b":
        return value[1:]
    with contextlib.suppress(UnicodeDecodeError):
        return value[1:].decode("utf-8", "surrogatepass") if value[:1] == b"t" else None
    return None
