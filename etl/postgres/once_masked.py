"""What a job has masked is not stored as it comes, once the masked column is gone.

A line of the configuration that is lost, or has another name, would let values through: into a
column that reads the same field, or one of type ``json`` that reads what is around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from etl.config import Settings, Table, is_within, place
from etl.errors import SettingsError


def check_plain(settings: Settings, masked: Iterable[tuple[str, str, Sequence[str]]]) -> None:
    """Check that no column of the table stores as it comes what the job has masked.

    :param masked: columns of all tables of the job as they were first loaded: name, context, and
        fields of the event, of which an attribute of a message has none
    :raises SettingsError: one would; names the field and both columns
    """
    table = settings.table
    hidden = [place(path) for path in settings.hidden_fields]
    for name, context, fields in masked:
        for path in fields:
            at = place(path)
            if any(is_within(at, outer) for outer in hidden):
                continue
            for field, column in table.plain_fields.items():
                if is_within(at, place(field)) or is_within(place(field), at):
                    raise _would_be_plain(path, name, column, table)
        if not fields and context in table.plain_attributes:
            raise _would_be_plain(context, name, table.plain_attributes[context], table)


def _would_be_plain(what: str, masked: str, column: str, table: Table) -> SettingsError:
    return SettingsError(
        f"{table.full_name!r}: {what!r} was masked in column {masked!r}, and column {column!r} "
        "would store it as it comes; mask it, or list it in 'event.drop'; if it is not personal, "
        f"let the owner of the tables delete the row of column {masked!r} in etl.masked_columns"
    )
