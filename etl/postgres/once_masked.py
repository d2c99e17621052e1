"""What a job has masked is not stored as it comes, once the masked column is gone.

A line of the configuration that is lost, or has another name, would let values through: into a
column that reads the same field, or one of type ``json`` that reads what is around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl.config import Settings, Table, is_within, place
from etl.errors import SettingsError

if TYPE_CHECKING:
    from etl.postgres.contexts import FirstLoad


def check_plain(settings: Settings, known: Sequence[FirstLoad]) -> None:
    """Check that no column stores as it comes what the job has masked in another column.

    :raises SettingsError: one would; names the field and both columns
    """
    table = settings.table
    hidden = [place(path) for path in table.masked_fields.union(settings.event.drop)]
    for first in known:
        if first.job != settings.job_name:
            continue
        for path in first.fields:
            at = place(path)
            if any(is_within(at, outer) for outer in hidden):
                continue
            for field, column in table.plain_fields.items():
                if is_within(at, place(field)) or is_within(place(field), at):
                    raise _would_be_plain(path, first, column, table)
        if not first.fields and first.context in table.plain_attributes:
            column = table.plain_attributes[first.context]
            raise _would_be_plain(first.context, first, column, table)


def _would_be_plain(what: str, first: FirstLoad, column: str, table: Table) -> SettingsError:
    return SettingsError(
        f"{table.full_name!r}: {what!r} was masked in column {first.column_name!r}, and column "
        f"{column!r} would store it as it comes; mask it, or list it in 'event.drop'; if it is "
        "not personal, let the owner of the tables delete the row of column "
        f"{first.column_name!r} in etl.masked_columns"
    )
