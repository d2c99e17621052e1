"""Finds the IP addresses in a text, in every notation that is usual."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from etl.fieldtypes import canonical_ip

# Addresses are joined to other words by underscores, as in a file's name.
_QUAD = re.compile(r"(?<![^\W_])(?<!\.)[0-9]{1,10}(?:\.[0-9]{1,10}){3}(?![^\W_]|\.\w)")
_HEX_GROUPS = re.compile(r"[0-9A-Fa-f:.]+")
_WORD = re.compile(r"[^\W_]")
# An address as one number: signed or as a float, as databases and data frames write it, or in hex.
_INTEGER = re.compile(r"(?<![^\W_])(?<![^\W_][.-])-?[0-9]{8,39}(?:\.0+)?(?![^\W_]|\.\w)")
_HEX = re.compile(r"(?<![^\W_])(?:0?[xX]'?)?([0-9A-Fa-f]{32}|[0-9A-Fa-f]{8})(?![^\W_])")
_MIN_IP_NUMBER = 1 << 24  # a smaller number is more likely something else


def address_of(text: str) -> str | None:
    """The canonical form of an address, or None; leading zeros and a zone are allowed."""
    text = text.partition("%")[0]
    if _QUAD.fullmatch(text):
        text = ".".join(str(int(part)) for part in text.split("."))
    try:
        return canonical_ip(text)
    except ValueError:
        return None


def addresses_in(text: str) -> Iterator[str]:
    """Yield the addresses in a text, in canonical form."""
    for match in _QUAD.finditer(text):
        if (address := address_of(match[0])) is not None:
            yield address
    for match in _HEX_GROUPS.finditer(text):
        if ":" in match[0] and (address := _in_hex_groups(text, match)) is not None:
            yield address
    for match in _INTEGER.finditer(text):
        yield from _of_number(int(match[0].partition(".")[0]))
    for match in _HEX.finditer(text):
        if not match[0].isdigit():  # more likely a date
            yield from _of_number(int(match[1], 16))


def _of_number(number: int) -> Iterator[str]:
    if -(1 << 31) <= number < 0:
        number += 1 << 32  # as a signed integer of 32 bits
    if _MIN_IP_NUMBER <= number < 1 << 32:
        yield str(ipaddress.IPv4Address(number))
    elif 1 << 32 <= number < 1 << 128:
        yield canonical_ip(str(ipaddress.IPv6Address(number)))


def _in_hex_groups(text: str, match: re.Match[str]) -> str | None:
    """Return the IPv6 address in a run of digits, colons and dots, if the run is one."""
    run = match[0]
    if _WORD.match(text, match.end()):
        return None  # a longer word
    if match.start() and _WORD.match(text, match.start() - 1):
        # The end of a word before the first colon: "ip:2001:db8::1".
        run = run.partition(":")[2]
    whole = run.rstrip(".")
    # If the whole is an address, then a part of it is not the one that is meant.
    for candidate in (whole, whole.rstrip(":"), whole.partition(":")[2]):
        if (address := address_of(candidate)) is not None:
            return address
    return None
