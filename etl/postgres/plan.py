"""The server's plan for the statement that loads a batch: how it is refused, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from etl.config import Table
from etl.postgres import upsert
from etl.postgres.columns import staged_values
from etl.postgres.queries import queries, quote_name
from etl.postgres.sqlstate import Refusal, is_lock_timeout, refusal


@dataclass(frozen=True)
class Written:
    """A table that gets the rows: the target, or what is behind it as a view or by a rule."""

    schema: str
    name: str
    nulls: frozenset[int]  # numbers of the columns that are null in every row


@dataclass(frozen=True)
class Plan:
    """What the server has planned. A plan that is refused writes nothing."""

    refusal: Refusal | None = None
    written: Sequence[Written] = ()


def plan_of_load(connection: sa.Connection, table: Table, staging: str) -> Plan:
    """Let the server plan the statement that loads a batch.

    Rights, columns and types are checked, but no trigger runs. A locked table is
    not examined.

    :param staging: name of the staging table, which must exist
    """
    if table.on_conflict != "error":
        made = upsert.statements(upsert.Target.look_up(connection, table, staging))
        # The second one inserts too, and replaces besides.
        return _plan(connection, table, made.replace or made.insert)
    names = ", ".join(quote_name(column.name) for column in table.columns)
    target = quote_name(table.schema_name, table.name)
    # In a text, a colon would begin a parameter.
    values = ", ".join(staged_values(connection, table)).replace(":", "\\:")
    statement = f"insert into {target} ({names}) select {values} from {staging}"  # noqa: S608
    return _plan(connection, table, statement)


def refusal_of_change(
    connection: sa.Connection, table: Table, change: Literal["update", "delete"]
) -> Refusal | None:
    """Let the server plan a change of rows; return how it refuses it.

    This is where it looks at publications: for their row filters and column lists, too.
    """
    target = quote_name(table.schema_name, table.name)
    first = next((column for column in table.columns if column.has_tokens), table.columns[0])
    column = quote_name(first.name)
    statements = {
        "update": f"update {target} set {column} = {column}",  # noqa: S608
        "delete": f"delete from {target}",  # noqa: S608
    }
    return _plan(connection, table, statements[change]).refusal


def _plan(connection: sa.Connection, table: Table, statement: str) -> Plan:
    where = {"schema": table.schema_name, "name": table.name}
    if connection.execute(queries()["is_locked"], where).scalar_one():
        return Plan()  # the statement will wait for the lock, but this should not
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql("set local lock_timeout = '100ms'")
        planned = connection.execute(sa.text(f"explain (verbose, format json) {statement}"))
        plans = [part["Plan"] for part in planned.scalar_one()]
    except sa.exc.SQLAlchemyError as error:
        found = refusal(error)
        if found is None and not is_lock_timeout(error):
            raise
        return Plan(found)
    finally:
        savepoint.rollback()
    return Plan(written=[_written(plan) for plan in plans if plan.get("Operation") == "Insert"])


def _written(plan: dict[str, Any]) -> Written:
    # The rows have every column of the table, in its order.
    values = plan["Plans"][0]["Output"]
    nulls = (number for number, value in enumerate(values, 1) if value.startswith("NULL::"))
    return Written(plan["Schema"], plan["Relation Name"], frozenset(nulls))
