"""The texts that a person may mean by a value that they give.

A shell, an editor or a spreadsheet adds spaces, quotes and invisible characters around a value, and
a keyboard chooses between composed and decomposed letters. Nobody sees the difference, and a search
for the wrong text finds nothing, so a search looks for each of them.
"""

from __future__ import annotations

import unicodedata

# What is taken off both ends: spaces, line and paragraph separators, control and format characters.
_AROUND = {"Zs", "Zl", "Zp", "Cc", "Cf"}
# The typographic quotes of English, German and French, by the one that opens.
_QUOTES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u201e": "\u201c"} | {
    "\u2018": "\u2019",
    "\u201a": "\u2018",
    "\u00ab": "\u00bb",
}
_SEPARATORS = ",;"
# A spreadsheet marks text by an apostrophe before it.
_TEXT_MARK = "'"


def unwrapped(value: str) -> list[str]:
    """The value as given, and again after each layer that a program may have put around it.

    None of the texts after the first is empty.
    """
    texts = [value]
    while (inner := _without_layer(texts[-1])) and inner != texts[-1]:
        texts.append(inner)
    return texts


def spellings(value: str) -> list[str]:
    """The distinct texts that a value may stand for: unwrapped, and in both Unicode forms."""
    texts = unwrapped(value)
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    return list(dict.fromkeys([*texts, *composed, *decomposed]))


def innermost(text: str) -> str:
    """The text without any layer around it; empty if nothing is left."""
    return unwrapped(text)[-1] if stripped(text).strip("\"' \t" + _SEPARATORS) else ""


def stripped(text: str) -> str:
    """The text without spaces, line breaks and invisible characters at its ends."""
    start, end = 0, len(text)
    while start < end and unicodedata.category(text[start]) in _AROUND:
        start += 1
    while start < end and unicodedata.category(text[end - 1]) in _AROUND:
        end -= 1
    return text[start:end]


def _without_layer(text: str) -> str:
    # A row of CSV may have empty cells beside the value.
    inner = stripped(text) if stripped(text) != text else text.strip(_SEPARATORS)
    if inner != text:
        return inner
    if text[:2] == '="' and text[-1] == '"':
        return text[1:]  # a formula whose result is the text
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        # CSV writes a quote within quotes twice.
        return text[1:-1].replace('""', '"') if text[0] == '"' else text[1:-1]
    return text.removeprefix(_TEXT_MARK)
