"""Where a job masks a field: in which of its tables, and in which column of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from etl.config import Column, Settings
from etl.errors import UsageError, nearest
from etl.schema import masked_column, masked_columns


@dataclass(frozen=True)
class MaskedPlace:
    """A column that holds tokens, and its table."""

    settings: Settings  # with this table only
    column: Column

    @property
    def table(self) -> str:
        """The table: ``schema.name``."""
        return self.settings.table.full_name


def masked_places(settings: Settings, name: str) -> list[MaskedPlace]:
    """The column of each table that has tokens of a field.

    :param name: the field, or a masked column of one of the tables
    :raises UsageError: there is none, or the name means several fields; the message names them
    """
    views = list(settings.of_each_table())
    if len(views) == 1:
        return [MaskedPlace(views[0], masked_column(views[0].table, name))]
    places = [MaskedPlace(view, c) for view in views for c in masked_columns(view.table)]
    named = [place for place in places if place.column.name == name]
    named = named or [place for place in places if name in place.column.fields]
    if not named:
        raise UsageError(f"{name!r} is not a masked field of any table; {_way_out(name, places)}")
    sources = list(dict.fromkeys(place.column.source for place in named))
    if len(sources) > 1:
        listed = ", ".join(f"{place.column.source!r} in {place.table}" for place in named)
        raise UsageError(
            f"{name!r} is made from different fields ({listed}); name the field, or add --table"
        )
    # By table, in the order of the configuration; the column that is named goes before another one.
    found: dict[str, MaskedPlace] = {}
    for place in places:
        if place in named or (place.column.source == sources[0] and place.table not in found):
            found[place.table] = place
    return list(found.values())


def other_tables(settings: Settings, source: str, searched: Collection[str]) -> list[str]:
    """The tables that have tokens of a field and were not searched for it."""
    return [
        view.table.full_name
        for view in settings.of_each_table()
        if view.table.full_name not in searched
        and any(column.source == source for column in masked_columns(view.table))
    ]


def tables_without_tokens(settings: Settings, source: str) -> list[str]:
    """The tables that hold a part of a field and no tokens, so no row is found by its value."""
    return [
        view.table.full_name
        for view in settings.of_each_table()
        if any(c.source == source and c.hides_value for c in view.table.columns)
        and not any(c.source == source for c in masked_columns(view.table))
    ]


def _way_out(name: str, places: list[MaskedPlace]) -> str:
    names = [text for place in places for text in (*place.column.fields, place.column.name)]
    if meant := nearest(name, names):
        return f"did you mean {meant!r}?"
    fields = dict.fromkeys(field for place in places for field in place.column.fields)
    return f"masked are {', '.join(fields) or 'none'}"
