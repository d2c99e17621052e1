"""The format of a token: its parts, its length, and how whole columns are written and read.

    <key id>.<base64url without padding of SIV || ciphertext>

The plain value is UTF-8, a 0x80 byte, then zero bytes up to whole 16-byte blocks, so that the
length of a token says little. The associated data is one string, `etl:v1:<key id>:<context>`.

The functions over columns take and return matrices of bytes (uint8) with one value in each row.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etl.crypto.key_ids import KEY_ID, MAX_KEY_ID_CHARACTERS
from etl.errors import SettingsError

BLOCK_BYTES = 16  # values are padded to whole blocks of this length
PAD_MARK = 0x80

MIN_SEALED_CHARACTERS = 43  # SIV and one block, in base64

# A one-way token has another mark after its key id, so that nobody tries to recover its value.
MARK = "."
ONE_WAY_MARK = ":"
ONE_WAY_CHARACTERS = 43  # HMAC-SHA-256 in base64

# Any other text may be a plain value, so no part of it is shown. Both kinds have 43 characters or
# more after the mark.
TOKEN = rf"^({KEY_ID})[.:][A-Za-z0-9_-]{{{MIN_SEALED_CHARACTERS},}}$"
ONE_WAY_TOKEN = rf"{KEY_ID}:[A-Za-z0-9_-]{{{ONE_WAY_CHARACTERS}}}"

_SIV_BYTES = 16  # the synthetic IV before the ciphertext; RFC 5297, section 2.6
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_NEWLINE = ord("\n")


def token_length(value_bytes: int, key_id_length: int) -> int:
    """Return the length in characters of the token of a value of this many bytes of UTF-8."""
    return key_id_length + 1 + base64_length(_SIV_BYTES + padded_bytes(value_bytes))


def longest_value(token_length: int, key_id_length: int) -> int:
    """Return the largest size, in bytes of UTF-8, of a value whose token fits in this length.

    :raises SettingsError: no token fits
    """
    sealed_bytes = (token_length - key_id_length - 1) * 3 // 4
    blocks = (sealed_bytes - _SIV_BYTES) // BLOCK_BYTES
    if blocks < 1:
        least = key_id_length + 1 + base64_length(_SIV_BYTES + BLOCK_BYTES)
        raise SettingsError(
            f"a token does not fit into {token_length} characters; set max_length to at least "
            f"{least}"
        )
    return blocks * BLOCK_BYTES - 1


def check_one_way_fits(length: int) -> None:
    """Check that a one-way token fits in this many characters, whatever its key id.

    :raises SettingsError: it does not
    """
    needed = MAX_KEY_ID_CHARACTERS + len(ONE_WAY_MARK) + ONE_WAY_CHARACTERS
    if length < needed:
        raise SettingsError(
            f"a token does not fit into {length} characters; set max_length to at least {needed}"
        )


def associated_data(key_id: str, context: str) -> bytes:
    """Return what a token or sealed body is bound to besides the key."""
    return f"etl:v1:{key_id}:{context}".encode()


def padded_bytes(value_bytes: Any) -> Any:
    """Return the size with padding of a value in bytes, or of each value of an array of sizes."""
    return (value_bytes // BLOCK_BYTES + 1) * BLOCK_BYTES


def base64_length(length_bytes: int) -> int:
    """Return the length in characters of this many bytes in base64 without padding."""
    return (4 * length_bytes + 2) // 3


def is_sealed_length(characters: int) -> bool:
    """Whether base64 of this length can hold SIV || ciphertext of a padded value."""
    sealed_bytes = characters * 3 // 4
    return (
        sealed_bytes >= _SIV_BYTES + BLOCK_BYTES
        and sealed_bytes % BLOCK_BYTES == 0
        and base64_length(sealed_bytes) == characters
    )


def pad_texts(texts: list[str], lengths: NDArray[np.intp], width: int) -> NDArray[np.uint8]:
    """Lay out n texts as rows of UTF-8, each ended by a 0x80 byte and filled with zero bytes.

    :param lengths: bytes of UTF-8 of each text, shape (n,); all below the width
    :param width: bytes in a row
    :returns: shape (n, width)
    """
    padded = np.zeros((len(texts), width), np.uint8)
    padded[np.arange(width) < lengths[:, None]] = np.frombuffer("".join(texts).encode(), np.uint8)
    padded[np.arange(len(texts)), lengths] = PAD_MARK
    return padded


def unpad_texts(padded: NDArray[np.uint8]) -> tuple[list[str | None], NDArray[np.bool_]]:
    """Read the text of each row, and say which rows were padded UTF-8.

    :param padded: shape (n, width); it is overwritten
    :returns: n texts, in which only those of good rows mean anything; and shape (n,)
    """
    rows, width = padded.shape
    zeros_after = (padded[:, : -BLOCK_BYTES - 1 : -1] != 0).argmax(axis=1)
    ends = width - 1 - zeros_after
    marked = padded[np.arange(rows), ends] == PAD_MARK
    padded[~marked] = 0
    padded[np.arange(rows), ends] = _NEWLINE
    joined = padded[np.arange(width) <= ends[:, None]].tobytes()
    lines = (decode_utf8(joined) or "").split("\n")[:-1]
    if len(lines) == rows:
        return [*lines], marked
    # A value is not UTF-8 or holds a newline, so each row is decoded alone.
    texts = [decode_utf8(row[:end].tobytes()) for row, end in zip(padded, ends, strict=True)]
    return texts, marked & np.array([text is not None for text in texts], np.bool_)


def write_tokens(sealed: NDArray[np.uint8], key_id: str, mark: str = MARK) -> list[str]:
    """Write each row of SIV || ciphertext, or of a MAC, shape (n, bytes), as a token."""
    rows, length = sealed.shape
    # Rows of whole 3-byte groups take whole base64 characters, so that one call encodes them all.
    grouped = np.zeros((rows, length + -length % 3), np.uint8)
    grouped[:, :length] = sealed
    encoded = np.frombuffer(base64.urlsafe_b64encode(grouped.data), np.uint8).reshape(rows, -1)
    prefix = f"{key_id}{mark}".encode()
    characters = base64_length(length)
    lines = np.full((rows, len(prefix) + characters + 1), _NEWLINE, np.uint8)
    lines[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    lines[:, len(prefix) : -1] = encoded[:, :characters]
    # Splitting one long str makes the many short ones four times as fast as slicing it.
    return lines.tobytes().decode("ascii").split("\n")[:-1]


def read_base64(encoded: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Decode rows of base64url without padding, and say which rows are the canonical encoding.

    :param encoded: ASCII codes, shape (n, characters)
    :returns: shape (n, bytes), in which only canonical rows mean anything; and shape (n,)
    """
    rows, characters = encoded.shape
    canonical = np.ones(rows, np.bool_)
    if encoded.tobytes().translate(None, _ALPHABET):  # what is left is outside the alphabet
        in_alphabet = np.isin(np.arange(256), np.frombuffer(_ALPHABET, np.uint8))
        canonical[:] = in_alphabet[encoded].all(axis=1)
    # The decoder would skip any other character, and shift the rows after it.
    grouped = np.full((rows, characters + -characters % 4), ord("A"), np.uint8)
    grouped[:, :characters] = encoded
    grouped[~canonical] = ord("A")
    decoded = np.frombuffer(base64.urlsafe_b64decode(grouped.tobytes()), np.uint8)
    length = characters * 3 // 4
    matrix = decoded.reshape(rows, grouped.shape[1] // 4 * 3)
    # The A's after the last character are zero bits, and so must be its own surplus bits.
    return matrix[:, :length], canonical & (matrix[:, length:] == 0).all(axis=1)


def decode_utf8(utf8: bytes) -> str | None:
    """Return the text, or None for bytes that are not UTF-8."""
    try:
        return utf8.decode()
    except UnicodeDecodeError:
        return None
