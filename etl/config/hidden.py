"""Places of an event that no column may store as they come: what is masked, and what is dropped.

Items of a list are not told apart here: what is hidden in one of them is hidden in all. An event of
an unusual shape, with a list where an object is expected, so hides the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from etl.config import paths
from etl.config.column import Column
from etl.errors import shown_name

Place = tuple[str, ...]  # the names on the way to it, without the positions in lists


def place(path: str) -> Place:
    """The place of a path.

    :raises ValueError: it is not a path
    """
    return tuple(step for step in paths.parse(path) if isinstance(step, str))


def is_within(inner: Place, outer: Place) -> bool:
    """Whether a place is the outer one, or in it."""
    return inner[: len(outer)] == outer


def check_columns(columns: Iterable[Column], hidden: Mapping[str, str]) -> None:
    """Check that no column stores a hidden place as it comes, as a whole or a part of it.

    A column of type ``json`` may read what is around it, because the hidden place is taken out of
    its values.

    :param hidden: paths, each with what is said of it: ``is masked in column 'a'``
    :raises ValueError: says which column would
    """
    for column in columns:
        for field in column.fields:
            for path, why in hidden.items():
                if verb := _stores(field, path, column):
                    raise ValueError(
                        f"{shown_name(path)} {why}, and column {shown_name(column.name)} {verb}"
                    )


def _stores(field: str, path: str, column: Column) -> str:
    inner, outer = place(field), place(path)
    if inner == outer:
        return f"would store {_what_is_stored(column)}"
    if is_within(inner, outer):
        return "would store a part of it as it came"
    if is_within(outer, inner) and column.type != "json":
        return "reads what is around it (only a column of type 'json' can)"
    return ""


def _what_is_stored(column: Column) -> str:
    if column.network is None:
        return "it as it came"
    return (
        "too much of it; write 'network: {v4: 24, v6: 48}', or less of one of them, or take one of "
        "the two columns out"
    )


def within(column: Column, hidden: Iterable[str]) -> tuple[Place, ...]:
    """The hidden places within what a column reads, as seen from there."""
    outers = [place(field) for field in column.fields]
    found = (
        inner[len(outer) :]
        for inner in map(place, hidden)
        for outer in outers
        if is_within(inner, outer) and inner != outer
    )
    return tuple(dict.fromkeys(found))
