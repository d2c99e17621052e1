"""The target table as it is created: its columns, and what the configuration says of the rest."""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

from etl.config import Column, Table
from etl.schema import masked_columns, target_table


def definition(table: Table) -> sa.Table:
    """Describe the target table, to create it."""
    described = target_table(table)
    if table.on_conflict != "error":
        described.append_constraint(sa.UniqueConstraint(*table.key))
    if table.token_check:
        for column in masked_columns(table):
            described.append_constraint(_token_check(described, column))
    return described


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
