"""The steps of a column's ``clean``: each takes a text and returns the text that is kept."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial

# For every character, alone and beside others, and every order of steps, the third round changed
# nothing. `strip` before `nfkc` needs the second: "\u00a8" becomes a space and a mark. The limit
# keeps a text that nobody thought of from taking forever.
MAX_ROUNDS = 4


_NO_DIGITS = re.compile("[^0-9]+")


def _digits(text: str) -> str:
    """The digits of a text, in 0 to 9; a text without any digit is left as it is.

    Else all such texts ("unknown", "none") would become one value.
    """
    if text.isascii():
        return _NO_DIGITS.sub("", text) or text
    return "".join(str(unicodedata.decimal(c)) for c in text if c.isdecimal()) or text


STEPS: Mapping[str, Callable[[str], str]] = {
    "strip": str.strip,
    "nfc": partial(unicodedata.normalize, "NFC"),
    "nfkc": partial(unicodedata.normalize, "NFKC"),
    "lower": str.lower,
    "upper": str.upper,
    "digits": _digits,
}


def clean_texts(
    texts: Sequence[str], steps: Sequence[str]
) -> tuple[list[str], dict[str, set[int]]]:
    """Take the steps on each text, in this order, again and again until they change nothing.

    A later step can leave something to do for an earlier one, and a text that was stored must be
    found when somebody searches for it: cleaning it must not change it.

    :returns: the texts in the same order, and for each step the positions that it changed
    """
    changed: dict[str, set[int]] = {}
    current = list(texts)
    for _ in range(MAX_ROUNDS):
        before = current
        for name in steps:
            after = list(map(STEPS[name], current))
            if after != current:
                rows = changed.setdefault(name, set())
                rows.update(i for i, text in enumerate(after) if text != current[i])
                current = after
        if current == before:
            break
    return current, changed


def clean_text(text: str, steps: Sequence[str]) -> str:
    """One text, cleaned as :func:`clean_texts` does it."""
    return clean_texts([text], steps)[0][0]
