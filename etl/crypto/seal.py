"""Sealed message bodies, for the quarantine.

Unlike a token, a sealed body is randomised, so that equal bodies look different, and it is bound to
its message id. Its key is derived from a key of the keyring and is never used for masking.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.crypto.tokens import PAD_MARK, associated_data, padded_bytes

_PURPOSE = "quarantine"
_VERSION = 1
_NONCE_BYTES = 16


def seal(
    bodies: Sequence[str | bytes], message_ids: Sequence[str], keyring: Keyring
) -> list[bytes]:
    """Encrypt bodies under fresh nonces, each bound to its message id.

    A sealed body is a version byte, the key id's length and the key id, a 16-byte nonce, then
    SIV || ciphertext. The key is derived from the primary key. The associated data are
    `etl:v1:<key id>:quarantine`, the message id and, last, the nonce (RFC 5297, section 3). The
    plaintext is `t` and a str's UTF-8, or `b` and bytes, padded as in a token; lone surrogates are
    encoded with `surrogatepass`.

    :raises ValueError: the numbers of message ids and bodies differ
    """
    if len(bodies) != len(message_ids):
        raise ValueError("each body needs its message id")
    key_id = keyring.primary
    random = os.urandom(_NONCE_BYTES * len(bodies))
    nonces = [random[start : start + _NONCE_BYTES] for start in range(0, len(random), _NONCE_BYTES)]
    sealed = siv.seal(
        keyring.derive(_PURPOSE, key_id),
        [_padded(_typed_bytes(body)) for body in bodies],
        _seal_data(key_id, message_ids, nonces),
    )
    head = header(key_id)
    return [head + nonce + rest for nonce, rest in zip(nonces, sealed, strict=True)]


def unseal_each(
    sealed: Sequence[bytes], message_ids: Sequence[str], keyring: Keyring
) -> list[str | bytes | None]:
    """Decrypt sealed bodies, with None for each one that cannot be opened.

    A str comes back as str and bytes as bytes.

    :raises ValueError: the numbers of message ids and sealed bodies differ
    """
    if len(sealed) != len(message_ids):
        raise ValueError("each sealed body needs its message id")
    parts = [_sealed_parts(bytes(body)) for body in sealed]
    opened: list[bytes | None] = [None] * len(parts)
    for key_id in keyring.key_ids:
        rows = [row for row, (named, _, _) in enumerate(parts) if named == key_id]
        ids = [message_ids[row] for row in rows]
        nonces = [parts[row][1] for row in rows]
        values = siv.open_each(
            keyring.derive(_PURPOSE, key_id),
            [parts[row][2] for row in rows],
            _seal_data(key_id, ids, nonces),
        )
        for row, value in zip(rows, values, strict=True):
            opened[row] = value
    return [_body(value) for value in opened]


def header(key_id: str) -> bytes:
    """Return the bytes that every body sealed under this key begins with."""
    return bytes([_VERSION, len(key_id)]) + key_id.encode()


def _typed_bytes(body: str | bytes) -> bytes:
    return b"t" + body.encode("utf-8", "surrogatepass") if isinstance(body, str) else b"b" + body


def _padded(value: bytes) -> bytes:
    return (value + bytes([PAD_MARK])).ljust(padded_bytes(len(value)), b"\0")


def _seal_data(
    key_id: str, message_ids: Sequence[str], nonces: Sequence[bytes]
) -> siv.AssociatedData:
    ids = [message_id.encode("utf-8", "surrogatepass") for message_id in message_ids]
    return [associated_data(key_id, _PURPOSE), ids, nonces]


def _sealed_parts(sealed: bytes) -> tuple[str | None, bytes, bytes]:
    """Split into key id, nonce, and SIV || ciphertext; the key id is None in any other format."""
    head = 2 + (sealed[1] if len(sealed) > 1 else 0)
    if sealed[:1] != bytes([_VERSION]) or len(sealed) < head + _NONCE_BYTES:
        return None, b"", b""
    key_id = sealed[2:head].decode("ascii", "replace")
    return key_id, sealed[head : head + _NONCE_BYTES], sealed[head + _NONCE_BYTES :]


def _body(opened: bytes | None) -> str | bytes | None:
    """Remove the padding and the type mark of a body; None if it lacks either."""
    value, mark, zeros = (opened or b"").rpartition(bytes([PAD_MARK]))
    if not mark or zeros.strip(b"\0"):
        return None
    if value[:1] == b"b":
        return value[1:]
    with contextlib.suppress(UnicodeDecodeError):
        return value[1:].decode("utf-8", "surrogatepass") if value[:1] == b"t" else None
    return None


def keys_that_open(bodies: Mapping[str, Sequence[tuple[str, bytes]]], keyring: Keyring) -> set[str]:
    """The ids of the keys that open one of the bodies that name them.

    :param bodies: message ids and bodies, by key id
    """
    entries = [entry for same_key in bodies.values() for entry in same_key]
    owners = [key_id for key_id, same_key in bodies.items() for _ in same_key]
    opened = unseal_each([body for _, body in entries], [id_ for id_, _ in entries], keyring)
    return {key_id for key_id, body in zip(owners, opened, strict=True) if body is not None}
