"""What a look at the queue knows of the tables of a job: their fields, and who takes an event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from etl.config import EventPath, Settings, parse_path
from etl.operations.shapes import Members, Number
from etl.reading.routing import NoRouteError, routing


def field_names(settings: Settings) -> Iterator[str]:
    """The fields that a configuration reads."""
    if settings.routes is not None:
        yield settings.routes.by
    for table in settings.tables:
        for column in table.columns:
            yield from column.fields


def values_at_paths(event: Members, fields: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """The values of those fields that are inside others, or the whole event, each with its path."""
    for field in fields:
        path = parse_path(field)
        if path != (field,):
            for value in _at(event, path):
                yield field, value


def _at(value: Any, path: EventPath) -> Iterator[Any]:
    if not path:
        yield value
        return
    step, found = path[0], []
    if isinstance(step, str) and isinstance(value, Members):
        found = [member for name, member in value if name == step]
    elif isinstance(step, int) and isinstance(value, list) and not isinstance(value, Members):
        found = value[step : step + 1]
    for member in found:
        yield from _at(member, path[1:])


def table_finder(settings: Settings) -> Callable[[Members], list[str | None]]:
    """Make the function that returns the table of an event: None if no table takes it.

    For a job with one table it returns nothing.
    """
    route = routing(settings.routes)
    if route is None:
        return lambda _: []
    names = [table.full_name for table in settings.tables_of_job]

    def table_of(event: Members) -> list[str | None]:
        try:
            return [names[route(_plain(event))]]
        except (NoRouteError, RecursionError):
            return [None]

    return table_of


def _plain(value: Any) -> Any:
    """What :func:`etl.operations.shapes.read_json` has read, as a run reads it."""
    if isinstance(value, Members):
        return {name: _plain(member) for name, member in value}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Number):
        return _number(value)
    return value


def _number(text: str) -> int | None:
    # No list of routes has a number of so many digits, and int() refuses thousands of them.
    is_whole = text.removeprefix("-").isdecimal() and len(text) < 100
    return int(text) if is_whole else None
