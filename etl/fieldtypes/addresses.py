"""IP addresses."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from etl.fieldtypes.fieldtype import (
    FieldType,
    NetworkSettings,
    TypeSettings,
    Values,
    distinct,
    keep,
    succeeds,
)

IPV4_BITS = 32
_FULL_IPV6 = ":".join(["{:x}"] * 8)


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


def network_of(value: str, network: NetworkSettings) -> str:
    """Return the network of an address, such as ``199.172.111.0/24``, in canonical form."""
    address = canonical_ip(value)
    if ":" in address:
        return str(ipaddress.IPv6Network((address, network.v6), strict=False))
    bits = IPV4_BITS - network.v4
    # ipaddress takes 3 us.
    first = int.from_bytes(socket.inet_aton(address)) >> bits << bits
    return f"{socket.inet_ntoa(first.to_bytes(4))}/{network.v4}"


def ip(column: TypeSettings) -> FieldType:
    """An address or its network: inet, or text if it has a length or keeps its spelling."""
    limit, network = column.max_length, column.network
    # inet would store every notation of an address as the same value.
    as_sent = sa.String(limit) if limit else sa.Text()
    text: Callable[[str], str] = canonical_ip if column.canonical else keep
    stored = text
    convert: Callable[[Values], Any] = _canonical_ips if column.canonical else keep
    if network is not None:
        stored = partial(network_of, network=network)
        convert = distinct(stored)
    return FieldType(
        (str,),
        (("IP address", succeeds(_packed_ip)),),
        stored,
        text,
        postgresql.INET() if column.canonical and not limit else as_sent,
        convert,
    )
