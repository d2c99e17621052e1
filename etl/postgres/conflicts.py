"""Whether the values of a row have led to its conflict with another row.

A conflict shows that the table takes rows, if the row is a second one of a row that is there. A
trigger may have met the conflict with another table. Or all columns of the constraint take their
defaults: then a sequence is behind the rows, as it may be after a restore.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from etl.config import Table
from etl.postgres.queries import queries
from etl.postgres.sqlstate import Refusal


def examined(connection: sa.Connection, table: Table, refusal: Refusal) -> Refusal:
    """Return the refusal; a conflict is marked if it is of no value of the row."""
    if not refusal.is_conflict:
        return refusal
    named = dict(refusal.names)
    parameters = {
        "schema": table.schema_name,
        "name": table.name,
        "columns": [column.name for column in table.columns],
        "of_function": refusal.of_function,
        "conflict_schema": refusal.schema,
        "conflict_table": named.get("table"),
        "constraint": named.get("constraint"),
    }
    found = connection.execute(queries()["is_conflict_of_no_value"], parameters)
    return replace(refusal, is_of_no_value=found.scalar_one())
