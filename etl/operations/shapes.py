"""Shapes of values: the type, the length and the kinds of characters, but no character itself.

Why a shape shows what it shows: docs/decisions/0028-shapes-of-values.md.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from etl.reading.spans import BOM

MAX_SHAPE = 40  # characters; the longest address of IPv6 fits
MAX_READ = 400  # characters of a text, to make its shape
CUT = "~"
# Of a text this short and without a digit, neither the length nor the order of the characters is
# shown: they would tell "yes" from "no", and "female" from "male".
MAX_WORD = 12

# Marks that separate the parts of a version, a date, an address or an id. Three in a row could be a
# code or a drawing, and are shown like all other marks.
_KEPT = ".-:/@_+,"
_DRAWING = 3
_RUN_OF_MARKS = re.compile(rf"[^Aadmsx]{{{_DRAWING},}}")
# A run of letters, digits and what is not ASCII; or one other character.
_PART = re.compile(r"[A-Za-z0-9\x80-\U0010ffff]+|.", re.DOTALL)
# A letter with an accent, or an accent, which only some words of a short list have: "männlich". The
# stand-ins are no hex digits.
_ACCENTED = re.compile(r"[\xc0-\xd6\xd8-\xf6\xf8-\u024f\u0300-\u036f\u1e00-\u1eff]")
# A sign here can be all that a text says: "HIV+", or "-1".
_SIGN_AT_AN_END = re.compile(r"\A[+-]|[+-]\Z")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_DIGIT = re.compile(r"[0-9]")
LEGEND = (
    "d: a digit; m: a digit or letter; s: a space; a, A: letters, any number of them; x: the same "
    "of other scripts and symbols; *: another mark. In a text with a space or @, d and m are "
    f"any number too. [Aa]: 1 to {MAX_WORD} characters of these kinds"
)


class Shape(NamedTuple):
    """What is shown of a value."""

    type: str
    min_length: int | None = None  # characters, digits, items or fields
    max_length: int | None = None
    text: str = ""

    @property
    def words(self) -> str:
        """The type and the length, such as ``string of 36``."""
        if self.min_length is None:
            return self.type
        is_exact = self.min_length == self.max_length
        length = f"{self.min_length:,}" if is_exact else f"{self.min_length} to {self.max_length}"
        return f"{self.type} of {length}"


class Number(str):
    """A number as it is written in JSON."""

    __slots__ = ()


class Members(list[tuple[str, Any]]):
    """The names and values of an object in JSON, also where a name is repeated."""

    __slots__ = ()


def read_json(text: str) -> Any:
    """Read JSON with numbers as ``Number`` and objects as ``Members``.

    :raises ValueError: it is not JSON, or is nested too deeply; the error may quote the text
    """
    try:
        return json.loads(
            text.removeprefix(BOM),
            parse_int=Number,
            parse_float=Number,
            parse_constant=Number,
            object_pairs_hook=Members,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def shape_of(value: Any) -> Shape:
    """The shape of a value that :func:`read_json` has read. Of what is inside, only the number."""
    if value is None:
        return Shape("null")
    if isinstance(value, bool):
        return Shape("boolean")
    if isinstance(value, Number):
        return _shape_of_number(value)
    if isinstance(value, str):
        return shape_of_text(value)
    return Shape("object" if isinstance(value, Members) else "list", len(value), len(value))


def _shape_of_number(number: Number) -> Shape:
    """Not its sign, which can be all that a number says, nor where its point is."""
    digits = len(_DIGIT.findall(number))
    if not digits:
        return Shape("NaN or Infinity")
    is_integer = number.removeprefix("-").isdigit()
    return Shape("integer" if is_integer else "decimal", digits, digits)


def shape_of_text(text: str) -> Shape:
    """The shape of a text."""
    plain = _ACCENTED.sub(lambda found: "Z" if found[0].isupper() else "z", text[:MAX_READ])
    parts = _PART.findall(_SIGN_AT_AN_END.sub("*", plain))
    kinds = [_kind(part) for part in parts]
    if 0 < len(text) <= MAX_WORD and not _DIGIT.search(text):
        return Shape("string", 1, MAX_WORD, f"[{_kinds_of_word(kinds)}]")
    # Which of the characters of an id are digits tells it from a million others.
    is_hex = [_HEX.fullmatch(part) is not None for part in parts]
    letters = any(h and kind != "d" for h, kind in zip(is_hex, kinds, strict=True))
    if "m" in kinds or (letters and "d" in kinds):
        kinds = ["m" if h else kind for h, kind in zip(is_hex, kinds, strict=True)]
    # Names, mail addresses and sentences: the lengths of their words would do the same.
    is_in_words = " " in parts or "@" in parts
    shown = "".join(
        kind * len(part) if kind in ("d", "m") and not is_in_words else kind
        for part, kind in zip(parts, kinds, strict=True)
    )
    shown = _RUN_OF_MARKS.sub(lambda run: "*" * len(run[0]), shown)
    if len(shown) > MAX_SHAPE or len(text) > MAX_READ:
        shown = shown[:MAX_SHAPE] + CUT
    return Shape("string", len(text), len(text), shown)


def _kind(part: str) -> str:
    """The kind of a run, or of a mark."""
    if not part.isascii():
        return "x"
    if part.isdigit():
        return "d"
    if part.isalpha():
        return "A" * (not part.islower()) + "a" * (not part.isupper())
    if part.isalnum():
        return "m"
    if part == " ":
        return "s"
    return part if part in _KEPT else "*"


def _kinds_of_word(kinds: list[str]) -> str:
    """The kinds in a fixed order; of three marks or more, only that there are some."""
    found = set("".join(kinds))
    marks = found - set("Aasx")
    if len(marks) >= _DRAWING:
        found = found - marks | {"*"}
    return "".join(kind for kind in f"Aasx{_KEPT}*" if kind in found)
