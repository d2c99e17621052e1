"""Recoverable tokens: equal for equal values, and the key recovers the value.

A token is `<key id>.<base64url without padding of SIV || ciphertext>`: AES-256-SIV (RFC 5297) of
the value as UTF-8, padded by 0x80 00... to whole 16-byte blocks, with exactly one associated-data
string, `etl:v1:<key id>:<context>`. The key alone is enough to recover the value, with any RFC 5297
library.

Values are handled as matrices of bytes with one value in each row, and only whole columns of them
become str.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from etl.crypto import siv
from etl.crypto.tokens import (
    associated_data,
    is_sealed_length,
    pad_texts,
    padded_bytes,
    read_base64,
    unpad_texts,
    write_tokens,
)

Texts = NDArray[np.object_]


def seal_texts(distinct: Texts, key_id: str, key: bytes, context: str) -> Texts:
    """Mask texts with a key.

    The result has one element more, a None in the last place, for the code -1 of a null.

    :raises UnicodeEncodeError: a text holds a lone surrogate
    """
    lengths = _utf8_lengths(distinct.tolist())
    bound_to = [associated_data(key_id, context)]
    masked = np.full(len(distinct) + 1, None, dtype=object)
    for width, rows in siv.by_length(padded_bytes(lengths)):
        padded = pad_texts(distinct[rows].tolist(), lengths[rows], width)
        masked[rows] = write_tokens(siv.seal_matrix(key, padded, bound_to), key_id)
    return masked


def open_texts(
    distinct: Texts, keys: Mapping[str, bytes], context: str
) -> tuple[Texts, NDArray[np.bool_]]:
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
        for key_id, key in keys.items():
            prefix = np.frombuffer(f"{key_id}.".encode(), np.uint8)
            if not is_sealed_length(length - len(prefix)):
                continue
            named = (written[:, : len(prefix)] == prefix).all(axis=1)
            sealed, canonical = read_base64(written[named, len(prefix) :])
            bound_to = [associated_data(key_id, context)]
            padded, genuine = siv.open_matrix(key, sealed, bound_to)
            texts, whole = unpad_texts(padded)
            values[rows[named]] = texts
            opened[rows[named]] = canonical & genuine & whole
    return values, opened


def _utf8_lengths(texts: list[str]) -> siv.Positions:
    if "".join(texts).isascii():
        return siv.lengths_of(texts)
    return siv.lengths_of([text.encode() for text in texts])
