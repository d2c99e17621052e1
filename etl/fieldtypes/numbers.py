"""Numbers, versions, which are packed into numbers, and booleans."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from etl.fieldtypes.fieldtype import (
    FieldType,
    TypeSettings,
    between,
    distinct,
    each,
    keep,
    nullable_array,
    succeeds,
)
from etl.fieldtypes.real import Real

# [0-9], because int() and \d accept the digits of every script. Leading zeros change nothing, so
# "6.02" is 6.2; without them a part has at most nine digits. Zeros match in one way only, because
# three parts of many zeros could otherwise be divided in thousands of ways.
_PART = r"(?:0*([1-9][0-9]{0,8})|0+)"
_VERSION = re.compile(rf"{_PART}\.{_PART}(?:\.{_PART})?")
# Nearly all versions match this and are in range; the others are examined.
_SMALL_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_INT2 = (-(2**15), 2**15 - 1)
_INT4 = (-(2**31), 2**31 - 1)
_INT8 = (-(2**63), 2**63 - 1)

# A double holds every decimal number of 15 digits (DBL_DIG in C), and none of more than 767.
DOUBLE_DIGITS = 15
MAX_DOUBLE_DIGITS = 767

# The digits that a numeric can declare, on each side of the point, and that an integer may have.
MAX_DIGITS = 1000


def pack_version(text: str) -> int:
    """Pack a version as ``major x 1,000,000 + minor x 1,000 + patch``, which keeps its order.

    Leading zeros change nothing: "2.3", "2.3.0" and "2.03" are one version.

    :raises ValueError: it is not two or three parts of digits, a part has more than nine digits,
        minor or patch is above 999, or the result is out of the range of ``integer``
    """
    match = _SMALL_VERSION.fullmatch(text) or _VERSION.fullmatch(text)
    if match is None:
        raise ValueError("not a version")
    major, minor, patch = map(int, match.groups("0"))
    packed = major * 1_000_000 + minor * 1_000 + patch
    if minor > 999 or patch > 999 or packed > _INT4[1]:
        raise ValueError("version out of range")
    return packed


def _version_range(value: str) -> bool:
    return (
        _SMALL_VERSION.fullmatch(value) is not None
        or _VERSION.fullmatch(value) is None
        or succeeds(pack_version)(value)
    )


def _version_text(value: str) -> str:
    packed = pack_version(value)
    return f"{packed // 1_000_000}.{packed // 1_000 % 1_000}.{packed % 1_000}"


def version(_column: TypeSettings) -> FieldType:
    """A version of two or three parts."""
    return FieldType(
        (str,),
        (
            ("version", lambda value: _VERSION.fullmatch(value) is not None),
            ("version range", _version_range),
        ),
        pack_version,
        _version_text,
        sa.Integer(),
        nullable_array("Int32", distinct(pack_version)),
    )


def _whole(
    bounds: tuple[int, int], dtype: str, sql: type[sa.types.TypeEngine[Any]]
) -> Callable[[TypeSettings], FieldType]:
    kind = FieldType(
        (int,), (("range", between(*bounds)),), keep, str, sql(), nullable_array(dtype)
    )
    return lambda _column: kind


smallint = _whole(_INT2, "Int16", sa.SmallInteger)
integer = _whole(_INT4, "Int32", sa.Integer)
bigint = _whole(_INT8, "Int64", sa.BigInteger)


def number(_column: TypeSettings) -> FieldType:
    """A number as a double, if none of its digits are lost."""
    return FieldType(
        (int, float, Real),
        (("range", _finite), ("precision", _exact_double)),
        float,
        _shortest_text,
        sa.Double(),
        nullable_array("Float64", each(float)),
    )


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _exact_double(value: float) -> bool:
    if type(value) is int:
        return not _finite(value) or int(float(value)) == value
    return type(value) is not Real or _keeps_digits(value.text, value)


def _keeps_digits(text: str, value: float) -> bool:
    """Whether a double, written with as many digits as the text has, is the same number.

    So 0.1 is exact, although its double is not a tenth: no digit is lost.
    """
    # A short text without an exponent has few digits, and is neither too large nor too small.
    if len(text) <= DOUBLE_DIGITS + 1 and "e" not in text and "E" not in text:
        return True
    if math.isinf(value):
        return True  # not a matter of digits
    digits = text.lower().partition("e")[0].lstrip("-").replace(".", "").strip("0")
    if not value or not digits:
        return not digits
    if len(digits) > MAX_DOUBLE_DIGITS:
        return False
    # A double may be in the middle between two such texts. format() writes the even one of them,
    # and repr(), as producers do, the one that is read as this double: 5.960464477539063e-08.
    return Decimal(text) in (Decimal(format(value, f".{len(digits) - 1}e")), Decimal(repr(value)))


def _shortest_text(value: float) -> str:
    # Adding zero makes -0.0 zero, because the two are equal.
    return repr(float(value) + 0.0).removesuffix(".0")


def decimal(column: TypeSettings) -> FieldType:
    """A number with all of its digits: numeric, with the column's precision and scale."""
    scale = MAX_DIGITS if column.precision is None else column.scale or 0
    whole_digits = MAX_DIGITS if column.precision is None else column.precision - scale

    def is_in_range(value: float) -> bool:
        number = exact(value)
        return number.is_finite() and (not number or number.adjusted() < whole_digits)

    return FieldType(
        (int, float, Real),
        (
            ("range", is_in_range),
            ("precision", lambda value: type(value) is int or _fraction_digits(value) <= scale),
        ),
        lambda value: Decimal(decimal_text(value)),
        decimal_text,
        sa.Numeric(column.precision, None if column.precision is None else scale),
        each(lambda value: Decimal(decimal_text(value))),
    )


def exact(value: float) -> Decimal:
    """The number that the event has, in full.

    An exponent beyond Decimal's makes it 0 if all digits are 0, else the largest or the smallest
    power of ten with the same sign.
    """
    text = number_text(value)
    try:
        return Decimal(text)
    except InvalidOperation:
        digits, _, exponent = text.lower().partition("e")
        if not digits.strip("-0."):
            return Decimal(0)
        sign = "-" if digits.startswith("-") else ""
        return Decimal(f"{sign}1e{'-' if exponent.startswith('-') else ''}999999")


def number_text(value: float) -> str:
    """The text of a number in its event."""
    return value.text if type(value) is Real else repr(value)


def _fraction_digits(value: float) -> int:
    """Count the digits after the point, without the zeros at their end."""
    number = exact(value)
    _, digits, exponent = number.as_tuple()
    if not number or not isinstance(exponent, int) or exponent >= 0:
        return 0
    return max(0, len("".join(map(str, digits)).rstrip("0")) - len(digits) - exponent)


def decimal_text(value: float) -> str:
    """Write a number in full, without an exponent and without zeros that say nothing."""
    number = exact(value)
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def boolean(_column: TypeSettings) -> FieldType:
    """True or false."""
    return FieldType(
        (bool,),
        (),
        keep,
        lambda value: "true" if value else "false",
        sa.Boolean(),
        nullable_array("boolean"),
    )
