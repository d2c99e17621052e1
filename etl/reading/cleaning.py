"""The values of a column before they are checked: picked, cleaned, read leniently, or by default.

Nothing of it happens unless the column's settings ask for it, and all of it is counted.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from etl.config import Column
from etl.errors import SettingsError
from etl.fieldtypes import exact, field_type
from etl.frames import ABSENT
from etl.reading import leniency
from etl.reading.literals import literal
from etl.reading.steps import clean_text, clean_texts

_CHANGED = "changed: {}"
Values = list[Any]


def cleaned(column: Column, values: Values, notes: Counter[str] | None = None) -> Values:
    """The values that are checked for a column, in the same order; ABSENT for absent ones.

    In this order: one value is picked of a list, texts are cleaned, a port is taken off, null
    values become null, texts become numbers or booleans, and 5.0 becomes 5. What does not fit a
    step is left to the checks. The default, read in the same way, stands for what is absent.

    :param notes: counts the values that each step changed, by "changed: " and the step
    """
    if column.is_read_leniently:
        values = _read(column, values, Counter() if notes is None else notes)
    if column.default is None:
        return values
    (default,) = _read(column, [literal(column, column.default)], Counter())
    return [default if value is ABSENT else value for value in values]


def cleaned_value(column: Column, text: str) -> Any:
    """One value that a person gives, as the column would read it; a text, or null.

    A person gives one value and no list, so nothing is picked of it.
    """
    return cleaned(column.model_copy(update={"pick": None}), [text])[0]


def check_null_values(column: Column) -> None:
    """Check that a value can be one of the column's null values.

    :raises SettingsError: cleaning never leaves one of them
    """
    for number, text in enumerate(column.null_values, 1):
        if clean_text(text, column.clean) != text:
            raise SettingsError(
                f"column {column.name!r}: number {number} of its 'null_values' is compared after "
                "'clean', which never leaves it; write it as 'clean' leaves it"
            )


def _read(column: Column, values: Values, notes: Counter[str]) -> Values:
    if column.pick:
        values = _picked(values, 0 if column.pick == "first" else -1, notes)
    if column.clean:
        values = _clean(column, values, notes)
    if "port" in column.accept:
        values = _of_texts(values, leniency.without_port, "port", notes)
    if column.null_values:
        is_null = _is_null_text(column)
        values = _of_texts(
            values, lambda text: None if is_null(text) else text, "null_values", notes
        )
    if "text" in column.accept:
        read = leniency.boolean if column.type == "boolean" else leniency.number
        values = _of_texts(values, read, "text", notes)
    if "whole_float" in column.accept and any(isinstance(value, float) for value in values):
        read_values = [leniency.whole(v) if isinstance(v, float) else v for v in values]
        _count("whole_float", values, read_values, notes)
        values = read_values
    if column.null_values:
        values = _without_null_numbers(column, values, notes)
    _count_losses(column, values, notes)
    return values


def _count_losses(column: Column, values: Values, notes: Counter[str]) -> None:
    """Count the values of which the type will lose a part, as the column accepts."""
    kind = field_type(column)
    for word, is_lost in kind.losses:
        lost = (type(value) in kind.python and is_lost(value) for value in values)
        found = [value for value, is_one in zip(values, lost, strict=True) if is_one]
        if count := sum(map(kind.is_valid, found)):
            notes[_CHANGED.format(word)] += count


def _picked(values: Values, position: int, notes: Counter[str]) -> Values:
    picked = [
        leniency.one_of(value, position) if type(value) is list else value for value in values
    ]
    picked = _of_texts(picked, lambda text: leniency.one_of_text(text, position), "", Counter())
    _count("pick", values, picked, notes)
    return picked


def _clean(column: Column, values: Values, notes: Counter[str]) -> Values:
    texts = _distinct_texts(values)
    clean, changed = clean_texts(texts, column.clean)
    if not changed:
        return values
    rows = Counter(value for value in values if type(value) is str)
    for step, positions in changed.items():
        notes[_CHANGED.format(step)] += sum(rows[texts[position]] for position in positions)
    return _replaced(values, dict(zip(texts, clean, strict=True)))


def _is_null_text(column: Column) -> Callable[[str], bool]:
    texts = frozenset(column.null_values)
    kind = field_type(column)
    if column.type == "text" or kind.python != (str,):
        return texts.__contains__

    def canonical(text: str) -> str:
        """The same text for every spelling of a value that the column takes."""
        return kind.text(text) if all(good(text) for _, good in kind.checks) else text

    values = {canonical(text) for text in texts}
    return lambda text: text in texts or canonical(text) in values


def _without_null_numbers(column: Column, values: Values, notes: Counter[str]) -> Values:
    nulls = set()
    for text in column.null_values:
        with contextlib.suppress(SettingsError):
            nulls.add(_number_key(literal(column, text)))
    nulls.discard(None)
    if not nulls:
        return values
    kept = [None if _number_key(value) in nulls else value for value in values]
    _count("null_values", values, kept, notes)
    return kept


def _number_key(value: Any) -> tuple[bool, Any] | None:
    """What two equal numbers have in common; true is not 1. None for other values."""
    if isinstance(value, float):
        return False, exact(value)
    return (type(value) is bool, value) if type(value) in (bool, int) else None


def _of_texts(values: Values, read: Callable[[str], Any], step: str, notes: Counter[str]) -> Values:
    """Read each distinct text once."""
    changes = {text: new for text in _distinct_texts(values) if (new := read(text)) != text}
    if not changes:
        return values
    replaced = _replaced(values, changes)
    _count(step, values, replaced, notes)
    return replaced


def _distinct_texts(values: Iterable[Any]) -> list[str]:
    try:
        return [value for value in set(values) if type(value) is str]
    except TypeError:  # a list or an object, which cannot be in a set
        return list({value for value in values if type(value) is str})


def _replaced(values: Values, changes: dict[str, Any]) -> Values:
    try:
        return list(map(changes.get, values, values))
    except TypeError:
        return [changes.get(value, value) if type(value) is str else value for value in values]


def _count(step: str, before: Values, after: Values, notes: Counter[str]) -> None:
    if count := sum(old is not new for old, new in zip(before, after, strict=True)):
        notes[_CHANGED.format(step)] += count
