"""What a job has masked or dropped is not stored as it comes, once its line is gone.

A line of the configuration that is lost, or has another name, would let values through: into a
column that reads the same field, or one of type ``json`` that reads what is around it. So it is
with a column that stored no more than the network of an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etl.config import Column, Settings, is_within, place
from etl.errors import SettingsError

NETWORK = "network"  # the kind of a column that stores the network of an address


def check_plain(settings: Settings, masked: Iterable[tuple[str, str, Sequence[str], str]]) -> None:
    """Check that no column of the table stores as it comes what the job has masked.

    :param masked: columns of all tables of the job as they were first loaded: name, context, fields
        of the event, of which an attribute of a message has none, and kind
    :raises SettingsError: one would; names the field and both columns
    """
    for name, context, fields, kind in masked:
        for what in fields or (context,):
            column = _reader(
                what,
                settings,
                settings.table.columns,
                is_network=kind == NETWORK,
                is_field=bool(fields),
            )
            if column is not None:
                was = "was stored as a network only" if kind == NETWORK else "was masked"
                raise SettingsError(
                    f"{settings.table.full_name!r}: {what!r} {was} in column {name!r}, and column "
                    f"{column.name!r} would store it as it comes; mask it, or list it in "
                    "'event.drop'; if it is not personal, let the owner of the tables delete the "
                    f"row of column {name!r} in etl.masked_columns"
                )


def check_dropped(settings: Settings, dropped: Iterable[str]) -> None:
    """Check that no column of the table stores as it comes what the job has dropped.

    :raises SettingsError: one would; names the field and the column
    """
    for field in dropped:
        column = _reader(field, settings, settings.table.columns)
        if column is not None:
            raise SettingsError(
                f"{settings.table.full_name!r}: {field!r} was listed in 'event.drop', and column "
                f"{column.name!r} would store it as it comes; list it again, or mask it; if it is "
                "not personal, let the owner of the tables delete its row in etl.dropped_fields"
            )


def only_networks(settings: Settings) -> list[Column]:
    """The table's columns with the network of an address that no table stores as it comes."""
    of_job = [column for table in settings.tables_of_job for column in table.columns]
    return [
        column
        for column in settings.table.columns
        if column.network is not None
        and not any(
            _reader(what, settings, of_job, is_network=True, is_field=bool(column.fields))
            for what in column.fields or (column.source,)
        )
    ]


def _reader(
    what: str,
    settings: Settings,
    columns: Iterable[Column],
    *,
    is_network: bool = False,
    is_field: bool = True,
) -> Column | None:
    """The first of the columns that stores a field, or an attribute, as it comes; or None.

    :param is_network: a network of it, of whatever size, is not meant
    """
    hidden = map(place, settings.hidden_fields)
    if is_field and any(is_within(place(what), outer) for outer in hidden):
        return None
    for column in columns:
        if column.hides_value or (is_network and column.network is not None):
            continue
        if _reads(column, what) if is_field else column.source == what:
            return column
    return None


def _reads(column: Column, field: str) -> bool:
    inner = place(field)
    outers = map(place, column.fields)
    return any(is_within(inner, outer) or is_within(outer, inner) for outer in outers)
