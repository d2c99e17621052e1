"""The target table as it is created: its columns, and what the configuration says of the rest."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

from etl.config import Column, Table
from etl.postgres.queries import quote_name
from etl.reading.literals import literal
from etl.schema import convert, masked_columns, sql_type

# Of these, a text is not the value that is stored.
_WITHOUT_DEFAULT = ("json", "bytes")


def definition(table: Table) -> sa.Table:
    """Describe the target table, to create it."""
    described = sa.Table(
        table.name,
        sa.MetaData(),
        *(_column(column, table) for column in table.columns),
        schema=table.schema_name,
        **_partitioned(table),
    )
    if table.primary_key:
        described.append_constraint(sa.PrimaryKeyConstraint(*table.primary_key))
    if table.on_conflict != "error" and set(table.key) != set(table.primary_key):
        described.append_constraint(sa.UniqueConstraint(*table.key))
    if table.token_check:
        for column in masked_columns(table):
            described.append_constraint(_token_check(described, column))
    return described


def _partitioned(table: Table) -> dict[str, Any]:
    if table.partition_by is None:
        return {}
    # SQLAlchemy hands it to the driver as it is, which takes a percent sign for a parameter.
    column = quote_name(table.partition_by.range, for_driver=True).replace("%", "%%")
    return {"postgresql_partition_by": f"range ({column})"}


def _column(column: Column, table: Table) -> sa.Column[Any]:
    default = _default(column) if table.defaults else None
    return sa.Column(
        column.name,
        sql_type(column),
        nullable=column.nullable or not table.not_null,
        server_default=default,
        autoincrement=False,  # SQLAlchemy would number the rows of an integer key
    )


def _default(column: Column) -> sa.TextClause | None:
    """The value that stands in for an absent field, as the database stores it."""
    if column.default is None or column.mask or column.array or column.type in _WITHOUT_DEFAULT:
        return None
    value = str(convert(column, [literal(column, column.default)])[0])
    # In a text, a colon would begin a parameter.
    return sa.text("'{}'".format(value.replace("'", "''").replace(":", "\\:")))


def _token_check(described: sa.Table, column: Column) -> sa.CheckConstraint:
    # Names have at most 63 bytes; Postgres would cut a longer one silently.
    name = f"{_cut(column.name, 54)}_is_token"
    if any(constraint.name == name for constraint in described.constraints):
        # Two long names begin alike.
        digest = hashlib.sha256(column.name.encode()).hexdigest()
        name = f"{_cut(column.name, 45)}_{digest[:8]}_is_token"
    call = sa.func.etl.check_token(described.c[column.name], name)
    return sa.CheckConstraint(call, name=name)


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")
