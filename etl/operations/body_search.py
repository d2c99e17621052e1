"""Finds a value in the body of a message, however it is written there.

A body is in quarantine because something was wrong with it, so a value can be anywhere in it: in
another field, in a list or a key, in JSON within a string, in text that is not JSON. Every text of
the body is therefore read in every way that is usual, and the value is looked for as a whole word.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from etl.config import Column
from etl.operations.address_search import address_of, addresses_in
from etl.operations.cleaned_search import CleanedSearch
from etl.operations.escapes import from_base64_within, readings

MAX_FROM_BASE64 = 4  # characters that are decoded from a body, for each of its own
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
# Kinds of spaces and line breaks that look alike, and full-width characters.
_LOOKS_LIKE = (
    dict.fromkeys(map(ord, "\u00a0\u1680\u202f\u205f\u3000"), " ")
    | dict.fromkeys(range(0x2000, 0x200B), " ")
    | dict.fromkeys(map(ord, "\u0085\u2028\u2029"), "\n")
    | {code + 0xFEE0: chr(code) for code in range(0x21, 0x7F)}
)
_BETWEEN = re.compile("[\ufeff \\t\\r\\n]*")  # documents


class _Number(NamedTuple):
    """A number of a JSON document, as it is written there."""

    text: str


class _Document(NamedTuple):
    """A text that is a JSON document as a whole. What is within it is searched separately."""

    text: str


class BodySearch:
    """Looks for one value of a column in bodies.

    :param spellings: the texts to look for; all of them mean the same value
    """

    def __init__(self, column: Column, spellings: Iterable[str]) -> None:
        self._cleaned = CleanedSearch(column.clean, spellings := list(spellings))
        self._is_uuid = column.type == "uuid"
        self._is_number = column.type in ("smallint", "integer", "bigint", "decimal")
        self._texts = {self._fold(spelling).strip() for spelling in spellings} - {""}
        self._addresses = (
            {address_of(text) for text in self._texts} - {None} if column.type == "ip" else set()
        )
        self._numbers = {_decimal(text) for text in self._texts} - {None}
        words = {text for text in self._texts if not self._addresses or address_of(text) is None}
        words |= {garbled for text in words for garbled in _garbled(text)}
        # CSV and SQL write a quote within quotes twice.
        words |= {text.replace(quote, 2 * quote) for text in words for quote in "\"'"}
        # A value within a longer word, or joined to one by a hyphen or a dot, is another value.
        anywhere = "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"
        self._word = re.compile(rf"(?<!\w)(?<!\w[-.])(?:{anywhere})(?!\w)(?![-.]\w)")

    def finds(self, body: str) -> bool:
        """Whether the value is in a body."""
        return any(self._is_in(text) for text in _texts(body))

    def _is_in(self, text: str | _Number | _Document) -> bool:
        if isinstance(text, _Document):
            return self._fold(text.text).strip() in self._texts
        if isinstance(text, _Number):
            number = text.text
            return (
                _decimal(number) in self._numbers
                or self._has_address(number)
                or self._cleaned.finds(number)
            )
        plain = self._fold(text)
        return (
            plain.strip() in self._texts
            or (self._is_number and _decimal(plain.strip()) in self._numbers)
            or self._cleaned.finds(plain)
            or self._word.search(plain) is not None
            or self._has_address(plain)
        )

    def _fold(self, text: str) -> str:
        text = self._cleaned.folded(folded(text))
        return text.lower() if self._is_uuid else text

    def _has_address(self, text: str) -> bool:
        return bool(self._addresses) and not self._addresses.isdisjoint(addresses_in(text))


def folded(text: str) -> str:
    """A text without differences that nobody sees.

    It is in one Unicode form (NFC), with one kind of spaces, line breaks and width, and without
    characters that only direct how it is shown.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text
    kept = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", kept.translate(_LOOKS_LIKE))


def _garbled(text: str) -> Iterator[str]:
    """The text as it looks when its UTF-8 was read in a Western 8-bit encoding, once or twice."""
    for encoding in () if text.isascii() else ("latin-1", "cp1252"):
        garbled = text
        for _ in range(2):
            garbled = garbled.encode("utf-8", "surrogatepass").decode(encoding, "replace")
            yield folded(garbled)


def _texts(body: str) -> Iterator[str | _Number | _Document]:
    """Yield every text of a body, in every reading, and every number."""
    waiting: list[str | _Number] = [body]
    seen: set[str | _Number] = set()
    # Without a limit, base64 within base64 in several readings would take exponential time.
    left = MAX_FROM_BASE64 * len(body)
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if isinstance(value, _Number):
            yield value
            continue
        for text in readings(value):
            members, rest = _documents(text)
            waiting += members
            is_whole = not rest and text != ""
            if is_whole and text.lstrip()[:1] != '"':
                yield _Document(text)
            else:
                yield text
            if is_whole:
                break  # what is within a document was decoded with it
            decoded = from_base64_within(text)
            if decoded not in seen and len(decoded) <= left:
                left -= len(decoded)
                waiting.append(decoded)


def _documents(text: str) -> tuple[list[str | _Number], str]:
    """Decode the JSON documents that a text begins with.

    :returns: their texts and numbers at every level, keys included; and the rest of the text
    """
    members: list[str | _Number] = []
    start = _start(text, 0)
    while text[start : start + 1] in ("{", "[", '"'):
        try:
            document, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        members += _members(document)
        start = _start(text, end)
    return members, text[start:]


def _start(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    return match.end() if match else position


def _members(document: Any) -> list[str | _Number]:
    found: list[str | _Number] = []
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (str, _Number)):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            waiting += value
    return found


# Lenient, because the loader is not: every one of two equal keys counts, and no number is changed.
_DECODER = json.JSONDecoder(
    object_pairs_hook=list, parse_int=_Number, parse_float=_Number, strict=False
)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _NUMBER.match(text) else None
    except InvalidOperation:
        return None
