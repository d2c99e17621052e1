"""Which of a job's tables takes an event, by the value of one of its fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from etl.config import Routes, parse_path
from etl.reading.paths import Event, at

CHECK = "route"

Route = Callable[[Event], int]


class NoRouteError(Exception):
    """No table takes an event; ``field`` is the path of the value that would say which."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def routing(routes: Routes | None) -> Route | None:
    """Make the function that returns the number of an event's table; None if there is one table.

    It raises :class:`NoRouteError` for an event that no table takes.
    """
    if routes is None:
        return None
    by, path = routes.by, parse_path(routes.by)
    numbers = {
        value: number for number, table in enumerate(routes.tables) for value in table.events
    }

    def route(event: Event) -> int:
        text = _text(at(event, path))
        number = None if text is None else numbers.get(text)
        if number is None:
            raise NoRouteError(by)
        return number

    return route


def _text(value: Any) -> str | None:
    """The text by which a value is compared: that of JSON, of a text without its quotes.

    A number with a fraction has none: of 1.50 and 1.5, the text that was sent is not always kept.
    """
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) in (str, int):
        return str(value)
    return None
