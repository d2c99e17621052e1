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
_MAX_DIGITS_OF_IP = 10  # of an IPv4 address as one number
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
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS_OF_IP:
        number = int(text)
        if _MIN_IP_NUMBER <= number < 1 << 32:
            yield str(ipaddress.IPv4Address(number))


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
