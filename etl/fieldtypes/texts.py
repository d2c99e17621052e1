"""Text, and what comes as text of a fixed form: UUIDs, and bytes in base64."""

from __future__ import annotations

import base64
import re

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from etl.fieldtypes.fieldtype import Check, FieldType, TypeSettings, each, keep

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def encodes(value: str) -> bool:
    """Whether UTF-8 can encode a text; a lone surrogate is the only thing that it cannot."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


# What Postgres cannot store in a text.
TEXT_CHECKS: tuple[Check, ...] = (
    ("NUL character", lambda value: "\0" not in value),
    ("lone surrogate", encodes),
)


def text(column: TypeSettings) -> FieldType:
    """Text as it comes."""
    sql = sa.String(column.max_length) if column.max_length else sa.Text()
    return FieldType((str,), (), keep, keep, sql, keep)


def uuid(_column: TypeSettings) -> FieldType:
    """A UUID in the form of RFC 9562, section 4, in letters of either case."""
    return FieldType(
        (str,),
        (("UUID", lambda value: _UUID.fullmatch(value) is not None),),
        str.lower,
        str.lower,
        postgresql.UUID(as_uuid=False),
        each(str.lower),
    )


def base64_bytes(_column: TypeSettings) -> FieldType:
    """Bytes in base64 (RFC 4648, section 4), with its padding."""
    # Hexadecimal, because that is how a text of bytea is written.
    return FieldType(
        (str,),
        (("base64", _is_base64),),
        _hexadecimal,
        keep,
        postgresql.BYTEA(),
        each(_hexadecimal),
    )


def _is_base64(value: str) -> bool:
    try:
        # Written again, because the decoder ignores the unused bits at the end.
        return base64.b64encode(base64.b64decode(value, validate=True)).decode() == value
    except ValueError:
        return False


def _hexadecimal(value: str) -> str:
    return f"\\x{base64.b64decode(value).hex()}"
