"""Searches of a column for the values that fail a check.

Hardly any value fails, so each search first tries to rule that out without a loop in Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import repeat
from operator import is_not
from typing import Any

from etl.fieldtypes import Values, encodes

Failed = list[int]  # positions


def too_long(values: Values, limit: int, size: Callable[[str], int], most: int) -> Failed:
    """Find the texts above the limit; a character adds *most* to the size, or less."""
    is_short = _longest(values) * most <= limit
    return [] if is_short else bad(values, (str,), lambda value: size(value) <= limit)


def _longest(values: Values) -> float:
    """The number of characters in the _longest text; infinity if a value is not text."""
    try:
        return max(map(len, filter(None, values)), default=0)
    except TypeError:
        return math.inf


def utf8_bytes(text: str) -> int:
    """The length of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def equal_to(unwanted: object, values: Values) -> Failed:
    """Find the values that are this object."""
    if all(map(is_not, values, repeat(unwanted))):
        return []
    return [row for row, value in enumerate(values) if value is unwanted]


def of_other_type(values: Values, allowed: frozenset[type]) -> Failed:
    """Find the values of a type that is not allowed."""
    if allowed.issuperset(map(type, values)):
        return []
    return [row for row, value in enumerate(values) if type(value) not in allowed]


def bad(values: Values, python: tuple[type, ...], good: Callable[[Any], bool]) -> Failed:
    """Find the values of the Python types that are not good."""
    if python == (str,) and _all_good(values, good):
        return []
    return [row for row, value in enumerate(values) if type(value) in python and not good(value)]


def _all_good(values: Values, good: Callable[[Any], bool]) -> bool:
    """Check each distinct text once: most columns of a batch repeat values, mostly good ones."""
    try:
        distinct = set(values)
    except TypeError:  # a list or an object, which cannot be in a set
        return False
    distinct.discard(None)
    return set(map(type, distinct)) <= {str} and all(map(good, distinct))


def _all_text(values: Values) -> str:
    """Join the texts of a column: one search of the whole can show that every text is good."""
    try:
        return "".join(values)
    except TypeError:  # there are nulls, or values of other types
        return "".join([value for value in values if type(value) is str])


def with_nul(values: Values) -> Failed:
    """Find the texts with a NUL character, which Postgres cannot store."""
    if "\0" not in _all_text(values):
        return []
    return bad(values, (str,), lambda value: "\0" not in value)


def not_encodable(values: Values) -> Failed:
    """Find the texts with a lone surrogate, which UTF-8 cannot encode."""
    # A surrogate is the only thing in a str that UTF-8 cannot encode.
    return [] if encodes(_all_text(values)) else bad(values, (str,), encodes)
