"""Adds the columns to the target that are configured and missing: it drops and narrows nothing."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import AddConstraint, CreateColumn

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import column_problems, existing_columns, quoted, table_text
from etl.postgres.definition import definition
from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.schema import target_table

_TABLE_KINDS = ("r", "p")  # ordinary and partitioned


def missing_columns(engine: sa.Engine, table: Table) -> list[str]:
    """The statements that add the columns, for a person to read and for :func:`add_columns`.

    A column that is added allows null, unless it has a default: the rows that are there have no
    value.

    :raises TableError: the target is no table, or a column is there and does not fit
    :raises DatabaseUnavailable: an outage
    """
    names = {"schema": table.schema_name, "name": table.name}
    with transaction(engine) as connection:
        kind = connection.execute(queries()["target_relation"], names).one().kind
        existing = existing_columns(connection, table)
    there = table.model_copy(
        update={"columns": tuple(c for c in table.columns if c.name in existing)}
    )
    problems = list(column_problems(existing, target_table(there), there))
    if problems:
        raise TableError(f"--alter only adds columns: {'; '.join(problems)}")
    added = [column.name for column in table.columns if column.name not in existing]
    if added and kind not in _TABLE_KINDS:
        raise TableError(
            f"{table_text(table)} is a view or a foreign table, so no column can be added to it; "
            "add it to the table behind it"
        )
    return _statements(table, added)


def add_columns(engine: sa.Engine, statements: Sequence[str]) -> None:
    """Execute the statements in one transaction.

    :raises DatabaseRefused: the role does not own the table
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.replace("%", "%%"))


def _statements(table: Table, added: Sequence[str]) -> list[str]:
    target = quoted(table.schema_name, table.name).replace("%", "%%")
    described = definition(table)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    statements = []
    for name in added:
        column = described.c[name]
        column.nullable = column.nullable or column.server_default is None
        written = CreateColumn(column).compile(dialect=dialect)
        statements.append(f"alter table {target} add column {written}")
    statements += [
        str(AddConstraint(constraint).compile(dialect=dialect)).strip()
        for constraint in described.constraints
        if isinstance(constraint, sa.CheckConstraint) and {*constraint.columns.keys()} & {*added}
    ]
    # SQLAlchemy writes for the driver, which takes a percent sign for a parameter.
    return [statement.replace("%%", "%") for statement in statements]
