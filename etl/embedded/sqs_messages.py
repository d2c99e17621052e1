"""A stored message, and what SQS accepts in a body and in message attributes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etl.embedded.sqs_refusals import Refusal, missing

# "Amazon SQS message quotas", Amazon SQS Developer Guide (1 MiB since August 2025).
MAX_BYTES = 1_048_576
MAX_MESSAGE_ATTRIBUTES = 10

_DATA_TYPE = re.compile(r"(String|Number|Binary)(\.[A-Za-z0-9_.-]{1,249})?")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws|amazon)\.)[A-Za-z0-9_.-]{1,256}")
# API_SendMessage: "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF".
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class StoredMessage:
    """One message; *number* is its place in the order of all sends."""

    number: int
    id: str
    body: str = field(repr=False)
    body_md5: str
    attributes: dict[str, dict[str, str]] = field(repr=False)
    attributes_md5: str
    sent_ms: int
    receive_count: int = 0
    first_received_ms: int = 0
    received_ms: int = 0
    deleted_receive: int = 0  # the receive whose handle deleted it, if it is redelivered
    dead_letter_source_arn: str = ""
    group: str = ""  # MessageGroupId
    deduplication_id: str = ""
    sequence_number: str = ""  # of a FIFO queue


def check_body(body: str) -> None:
    """Refuse a body that is empty or contains a character that SQS does not allow."""
    if not body:
        raise missing("MessageBody")
    # isprintable is many times faster than the pattern and true of nearly every JSON text.
    if body.isascii() and body.isprintable():
        return
    if forbidden := _FORBIDDEN.search(body):
        character = f"#x{ord(forbidden[0]):X}"
        raise Refusal(
            "InvalidMessageContents",
            f"Invalid binary character '{character}' was found in the message body, the set of "
            "allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
            "#x10000 to #x10FFFF",
        )


def check_message_attributes(attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse message attributes whose number, name, type or value SQS does not allow."""
    if len(attributes) > MAX_MESSAGE_ATTRIBUTES:
        raise Refusal(
            "InvalidParameterValue",
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum "
            f"[{MAX_MESSAGE_ATTRIBUTES}].",
        )
    for name, value in attributes.items():
        if not _ATTRIBUTE_NAME.fullmatch(name) or name[0] == "." or name[-1] == "." or ".." in name:
            raise Refusal("InvalidParameterValue", f"Message attribute name {name!r} is invalid.")
        _check_value(name, value)


def _check_value(name: str, value: Mapping[str, Any]) -> None:
    """Refuse a value whose type or content SQS does not allow."""
    _value_bytes(name, value)


def _value_bytes(name: str, value: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return the transport type, as MD5OfMessageAttributes marks it, and the bytes of the value."""
    data_type = _DATA_TYPE.fullmatch(value.get("DataType") or "")
    text = value.get("StringValue") or ""
    binary = value.get("BinaryValue") or ""
    if data_type and data_type[1] == "Binary" and binary:
        with contextlib.suppress(ValueError):
            return 2, base64.b64decode(binary, validate=True)
    elif data_type and text and not _FORBIDDEN.search(text):
        return 1, text.encode()
    raise Refusal(
        "InvalidParameterValue",
        f"The message attribute {name!r} must have a type that starts with Binary, Number or "
        "String, and a non-empty value of that type.",
    )


def attributes_md5(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """MD5OfMessageAttributes, or "" without attributes.

    "Calculating the MD5 message digest for message attributes", Amazon SQS Developer Guide:
    attributes are sorted by name; for each, the length and the bytes of its name, its type and its
    value, and before the value one byte that tells text from binary. Lengths are four bytes,
    big-endian.
    """
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        transport, content = _value_bytes(name, attributes[name])
        for piece in (name.encode(), attributes[name]["DataType"].encode()):
            digest.update(struct.pack(">I", len(piece)) + piece)
        digest.update(struct.pack(">BI", transport, len(content)) + content)
    return digest.hexdigest()


def size_bytes(body: str, attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the size that the limits apply to: the body and all of the attributes."""
    total = _text_bytes(body)
    for name, value in attributes.items():
        total += _text_bytes(name) + _text_bytes(value.get("DataType") or "")
        total += _text_bytes(value.get("StringValue") or "")
        binary = value.get("BinaryValue") or ""
        total += 3 * (len(binary) // 4) - binary.count("=")
    return total


def _text_bytes(text: str) -> int:
    # A lone surrogate is refused elsewhere, with an error code for it; here it is only measured.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
