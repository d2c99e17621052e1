"""Reads a text in every way in which a program may have escaped it, as in JSON, URLs or base64."""

from __future__ import annotations

import base64
import codecs
import html
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from urllib.parse import unquote, unquote_plus

# Each round removes one level of escapes. A text within a text doubles its escapes at each level,
# so a deeper one would not fit into a message.
MAX_ROUNDS = 20

_ESCAPE = re.compile(
    r"(?:\\|%(?=u))(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})|"
    r"u\{([0-9a-fA-F]{1,6})\}|([0-3][0-7]{2})|(?<!%)(.))",
    re.DOTALL,
)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BASE64 = re.compile(r"[A-Za-z0-9+/]{16,}={0,2}")
# Within a text, such as a header or a token. In a path, a slash separates two of them. Six
# characters are the least: they stand for four bytes.
_BASE64_WITHIN = (re.compile(r"[A-Za-z0-9+/]{6,}"), re.compile(r"[A-Za-z0-9_-]{6,}"))
MIN_LATIN_1 = 12  # characters
_GZIP = b"\x1f\x8b"  # how it begins
MAX_UNZIPPED = 16 * 1024 * 1024  # bytes of a text
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def readings(text: str) -> Iterator[str]:
    """Yield a text, and the text again after each step of removing escapes."""
    yield from _steps(text, unquote)
    if "+" in text or "%" in text:
        # In a form a plus is a space, and a form within a form has it at each level.
        yield from _steps(_unquoted(unquote_plus, text), unquote_plus)


def _steps(text: str, unquote_: Callable[..., str]) -> Iterator[str]:
    yield text
    unquoted = partial(_unquoted, unquote_)
    for _ in range(MAX_ROUNDS):
        before = text
        for read in (_without_nul, _from_base64, _without_escapes, unquoted, html.unescape):
            after = read(text)
            if after != text:
                text = after
                yield text
        if text == before:
            return


def _unquoted(unquote_: Callable[..., str], text: str) -> str:
    try:
        return unquote_(text, errors="strict")
    except UnicodeDecodeError:
        return unquote_(text, encoding="latin-1")


def _without_nul(text: str) -> str:
    # UTF-16 read as an 8-bit encoding has a NUL beside each character of ASCII.
    return text.replace("\0", "")


def _from_base64(text: str) -> str:
    compact = "".join(text.split()).replace("-", "+").replace("_", "/")
    if not _BASE64.fullmatch(compact):
        return text
    try:
        data = base64.b64decode(compact.rstrip("=") + "==")
    except ValueError:
        return text
    return _text_of(data) or text


def from_base64_within(text: str) -> str:
    """Decode what may be base64 within a text; it may be cut off at its end."""
    runs = {run for pattern in _BASE64_WITHIN for run in pattern.findall(text)}
    return "\n".join(filter(None, map(_decoded, sorted(runs))))


def _decoded(run: str) -> str:
    whole = run[:-1] if len(run) % 4 == 1 else run
    return _text_of(base64.b64decode(whole.replace("-", "+").replace("_", "/") + "=="))


def _text_of(data: bytes) -> str:
    """Decode gzip, UTF-8, UTF-16 or Latin-1; empty if the bytes look like none of them."""
    if data.startswith(_GZIP):
        data = _unzipped(data)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    if data.count(0) * 4 >= len(data):  # every other byte of UTF-16, in Western texts
        is_little = data[1::2].count(0) >= data[::2].count(0)
        return data.decode("utf-16-le" if is_little else "utf-16-be", "replace")
    try:
        # Not data.decode(), which would refuse half a character at the end.
        return codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    # Other bytes, such as a signature, are rarely without a control character for so long.
    return text if len(text) >= MIN_LATIN_1 and not _CONTROL.search(text) else ""


def _unzipped(data: bytes) -> bytes:
    """What is in gzip, as far as it can be read: it may be cut off, or hold more than the limit."""
    unzipped = b""
    while data.startswith(_GZIP) and len(unzipped) < MAX_UNZIPPED:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            unzipped += member.decompress(data, MAX_UNZIPPED - len(unzipped))
        except zlib.error:
            break
        data = member.unused_data
    return unzipped


def _without_escapes(text: str) -> str:
    """Remove one level of backslashes, as JSON and most languages write them."""
    if "\\" not in text and "%u" not in text:
        return text
    unescaped = _ESCAPE.sub(_character, text)
    # Two escapes may be the halves of one character.
    return unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _character(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2] or escape[3] or escape[4]
    if code:
        number = int(code, 16)
        return chr(number) if number <= 0x10FFFF else escape[0]
    if escape[5]:
        return chr(int(escape[5], 8))
    return _ESCAPED.get(escape[6], escape[6])
