"""Whose fault it is when the database refuses rows: that of the rows, or of the table and the job.

It is decided by what the database did with the other rows of the batch, see
``docs/reliability.md``. The error names what an engineer needs: the table, the role, the object,
and the statement to run where that is clear.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import sqlalchemy as sa

from etl.config import Table
from etl.errors import DatabaseRefused
from etl.postgres.bisection import Trial
from etl.postgres.columns import existing_columns, quoted, table_text
from etl.postgres.plan import plan_of_load
from etl.postgres.queries import queries
from etl.postgres.row_key import needed_rights
from etl.postgres.sqlstate import NO_COLUMN, NO_PRIVILEGE, NO_SCHEMA, NO_TABLE, Refusal
from etl.schema import STAGING


@dataclass(frozen=True)
class Doubt:
    """No row of a batch was accepted. Another batch may show whether that is the table's fault."""

    error: DatabaseRefused  # what stops the run, if it is
    blames_rows: bool  # if no other batch comes: each row was refused for its own values
    table: str
    refused: frozenset[str]  # message ids


def doubt(
    connection: sa.Connection, trial: Trial, table: Table, staging: str = STAGING
) -> Doubt | None:
    """Return None if the rows that were refused are at fault, because another one was accepted.

    :param staging: name of the staging table
    :raises DatabaseRefused: it is the table's or the job's fault for certain
    """
    if not trial.refused or trial.has_taken_rows:
        return None
    refusals = Counter(trial.refused.values())
    plain = plan_of_load(connection, table, staging).refusal
    certain = [refusal for refusal in refusals if _column_without_value(refusal, table)]
    if plain or certain:
        raise table_refused(connection, table, plain or certain[0], staging)
    # Several rows that are refused alike may be any rows.
    differ = len(refusals) > 1 or len(trial.refused) == 1
    return Doubt(
        error=table_refused(connection, table, refusals.most_common(1)[0][0], staging),
        blames_rows=differ and all(refusal.is_about_a_value for refusal in refusals),
        table=table.full_name,
        refused=frozenset(trial.refused),
    )


def table_refused(
    connection: sa.Connection, table: Table, found: Refusal, staging: str = STAGING
) -> DatabaseRefused:
    """Make the error that stops the run, with names from the catalogue."""
    names = {"schema": table.schema_name, "name": table.name}
    role, triggers = connection.execute(queries()["role_and_triggers"], names).one()
    plain = plan_of_load(connection, table, staging).refusal
    shown = plain or found
    existing = existing_columns(connection, table)
    missing = [column.name for column in table.columns if column.name not in existing]
    what = f"{shown.check} ({shown.kind})" if shown.sqlstate else shown.check
    return DatabaseRefused(
        f"no row can be stored in {table_text(table)}: {what}; role {role!r}; "
        f"{_advice(shown, table, role, triggers, missing, is_plain=plain is not None)}"
    )


def _column_without_value(refusal: Refusal, table: Table) -> str | None:
    """The column that the refusal is about, if no row has a value for it."""
    if refusal.sqlstate != "23502" or refusal.of_function:
        return None
    column = dict(refusal.names).get("column")
    return None if column in {column.name for column in table.columns} else column


def _advice(
    refusal: Refusal,
    table: Table,
    role: str,
    triggers: list[str],
    missing: list[str],
    *,
    is_plain: bool,
) -> str:
    target = quoted(table.schema_name, table.name)
    column = _column_without_value(refusal, table)
    if column is not None:
        return (
            f"column {column!r} is not in '{table.section}.columns': add it there, or run: alter "
            f"table {target} alter column {quoted(column)} set default ..."
        )
    if refusal.sqlstate == NO_PRIVILEGE and is_plain:
        rights = ", ".join(dict.fromkeys(["insert", *(r for r, _ in needed_rights(table))]))
        return f"run: grant {rights} on {target} to {quoted(role)}"
    if refusal.sqlstate == NO_PRIVILEGE and not refusal.of_function:
        return "look at the row-level security policies of the table: create one for INSERT"
    if refusal.sqlstate == "23514" and "constraint" not in dict(refusal.names):
        return f"if a partition is missing, run: create table ... partition of {target} ..."
    if refusal.is_of_no_value and not refusal.of_function:
        return (
            "the defaults of its columns give values that are in use: if they are from a sequence, "
            "run: select setval(...) with a value above the largest one in the column"
        )
    if refusal.sqlstate in (NO_SCHEMA, NO_TABLE):
        return "it was dropped during the run; create it with: etl init"
    if missing and refusal.sqlstate == NO_COLUMN:
        listed = ", ".join(map(repr, missing))
        return f"it has no column {listed}: add it, or remove it from '{table.section}.columns'"
    if is_plain:
        return f"the table was changed during the run: compare it with '{table.section}.columns'"
    listed = f": {', '.join(map(repr, triggers))}" if triggers else ""
    return f"look at the constraints, rules and triggers of the table{listed}"
