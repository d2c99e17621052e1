"""The types that a column can have: what each of them checks, converts to, and stores.

A check takes one value of the right Python type.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from etl.frames import Inexact

Values = Sequence[Any]

# [0-9], because int() and \d accept the digits of every script. Leading zeros change nothing, so
# "6.02" is 6.2; without them a part has at most nine digits. Zeros match in one way only, because
# three parts of many zeros could otherwise be divided in thousands of ways.
_PART = r"(?:0*([1-9][0-9]{0,8})|0+)"
_VERSION = re.compile(rf"{_PART}\.{_PART}(?:\.{_PART})?")
# Nearly all versions match this and are in range; the others are examined.
_SMALL_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# The hour 24 and the second 60 would come back as the next day's and the next minute's 0.
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])"
    r"(?:\.([0-9]{1,18}))?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_FULL_IPV6 = ":".join(["{:x}"] * 8)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_INT4 = (-(2**31), 2**31 - 1)
_INT8 = (-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class FieldType:
    """One type: the Python types of its values, more checks by name, conversion, SQL type."""

    python: tuple[type, ...]
    checks: tuple[tuple[str, Callable[[Any], bool]], ...]
    convert: Callable[[Values], Any]
    sql: Callable[[int | None], sa.types.TypeEngine[Any]]


def canonical_ip(value: str) -> str:
    """Return the canonical form of an address (RFC 5952).

    An IPv4-mapped IPv6 address becomes the IPv4 address.

    :raises ValueError: it is not an address. A zone (``fe80::1%eth0``) is refused: it names an
        interface of the host that wrote it, and may contain any text.
    """
    packed = _packed_ip(value)
    if len(packed) == 4:
        return value  # IPv4 has only one accepted form
    groups = struct.unpack(">8H", packed)
    if 0 not in groups:
        # Nothing can be shortened, so this is all that RFC 5952 asks for; ipaddress takes 4 us.
        return _FULL_IPV6.format(*groups)
    address = ipaddress.IPv6Address(packed)
    # Explicit, because str() of a mapped address differs between Python 3.12 and 3.13.
    return str(address.ipv4_mapped or address)


def _packed_ip(value: str) -> bytes:
    # inet_pton accepts only dotted quads without leading zeros, and is ten times faster than
    # ipaddress.
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in value else socket.AF_INET, value)
    except OSError:
        raise ValueError("not an IP address") from None


def _canonical_ips(values: Values) -> list[Any]:
    # Without a colon it is IPv4, which has only one accepted form.
    canonical = {text: canonical_ip(text) for text in set(values) if text and ":" in text}
    return [canonical.get(value, value) for value in values] if canonical else list(values)


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


def _succeeds(parse: Callable[[str], object]) -> Callable[[Any], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _version_range(value: str) -> bool:
    return (
        _SMALL_VERSION.fullmatch(value) is not None
        or _VERSION.fullmatch(value) is None
        or _succeeds(pack_version)(value)
    )


def _between(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: low <= value <= high


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _exact_double(value: float) -> bool:
    if type(value) is int:
        return not _finite(value) or int(float(value)) == value
    return type(value) is not Inexact


def _date(text: str) -> dt.date:
    if _DATE.fullmatch(text) is None:
        raise ValueError("not a date")
    return dt.date.fromisoformat(text)


def _timestamp(text: str) -> dt.datetime:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError("not a timestamp")
    day, time, fraction, offset = match.groups("")
    written = f"{day}T{time}.{fraction[:6]:0<6}{offset.upper()}"
    try:
        return dt.datetime.fromisoformat(written).astimezone(dt.UTC)
    except OverflowError:  # year 1 or 9999, moved out of the calendar by its offset
        raise ValueError("not a timestamp") from None


def _whole_microseconds(text: str) -> bool:
    # The database stores microseconds, and would round what is smaller.
    match = _TIMESTAMP.fullmatch(text)
    return match is None or not (match[3] or "")[6:].strip("0")


def utc(milliseconds: int) -> dt.datetime:
    """The time of a SentTimestamp, in UTC."""
    # Not fromtimestamp(), whose seconds are a double.
    return _EPOCH + dt.timedelta(milliseconds=milliseconds)


def _convert_distinct(convert: Callable[[str], Any]) -> Callable[[Values], Any]:
    def convert_all(values: Values) -> list[Any]:
        # Each distinct text is converted once: versions repeat a lot, addresses a little.
        converted = {value: None if value is None else convert(value) for value in set(values)}
        return [converted[value] for value in values]

    return convert_all


def _array(dtype: str) -> Callable[[Values], Any]:
    def convert_all(values: Values) -> Any:
        import pandas as pd

        # Nullable arrays, because a single null turns the integers of a plain one into floats.
        array: Callable[..., Any] = pd.array
        return array(list(values), dtype=dtype)

    return convert_all


def _keep(values: Values) -> Values:
    return values


TYPES: dict[str, FieldType] = {
    "text": FieldType((str,), (), _keep, lambda n: sa.String(n) if n else sa.Text()),
    "ip": FieldType(
        (str,),
        (("IP address", _succeeds(_packed_ip)),),
        _canonical_ips,
        lambda n: sa.String(n) if n else postgresql.INET(),
    ),
    "version": FieldType(
        (str,),
        (
            ("version", lambda value: _VERSION.fullmatch(value) is not None),
            ("version range", _version_range),
        ),
        lambda values: _array("Int32")(_convert_distinct(pack_version)(values)),
        lambda _: sa.Integer(),
    ),
    "integer": FieldType(
        (int,), (("range", _between(*_INT4)),), _array("Int32"), lambda _: sa.Integer()
    ),
    "bigint": FieldType(
        (int,), (("range", _between(*_INT8)),), _array("Int64"), lambda _: sa.BigInteger()
    ),
    "number": FieldType(
        (int, float, Inexact),
        (("range", _finite), ("precision", _exact_double)),
        _array("Float64"),
        lambda _: sa.Double(),
    ),
    "boolean": FieldType((bool,), (), _array("boolean"), lambda _: sa.Boolean()),
    "date": FieldType(
        (str,), (("date", _succeeds(_date)),), _convert_distinct(_date), lambda _: sa.Date()
    ),
    "timestamp": FieldType(
        (str,),
        (("timestamp", _succeeds(_timestamp)), ("precision", _whole_microseconds)),
        _convert_distinct(_timestamp),
        lambda _: sa.DateTime(timezone=True),
    ),
}
