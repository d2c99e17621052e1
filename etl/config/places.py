"""Where the tables and the columns are in the values of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etl.config.yaml_text import Place

_TABLES = ("routes", "tables")


def columns_at(place: Place, tree: Mapping[str, Any]) -> list[Place]:
    """The columns that a problem at a place may be about: of one table, or of all of them."""
    if place == _TABLES[:1]:
        lists = [(*table, "columns") for table in _items_at(_TABLES, tree)]
    else:
        size = table_size(place)
        lists = [place] if size and place[size:] == ("columns",) else []
    return [column for columns in lists for column in _items_at(columns, tree)]


def _items_at(place: Place, tree: Mapping[str, Any]) -> list[Place]:
    """The sections in a list."""
    found = at(tree, place)
    items = found if isinstance(found, list) else []
    return [(*place, number) for number, item in enumerate(items) if isinstance(item, dict)]


def table_size(place: Place) -> int:
    """How many steps lead to the table that a place is in; 0 if it is in none."""
    if place[:1] == ("table",):
        return 1
    return 3 if place[:2] == _TABLES and len(place) > 2 else 0


def is_of_column(place: Place) -> bool:
    """Whether a place is a column of a table, or in one."""
    size = table_size(place)
    return size > 0 and len(place) > size + 1 and place[size] == "columns"


def at(tree: Any, place: Place) -> Any:
    """What is at a place; an empty text if there is nothing."""
    for step in place:
        if isinstance(tree, dict):
            tree = tree.get(step, "")
        elif isinstance(tree, list) and isinstance(step, int):
            tree = tree[step]
    return tree


def written(place: Place) -> str:
    """Write a place as a path: ``routes.tables[1]``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]
