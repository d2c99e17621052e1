"""What a column takes by choice: other ways to write a value that is meant."""

from __future__ import annotations

import re
from typing import Any

from etl.fieldtypes import MAX_DIGITS, Real, exact

MAX_PORT = 65_535
# [0-9], because \d matches the digits of every script.
_IPV4_WITH_PORT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3}){3}):([0-9]{1,5})")
_IPV6_WITH_PORT = re.compile(r"\[([0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\](?::([0-9]{1,5}))?")
# A number as JSON writes it (RFC 8259, section 6).
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}


def without_port(text: str) -> str:
    """The address in ``1.2.3.4:80``, ``[2001:db8::1]:443`` or ``[2001:db8::1]``; else the text."""
    if ":" not in text:
        return text
    match = _IPV4_WITH_PORT.fullmatch(text) or _IPV6_WITH_PORT.fullmatch(text)
    if match is None or int(match[2] or 0) > MAX_PORT:
        return text
    return match[1]


def boolean(text: str) -> Any:
    """The boolean that JSON writes in this way; else the text."""
    return _BOOLEANS.get(text, text)


def number(text: str) -> Any:
    """The number that JSON writes in this way; else the text."""
    match = _NUMBER.fullmatch(text)
    if match is None or len(text) > MAX_DIGITS:
        return text
    return int(text) if match[1] is None and match[2] is None else Real(text)


def whole(value: float) -> Any:
    """The integer that is meant by 5.0; else the number."""
    number = exact(value)
    if (
        number.is_finite()
        and number.adjusted() < MAX_DIGITS
        and number == number.to_integral_value()
    ):
        return int(number)
    return value


def one_of(values: list[Any], position: int) -> Any:
    """One element of a list; null if it has none."""
    return values[position] if values else None


def one_of_text(text: str, position: int) -> Any:
    """One element of a list that is written with commas; null if it has none.

    Empty elements do not count (RFC 9110, section 5.6.1.2).
    """
    if "," not in text:
        return text
    elements = [stripped for element in text.split(",") if (stripped := element.strip(" \t"))]
    return one_of(elements, position)
