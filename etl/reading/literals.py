"""Values that stand in the configuration, written as text: constants, defaults, limits."""

from __future__ import annotations

import json
from typing import Any

from etl.config import Column
from etl.errors import SettingsError
from etl.fieldtypes import Real, field_type


def literal(column: Column, text: str) -> Any:
    """The value that an event would have for *text*, by the type of the column.

    :raises SettingsError: the column's type has no such value
    """
    python = field_type(column).python
    if python == (str,):
        return text
    try:
        value = json.loads(text, parse_float=Real)
    except (ValueError, RecursionError):
        value = None
    if type(value) in python:
        return value
    kind = f"is not of type {column.type!r}"
    if column.array:
        kind = "is not a list; write it as JSON in quotes: '[]'"
    raise SettingsError(f"column {column.name!r}: its 'constant' or 'default' {kind}")


def written_value(column: Column, text: str) -> Any:
    """The converted value of a column that *text* stands for.

    :raises ValueError: the type of the column has no such value
    """
    kind = field_type(column)
    try:
        value = literal(column, text)
    except SettingsError:
        raise ValueError(f"is not a value of type {column.type!r}") from None
    if not all(is_good(value) for _, is_good in kind.checks):
        raise ValueError(f"is not a value of type {column.type!r}")
    return kind.stored(value)
