"""What is checked of a table's configuration, before any message is there."""

from __future__ import annotations

from etl.checks.column_values import value_checks
from etl.checks.expressions import row_checks
from etl.config import Column, Table
from etl.errors import SettingsError, suggestion
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


def check_table(table: Table) -> None:
    """Check that the columns can be checked and stored, and that the checks can be made.

    :raises SettingsError: as :func:`check_columns`; or a check has no meaning for its
        column, or cannot be read
    """
    try:
        _check_table(table)
    except SettingsError as error:
        if table.section == "table":
            raise
        raise SettingsError(f"{table.full_name!r}: {error}") from None


def _check_table(table: Table) -> None:
    check_columns(table.columns)
    for column in table.columns:
        value_checks(column)
    row_checks(table, table.columns)
    names = [column.name for column in table.columns]
    for check in table.batch_checks:
        if check.null_share and check.null_share.column not in names:
            raise SettingsError(
                f"{table.section}.batch_checks: check {check.name!r}: {check.null_share.column!r} "
                f"is not a column of the table{suggestion(check.null_share.column, names)}"
            )
    if table.python_checks:
        from etl.checks.values import all_value_checks

        all_value_checks(table.columns, table)
