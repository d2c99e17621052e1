"""Which column of a refused row has a text that is no label of its enum: Postgres does not say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from etl.config import Table
from etl.postgres.columns import enum_columns, quoted
from etl.postgres.sqlstate import Refusal
from etl.schema import STAGING

_NO_LABEL = "22P02"  # SQLSTATE


def named(connection: sa.Connection, table: Table, message_id: str, refusal: Refusal) -> Refusal:
    """Return the refusal of a staged row, with the column if it is about the label of an enum."""
    if refusal.sqlstate != _NO_LABEL or refusal.names or refusal.of_function:
        return refusal
    for name, written in enum_columns(connection, table).items():
        labels = f"cast(enum_range(cast(null as {written.removesuffix('[]')})) as text[])"
        is_array = written.endswith("[]")
        texts = f"cast({quoted(name)} as text{'[]' * is_array})"
        known = (
            f"array_remove({texts}, null) <@ {labels}" if is_array else f"{texts} = any({labels})"
        )
        row: sa.Select[Any] = sa.select(sa.literal_column(f"not ({known})")).select_from(
            sa.table(STAGING)
        )
        if connection.execute(row.where(sa.column("message_id") == message_id)).scalar():
            return replace(refusal, names=(("column", name),))
    return refusal
