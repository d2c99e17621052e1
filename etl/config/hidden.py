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


def check_masked(columns: Iterable[Column], masked: Iterable[Column], of_table: str = "") -> None:
    """Check that no column stores as it came what others mask.

    :param masked: the columns that mask it, among others
    :param of_table: says whose columns these are: `` of 'public.orders'``
    :raises ValueError: says which column would
    """
    plain = [column for column in columns if not column.hides_value]
    masked = [column for column in masked if column.mask]
    attributes = {column.source: column.name for column in masked if not column.fields}
    for column in plain:
        if column.source in attributes:
            name = column.message_attribute or column.attribute or ""
            raise ValueError(
                f"{'message ' if column.message_attribute else ''}attribute {shown_name(name)} is "
                f"masked in column {shown_name(attributes[column.source])}{of_table}, and column "
                f"{shown_name(column.name)} would store it as it came"
            )
    fields = {field: column.name for column in masked for field in column.fields}
    check_columns(
        plain,
        {field: f"is masked in column {shown_name(n)}{of_table}" for field, n in fields.items()},
    )


def check_first_names(columns: Iterable[Column]) -> None:
    """Check that columns that share a field read it by the same names, so that it has one value.

    :raises ValueError: names the field
    """
    readers: dict[str, tuple[str, ...]] = {}
    for column in columns:
        for name in column.fields:
            if readers.setdefault(name, column.fields) != column.fields:
                raise ValueError(
                    f"{shown_name(name)} is read by two columns under different lists of names "
                    "(give both the same list)"
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
