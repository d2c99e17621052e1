"""Where the parts of a JSON text stand in it.

An event within a message keeps its own text in this way: its numbers lose no digit, and what the
quarantine stores is what the producer wrote.

The parts are looked at only as far as it takes to find their ends. Whoever reads one of them
applies the strict rules, so that one bad event does not spoil the others of its message.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import NamedTuple

from etl.config import EventPath
from etl.reading.unreadable import Unreadable

# The depth that exhausts the parser's stack differs between Python versions; this limit does not.
MAX_NESTING = 100
BOM = "\ufeff"

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_LEVELS = {"[": 1, "{": 1, "]": -1, "}": -1}
_GAP = re.compile(f"{BOM}?[ \t\n\r]*")
_WHITESPACE = re.compile(r"[ \t\n\r]*")
# The value of a number does not matter here, and a long one would take long to read.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len, parse_constant=len)


class Span(NamedTuple):
    """A part of a text: from its first character to the one after its last."""

    start: int
    end: int


def check_nesting(text: str) -> None:
    """Check that no parser of JSON would exhaust its stack.

    :raises Unreadable: the brackets are nested too deeply
    """
    # A body with few brackets cannot be nested deeply, so it is not examined.
    if text.count("[") + text.count("{") > MAX_NESTING and _depth(text) > MAX_NESTING:
        raise Unreadable("nesting")


def _depth(text: str) -> int:
    levels = (_LEVELS.get(character, 0) for character in _STRING.sub("", text))
    return max(accumulate(levels), default=0)


def document(text: str) -> Span:
    """Where the value of a JSON text is, which has nothing else but whitespace and a BOM.

    :raises Unreadable: it is not JSON, or is nested too deeply
    """
    check_nesting(text)
    start = _GAP.match(text).end()  # type: ignore[union-attr]
    end = _end(text, start)
    if _after_gap(text, end) != len(text):
        raise Unreadable("JSON")
    return Span(start, end)


def members(text: str, span: Span) -> dict[str, Span] | None:
    """The members of an object that :func:`document` has found; None if it is no object.

    :raises Unreadable: two members have one name
    """
    if text[span.start] != "{":
        return None
    found: dict[str, Span] = {}
    place = _after_gap(text, span.start + 1)
    while text[place] != "}":
        name, place = _DECODER.raw_decode(text, place)
        place = _after_gap(text, _after_gap(text, place) + 1)  # the colon
        if name in found:
            raise Unreadable("duplicate key")
        found[name] = Span(place, _end(text, place))
        place = _next(text, found[name].end)
    return found


def items(text: str, span: Span, maximum: int) -> list[Span] | None:
    """The items of a list that :func:`document` has found; None if it is no list.

    :raises Unreadable: they are more than *maximum*
    """
    if text[span.start] != "[":
        return None
    found: list[Span] = []
    place = _after_gap(text, span.start + 1)
    while text[place] != "]":
        if len(found) == maximum:
            raise Unreadable("number of events")
        found.append(Span(place, _end(text, place)))
        place = _next(text, found[-1].end)
    return found


def find(text: str, span: Span, steps: EventPath) -> Span | None:
    """Where the value of a path is; None if there is none."""
    for step in steps:
        inner: Span | None
        if isinstance(step, str):
            inner = (members(text, span) or {}).get(step)
        else:
            inner = _item(text, span, step)
        if inner is None:
            return None
        span = inner
    return span


def _item(text: str, span: Span, position: int) -> Span | None:
    # A position is written in the configuration, so a list may be longer than any limit.
    found = items(text, span, len(text)) or []
    return found[position] if position < len(found) else None


def _end(text: str, start: int) -> int:
    try:
        return _DECODER.raw_decode(text, start)[1]
    except ValueError:
        raise Unreadable("JSON") from None


def _next(text: str, end: int) -> int:
    """The next member or item after a comma, or the closing bracket."""
    place = _after_gap(text, end)
    return _after_gap(text, place + 1) if text[place] == "," else place


def _after_gap(text: str, place: int) -> int:
    return _WHITESPACE.match(text, place).end()  # type: ignore[union-attr]
