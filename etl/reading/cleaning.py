"""The values of a column before they are checked: defaults for what is absent."""

from __future__ import annotations

from typing import Any

from etl.config import Column
from etl.frames import ABSENT
from etl.reading.literals import literal


def cleaned(column: Column, values: list[Any]) -> list[Any]:
    """The values that are checked for a column, in the same order; ABSENT for absent ones."""
    if column.default is None:
        return values
    default = literal(column, column.default)
    return [default if value is ABSENT else value for value in values]
