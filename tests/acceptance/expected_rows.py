"""The row that an event must produce: a second implementation, with none of the project's code."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Row = tuple[Any, ...]


def primary_key(keyring: str) -> tuple[str, bytes]:
    """The primary key's id and its 64 bytes, from a keyring's JSON."""
    document = json.loads(keyring)
    key_id = document["primary"]
    return key_id, base64.b64decode(document["keys"][key_id])


def token(keyring: str, field: str, value: str) -> str:
    """The token of a field's value."""
    key_id, key = primary_key(keyring)
    padded = value.encode() + b"\x80"
    padded += b"\x00" * (-len(padded) % 16)
    sealed = AESSIV(key).encrypt(padded, [f"etl:v1:{key_id}:{field}".encode()])
    return f"{key_id}.{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}"


def address(text: str) -> str:
    """The canonical form of an IP address; an IPv4-mapped one becomes IPv4."""
    parsed = ipaddress.ip_address(text)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def version(text: str) -> int:
    """The version as one integer; leading zeros change nothing."""
    major, minor, patch = [*map(int, text.split(".")), 0][:3]
    return major * 1_000_000 + minor * 1_000 + patch


def expected_row(keyring: str, event: dict[str, Any], sent_ms: int) -> Row:
    """The event's row in the default table.

    :param sent_ms: SentTimestamp, in milliseconds since 1970
    """
    day = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(milliseconds=sent_ms)
    return (
        event["user_id"],
        event["device_type"],
        token(keyring, "ip", address(event["ip"])),
        token(keyring, "device_id", event["device_id"]),
        event["locale"],
        version(event["app_version"]),
        day.date(),
    )


def opened(keyring: str, message_id: str, sealed: bytes) -> str:
    """The body of a quarantine entry, decrypted."""
    key_id, key = primary_key(keyring)
    purpose = f"etl:v1:{key_id}:quarantine".encode()
    derived = HKDF(SHA512(), 64, salt=None, info=purpose).derive(key)
    head = bytes([1, len(key_id)]) + key_id.encode()
    assert sealed.startswith(head)
    nonce = sealed[len(head) : len(head) + 16]
    ciphertext = sealed[len(head) + 16 :]
    plain = AESSIV(derived).decrypt(ciphertext, [purpose, message_id.encode(), nonce])
    plain = plain.rstrip(b"\x00")
    assert plain[:1] == b"t"
    assert plain[-1:] == b"\x80"
    return plain[1:-1].decode()
