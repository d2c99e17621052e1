"""Numbers with the text that an event has for them."""

from __future__ import annotations


class Real(float):
    """A number of an event that is not written as an integer: the nearest double, and its text."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text
