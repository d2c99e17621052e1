"""The attributes of a message that a job reads besides its body.

SQS gives some itself, such as ``SenderId``; others come from the sender. In the quarantine they are
sealed together with the body: NUL, which no body can have, stands between them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from etl.config import Table

Attributes = Mapping[str, Any]  # values by the names that the raw frame gives them

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,37})")
_SEPARATOR = "\0"


@dataclass(frozen=True)
class Wanted:
    """Which attributes to ask for: their names by the names that the raw frame gives them."""

    of_sqs: Mapping[str, str] = field(default_factory=dict)
    of_sender: Mapping[str, str] = field(default_factory=dict)


def wanted_attributes(tables: Iterable[Table]) -> Wanted | None:
    """The attributes that the columns of some tables read; None if there are none."""
    columns = [column for table in tables for column in table.columns]
    of_sqs = {c.source: c.attribute for c in columns if c.attribute and not c.is_sent_time}
    of_sender = {c.source: c.message_attribute for c in columns if c.message_attribute}
    return Wanted(of_sqs, of_sender) if of_sqs or of_sender else None


def read_attributes(entry: Any, wanted: Wanted) -> Attributes:
    """Take the wanted attributes from an entry of SQS's answer; one that is missing is left out.

    A number of the sender's becomes an int if it is one, and what is binary becomes base64.
    """
    of_sqs = entry.get("Attributes") or {}
    of_sender = entry.get("MessageAttributes") or {}
    found = {key: of_sqs[name] for key, name in wanted.of_sqs.items() if name in of_sqs}
    for key, name in wanted.of_sender.items():
        if name in of_sender:
            found[key] = _value(of_sender[name])
    return found


def _value(attribute: Any) -> Any:
    kind = str(attribute.get("DataType", ""))
    if kind.startswith("Binary"):
        value = attribute.get("BinaryValue", "")
        # botocore decodes it, libcurl does not.
        return base64.b64encode(value).decode() if isinstance(value, bytes) else value
    text = attribute.get("StringValue", "")
    return int(text) if kind.startswith("Number") and _INTEGER.fullmatch(text) else text


def are_damaged(entry: Any) -> bool:
    """Whether an entry of SQS's answer has attributes of the sender that differ from their MD5.

    SQS computes it over those that it returns. Nothing is compared if either is missing, since
    emulators answer so.
    """
    attributes, md5 = entry.get("MessageAttributes"), entry.get("MD5OfMessageAttributes")
    if not attributes or md5 is None:
        return False
    try:
        return attributes_md5(attributes) != str(md5).strip().lower()
    except (AttributeError, KeyError, TypeError, ValueError):
        return True  # not what SQS sends


def attributes_md5(attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """MD5 of message attributes in hex, as the Amazon SQS Developer Guide says to compute it.

    Of each, in the order of the names: name, type and value, each after its length; before the
    value one byte that says whether it is text or binary.

    :raises AttributeError, KeyError, TypeError, ValueError: they are not what SQS sends
    """
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        kind = attribute["DataType"]
        digest.update(_with_length(name.encode()) + _with_length(kind.encode()))
        if kind.startswith("Binary"):
            value = attribute["BinaryValue"]
            # botocore decodes it, libcurl does not.
            content = value if isinstance(value, bytes) else base64.b64decode(value, validate=True)
            digest.update(b"\2" + _with_length(content))
        else:
            digest.update(b"\1" + _with_length(attribute["StringValue"].encode()))
    return digest.hexdigest()


def _with_length(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def with_attributes(body: str, attributes: Attributes | None) -> str:
    """The text that is sealed of a message; its body alone if the job reads no attribute."""
    if not attributes:
        return body
    return f"{json.dumps(dict(attributes))}{_SEPARATOR}{body}"


def without_attributes(text: str) -> tuple[str, Attributes]:
    """Undo :func:`with_attributes`: the body and the attributes."""
    before, separator, body = text.partition(_SEPARATOR)
    if separator:
        try:
            attributes = json.loads(before)
        except ValueError:
            attributes = None
        if isinstance(attributes, dict):
            return body, attributes
    return text, {}
