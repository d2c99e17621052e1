"""Values that stand in the configuration: constants and defaults, written as text."""

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
    raise SettingsError(
        f"column {column.name!r}: its 'constant' or 'default' is not of type {column.type!r}"
    )
