"""What is checked of the columns of a configuration, before any message is there."""

from __future__ import annotations

from etl.config import Column
from etl.errors import SettingsError
from etl.reading.cleaning import check_null_values, cleaned
from etl.reading.literals import literal
from etl.schema import Check, column_checks


def check_columns(columns: tuple[Column, ...]) -> None:
    """Check that the configured columns can be checked and stored; imports no pandas.

    :raises SettingsError: a masked column is too narrow for any token, a column's constant or
        default fails its checks, or cleaning never leaves one of its null values
    """
    for column in columns:
        check_null_values(column)
        checks = column_checks(column)
        for text in (column.constant, column.default):
            if text is not None:
                check_literal(column, text, checks)


def check_literal(column: Column, text: str, checks: list[Check]) -> None:
    """Check a constant or a default as a value of an event is read and checked.

    :raises SettingsError: it fails; names the check
    """
    values = cleaned(column, [literal(column, text)])
    for name, failed in checks:
        if failed(values):
            raise SettingsError(
                f"column {column.name!r}: its 'constant' or 'default' fails the check {name!r}"
            )
