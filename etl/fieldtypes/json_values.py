"""A part of an event that is kept as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import Any

from sqlalchemy.dialects import postgresql

from etl.fieldtypes.fieldtype import Check, FieldType, TypeSettings, each
from etl.fieldtypes.numbers import MAX_DIGITS, number_text
from etl.fieldtypes.real import Real
from etl.fieldtypes.texts import encodes

_CONSTANTS = {None: "null", True: "true", False: "false"}


def json(column: TypeSettings) -> FieldType:
    """Any JSON value, with numbers as they are written."""
    limit = column.max_length
    checks: list[Check] = [
        # A string that has one is refused by jsonb.
        ("NUL character", lambda value: not any("\0" in text for text in _texts(value))),
        ("lone surrogate", lambda value: all(map(encodes, _texts(value)))),
        ("range", lambda value: all(map(_is_numeric, _numbers(value)))),
    ]
    if limit is not None and not column.mask:
        checks.append(("length", lambda value: len(json_text(value)) <= limit))
    return FieldType(
        (dict, list, str, int, float, Real, bool),
        tuple(checks),
        json_text,
        lambda value: json_text(value, in_order=True),
        postgresql.JSONB(),
        each(json_text),
    )


def json_text(value: Any, *, in_order: bool = False) -> str:
    """Write a decoded value as JSON without blanks. Its nesting is limited when it is decoded.

    :param in_order: sort the members of objects
    """
    if type(value) is dict:
        members = sorted(value.items()) if in_order else value.items()
        written = [
            f"{encode_basestring(name)}:{json_text(member, in_order=in_order)}"
            for name, member in members
        ]
        return f"{{{','.join(written)}}}"
    if type(value) is list:
        return f"[{','.join([json_text(item, in_order=in_order) for item in value])}]"
    if type(value) is str:
        return encode_basestring(value)
    return _CONSTANTS[value] if value is None or type(value) is bool else number_text(value)


def _leaves(value: Any) -> Iterator[Any]:
    """Yield the names and values in a value, except arrays and objects."""
    if type(value) is dict:
        yield from value
        for member in value.values():
            yield from _leaves(member)
    elif type(value) is list:
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _texts(value: Any) -> Iterator[str]:
    return (leaf for leaf in _leaves(value) if type(leaf) is str)


def _numbers(value: Any) -> Iterator[Any]:
    return (leaf for leaf in _leaves(value) if type(leaf) in (Real, float))


def _is_numeric(value: float) -> bool:
    """Whether jsonb, which holds numbers as numeric, keeps a number as it is.

    A larger exponent would have the server write out more digits than the whole event has.
    """
    try:
        number = Decimal(number_text(value))
    except InvalidOperation:  # an exponent beyond Decimal's
        return False
    _, _, exponent = number.as_tuple()
    return (
        isinstance(exponent, int)
        and exponent >= -MAX_DIGITS
        and max(exponent, number.adjusted()) < MAX_DIGITS
    )
