"""Text as files, shells and other programs hand it over, and numbers with their nouns."""

from __future__ import annotations

import codecs
import errno
import json
from collections.abc import Iterable
from typing import BinaryIO

# UTF-32 comes before UTF-16, whose mark is the beginning of its own.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: ``1 row``, ``2,000 rows``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def in_words(things: Iterable[str]) -> str:
    """A list as a sentence has it: ``a``, ``a and b``, ``a, b and c``."""
    *before, last = things
    return f"{', '.join(before)} and {last}" if before else last


def read_at_most(file: BinaryIO, limit: int) -> bytes:
    """Read a file to its end, which a device such as /dev/zero does not have.

    :raises OSError: it has more than *limit* bytes, or cannot be read
    """
    data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"longer than {limit:,} bytes")
    return data


def decoded(data: bytes) -> str | None:
    """Decode UTF-8, or UTF-16 or UTF-32 with a mark at its start, as Windows writes it.

    :returns: the text without the mark; None if it is in another encoding, or has a NUL
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def unquoted(text: str) -> str:
    """Take off what a file of variables left around a value: blanks, then a pair of quotes.

    Text in double quotes may have escapes, as in JSON.
    """
    text = text.strip()
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        return text
    if text[0] == '"' and "\\" in text:
        try:
            return str(json.loads(text, strict=False))
        except ValueError:
            return text
    inner = text[1:-1]
    return text if text[0] in inner else inner
