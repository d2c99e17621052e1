"""The format of a token: what it is made of, and how long it gets.

    <key id>.<base64url without padding of SIV || ciphertext>

The plain value is UTF-8, a 0x80 byte, then zero bytes up to whole 16-byte blocks, so that the
length of a token says little. The associated data is one string, `etl:v1:<key id>:<context>`.
"""

from __future__ import annotations

from typing import Any

from etl.crypto.siv import BLOCK_BYTES
from etl.errors import SettingsError

PAD_MARK = 0x80

# A key id and the 43 characters or more that the shortest token has (see tokens.py). Whatever is
# not of this shape may be a plain value, so that nothing of it is shown.
TOKEN = r"^([A-Za-z0-9_-]{1,16})\.[A-Za-z0-9_-]{43,}$"  # noqa: S105


def token_length(value_bytes: int, key_id_length: int) -> int:
    """Return the characters in the token of a value of so many bytes of UTF-8."""
    return key_id_length + 1 + base64_length(BLOCK_BYTES + padded_bytes(value_bytes))


def longest_value(token_length: int, key_id_length: int) -> int:
    """Return the most bytes of UTF-8 of a value whose token fits in so many characters.

    :raises SettingsError: no token fits
    """
    sealed_bytes = (token_length - key_id_length - 1) * 3 // 4
    blocks = sealed_bytes // BLOCK_BYTES - 1
    if blocks < 1:
        least = key_id_length + 1 + base64_length(2 * BLOCK_BYTES)
        raise SettingsError(
            f"{token_length} characters hold no token; give a masked column at least {least}"
        )
    return blocks * BLOCK_BYTES - 1


def associated_data(key_id: str, context: str) -> bytes:
    """Return what a token or sealed body is bound to besides the key."""
    return f"etl:v1:{key_id}:{context}".encode()


def padded_bytes(value_bytes: Any) -> Any:
    """Return the bytes of a value, or of each value of an array, with its padding."""
    return (value_bytes // BLOCK_BYTES + 1) * BLOCK_BYTES


def base64_length(length_bytes: int) -> int:
    """Return the characters of base64 without padding for so many bytes."""
    return (4 * length_bytes + 2) // 3


def is_sealed_length(characters: int) -> bool:
    """Say whether so many characters of base64 can hold SIV || ciphertext of a padded value."""
    sealed_bytes = characters * 3 // 4
    return (
        sealed_bytes >= 2 * BLOCK_BYTES
        and sealed_bytes % BLOCK_BYTES == 0
        and base64_length(sealed_bytes) == characters
    )
