"""Slips of the keyboard, of editors and of web pages that leave a text which means something else.

A value or a key with one of them would be taken as it is written, or refused for another reason.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb"
_NO_SPACE = re.compile(r"\s*(- *)?\w+:[^\s/:]")
_NO_COLON = re.compile(r"\s*(- *)?\w+ *=")


def slip(text: str) -> str | None:
    """What is wrong with the characters of a text that is not in quotes, and what to do."""
    for character in text:
        if not character.isprintable():
            return f"has the character {_code(character)}, which cannot be seen: type it again"
    ends = text[:1] + text[-1:]
    for quote in ends:
        if quote in _QUOTES:
            return f"has the typographic quote {_code(quote)}: write a straight one"
    return None


def corrected(text: str) -> str:
    """The text without its slips, so that the checks that follow find no other fault for them."""
    return "".join(filter(str.isprintable, text)).strip(_QUOTES)


def in_lines(lines: Sequence[str], number: int) -> str | None:
    """What made a line, from 1, no YAML: a slip in it, or in the last one before it with text.

    :returns: the number of the line, and what is wrong with it
    """
    before = [earlier for earlier in range(1, number) if lines[earlier - 1].strip()]
    for candidate in (number, *before[-1:]):
        line = lines[candidate - 1] if candidate <= len(lines) else ""
        found = slip(re.sub(r"\s#.*", "", line.strip(" \t\r\n")))
        if _NO_SPACE.match(line):
            found = "has no space after its colon"
        elif _NO_COLON.match(line):
            found = "has '=' instead of ': '"
        if found:
            return f"line {candidate} {found}"
    return None


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
