"""The sentences about settings that are missing, unknown or out of range."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from etl.config.settings import Settings
from etl.config.table import Column


def describe(location: list[str], problem: Any, tree: dict[str, Any]) -> str:
    """Say in a fragment which setting is wrong, and what it must be.

    :param location: the setting, as pydantic names it
    :param problem: one of pydantic's errors
    :param tree: the values from all sources
    """
    name = ".".join(_column_named(location, tree))
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}{suggestion(location[-1], _keys(location[:-1]))}"
    if problem["type"] == "missing":
        return f"setting {name!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    # A check of several settings together has no location; its message names them.
    return f"setting {name!r}: {message}" if name else message


def _column_named(location: list[str], tree: dict[str, Any]) -> list[str]:
    """Replace the position of a column in the list by its name, if it has one."""
    if location[:2] != ["table", "columns"] or len(location) < 3:
        return location
    column = tree["table"]["columns"][int(location[2])]
    name = column.get("name") if isinstance(column, dict) else None
    # From 1, as people count.
    shown = name if isinstance(name, str) and name else f"number {int(location[2]) + 1}"
    return [*location[:2], shown, *location[3:]]


def _keys(location: list[str]) -> list[str]:
    model: Any = Settings
    for part in location:
        if part.isdigit():
            continue
        model = Column if part == "columns" else model.model_fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def suggestion(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
