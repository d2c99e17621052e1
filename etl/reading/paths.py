"""Values at the places of an event that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import Any

from etl.config import EventPath, parse_path
from etl.fieldtypes import Real, exact
from etl.frames import ABSENT

Event = dict[str, Any]
Row = Callable[[Event], list[Any]]


class TwoValuesError(Exception):
    """The names of one field have different values in an event; ``field`` is the first name."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def at(event: Any, path: EventPath) -> Any:
    """The value at a path; ABSENT if there is none, as where something on the way is null."""
    for step in path:
        if isinstance(step, str):
            if type(event) is not dict or step not in event:
                return ABSENT
        elif type(event) is not list or step >= len(event):
            return ABSENT
        event = event[step]
    return event


def row_of(
    fields: Sequence[str], other_names: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> Row:
    """Make the function that takes the values of *fields* out of an event, ABSENT for absent ones.

    :param fields: paths
    :param other_names: further paths of a field, by its first; see :func:`_at_any`
    """
    paths = {field: parse_path(field) for field in fields}
    if not other_names and all(len(path) == 1 for path in paths.values()):
        names: list[Any] = [path[0] for path in paths.values()]
        # Without a loop in Python: this is the usual case.
        absent = repeat(ABSENT)
        return lambda event: list(map(event.get, names, absent))
    getters: list[Callable[[Event], Any]] = [
        partial(_at_any, field=field, paths=[path, *map(parse_path, other_names[field])])
        if field in other_names
        else partial(at, path=path)
        for field, path in paths.items()
    ]
    return lambda event: [get(event) for get in getters]


def _at_any(event: Event, *, field: str, paths: Sequence[EventPath]) -> Any:
    """The value of a field by whichever of its names the event has.

    A null beside a value counts as absent: a producer that sends both names may fill only one.

    :raises TwoValuesError: two names have different values
    """
    present = [value for path in paths if (value := at(event, path)) is not ABSENT]
    values = [value for value in present if value is not None]
    if not all(_is_same(values[0], other) for other in values[1:]):
        raise TwoValuesError(field)
    if values:
        return values[0]
    return None if present else ABSENT


def _is_same(value: Any, other: Any) -> bool:
    """Whether two decoded values are the same, with all digits of their numbers.

    By type, because == does not tell 1, 1.0 and true apart.
    """
    if type(value) is not type(other):
        return False
    if type(value) is dict:
        return value.keys() == other.keys() and all(_is_same(value[k], other[k]) for k in value)
    if type(value) is list:
        return len(value) == len(other) and all(map(_is_same, value, other))
    return bool(exact(value) == exact(other) if type(value) is Real else value == other)


class Known:
    """The fields that are read, and which names of an event are none of them."""

    def __init__(self, fields: Sequence[str], other_names: Mapping[str, Sequence[str]]) -> None:
        self._within: dict[str | int, Any] = {}
        self._is_whole = False
        for name in [*fields, *(name for names in other_names.values() for name in names)]:
            self._add(parse_path(name))
        self._names = frozenset(self._within)
        self._is_flat = not any(self._within.values())
        # Whether an event has no unknown name. True is certain; a False is left to unknown_names().
        # No function of Python is called for the usual events and fields.
        self.all_of: Callable[[Event], bool] = (
            self._names.issuperset if self._is_flat else lambda _: False
        )

    def _add(self, path: EventPath) -> None:
        if not path:
            self._is_whole = True
            return
        node = self._within
        for number, step in enumerate(path, 1):
            # An empty node is read as a whole, and stays so.
            is_new = step not in node
            below = node.setdefault(step, {})
            if number == len(path):
                below.clear()
            elif not below and not is_new:
                return
            node = below

    def unknown_names(self, event: Event) -> tuple[str, ...]:
        """The names that nothing reads; those within an object are written as a path.

        Within a list they are not looked for.
        """
        if self._is_whole:
            return ()
        if self._is_flat:
            return tuple(name for name in event if name not in self._names)
        return tuple(_unknown(event, self._within, ""))


def _unknown(event: Event, known: dict[str | int, Any], before: str) -> list[str]:
    found = []
    for name, value in event.items():
        if name not in known:
            found.append(before + name)
        elif known[name] and type(value) is dict:
            found += _unknown(value, known[name], f"{before}{name}.")
    return found
