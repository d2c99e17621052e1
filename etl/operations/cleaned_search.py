"""Finds a value of a column that cleans its values: several texts in a body are then one value."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from etl.reading.steps import STEPS, clean_text

# Steps that can be taken on a whole text, instead of each word in it.
_ON_TEXTS = ("nfkc", "lower", "upper")
_SEPARATORS = r"\W{0,4}"  # between the digits of a number that a person wrote


class CleanedSearch:
    """Looks for a value among the texts that cleaning makes equal to it.

    :param steps: the column's ``clean``
    :param spellings: the texts to look for
    """

    def __init__(self, steps: Sequence[str], spellings: Iterable[str]) -> None:
        self._steps = steps
        self._on_texts = [name for name in steps if name in _ON_TEXTS]
        self._values = {clean_text(text, steps) for text in spellings} - {""} if steps else set()
        numbers = [text for text in self._values if text.isdecimal()] if "digits" in steps else []
        written = "|".join(_SEPARATORS.join(digits) for digits in sorted(numbers))
        self._number = re.compile(rf"(?<!\d)(?:{written})(?!\d)") if written else None

    def folded(self, text: str) -> str:
        """A text without the differences that cleaning removes."""
        for name in self._on_texts:
            text = STEPS[name](text)
        if self._on_texts:
            # Which of the two small sigmas a text has, depends on what follows.
            text = text.replace("\u03c2", "\u03c3")
        if self._number and not text.isascii():
            text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
        return text

    def finds(self, text: str) -> bool:
        """Whether a folded text is the value once it is cleaned, or has its digits in it."""
        if not self._values:
            return False
        return clean_text(text, self._steps) in self._values or (
            self._number is not None and self._number.search(text) is not None
        )
