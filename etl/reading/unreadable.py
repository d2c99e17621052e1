"""What is wrong with a message from which no event can be read."""

from __future__ import annotations


class Unreadable(Exception):  # noqa: N818  (a finding, caught where messages are read)
    """The body is not an event; ``check`` names the check that it failed."""

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check
