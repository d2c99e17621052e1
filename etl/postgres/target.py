"""What would make every load into the target fail, found before the first message is received.

All problems are reported at once. Each names the table, the column, the role, and the statement to
run where that is clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import sqlalchemy as sa

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import column_problems, existing_columns, quoted, table_text
from etl.postgres.engine import transaction
from etl.postgres.own_rights import problems_of_own_rights
from etl.postgres.plan import Written, plan_of_load, refusal_of_change
from etl.postgres.queries import queries
from etl.postgres.row_key import problems_of_replacing
from etl.postgres.storage import check_crash_leaves_rows
from etl.postgres.tables import check_existence
from etl.schema import STAGING, staging_table, target_table

_FOREIGN, _PARTITIONED = "f", "p"
_NOT_IN_IDENTITY = "42P10"  # SQLSTATE: a column that a publication needs


def check_tables(engine: sa.Engine, table: Table) -> None:
    """Check that the job's tables and the target exist, and that the target can hold the rows.

    :raises TableError: a table or a column is missing, or a column has another type
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        check_existence(connection, table)
        problems = list(
            column_problems(existing_columns(connection, table), target_table(table), table)
        )
    if problems:
        raise TableError("; ".join(problems))


def check_target(engine: sa.Engine, table: Table, *, is_run: bool = True) -> None:
    """Check that the tables exist, and that the current role can load into them.

    :param is_run: or else it is a replay, which removes no samples
    :raises TableError: names all that it finds
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        check_existence(connection, table)
        problems = [
            *problems_of_target(connection, table),
            *problems_of_own_rights(connection, table, is_run=is_run),
        ]
        if not problems:
            # The server itself has the last word on what no question above has covered.
            problems = list(problems_of_load(connection, table))
    if problems:
        raise TableError("; ".join(problems))
    if table.on_conflict == "update":
        check_changes(engine, table, "update")


def check_changes(engine: sa.Engine, table: Table, change: Literal["update", "delete"]) -> None:
    """Check that rows of the target can be updated or deleted, if they are replicated.

    :raises TableError: a table has no replica identity, or none that fits a publication
    :raises DatabaseUnavailable: an outage
    """
    parameters = {"schema": table.schema_name, "name": table.name, "change": change}
    with transaction(engine) as connection:
        found = connection.execute(queries()["without_replica_identity"], parameters).all()
        # The server itself has the last word, about row filters and column lists above all.
        refusal = None if found else refusal_of_change(connection, table, change)
        if refusal is not None and refusal.sqlstate == _NOT_IN_IDENTITY:
            publications = connection.execute(queries()["publications"], parameters).scalars().all()
            raise TableError(
                f"rows of {table_text(table)} cannot be changed: publication "
                f"{', '.join(map(repr, publications))} has a WHERE or a column list that does not "
                "fit the replica identity; for a WHERE on other columns, run (for each partition, "
                f"too): alter table {quoted(table.schema_name, table.name)} replica identity full; "
                "or publish the table without it: alter publication ... set table ..."
            )
    if found:
        schema, name, publication = found[0]
        raise TableError(
            f"rows of table '{schema}.{name}' cannot be changed: it is in publication "
            f"{publication!r} and has no replica identity; add a primary key, or run: alter table "
            f"{quoted(schema, name)} replica identity full"
        )


def problems_of_load(connection: sa.Connection, table: Table) -> Iterator[str]:
    """Why the server refuses to plan a load, or what is wrong with the tables that it writes to.

    Creates the staging table, which ends with the transaction.
    """
    staging_table(table).create(connection)
    plan = plan_of_load(connection, table, STAGING)
    if plan.refusal is not None:
        what = f"{plan.refusal.check} ({plan.refusal.kind})"
        yield f"{table_text(table)} cannot take the configured columns: {what}"
    for written in plan.written:
        yield from _problems_behind(connection, written, table)


def problems_of_target(connection: sa.Connection, table: Table) -> Iterator[str]:
    """What is wrong with the target: its kind, its columns, the role's rights to it."""
    names = {"schema": table.schema_name, "name": table.name}
    found = connection.execute(queries()["target_relation"], names).one()
    columns = existing_columns(connection, table)
    yield from _problems_of_rights(
        found, table, [columns[c.name] for c in table.columns if c.name in columns]
    )
    yield from _problems_of_storage(connection, found, table)
    yield from column_problems(columns, target_table(table), table)
    yield from problems_of_replacing(connection, table, found.kind)
    if not (found.row_trigger or found.sends_rows_elsewhere):
        yield from _problems_of_nulls(columns, table)
    configured = {column.name for column in table.columns}
    for column in columns.values():
        if column.name not in configured:
            yield from _problems_of_other_column(column, found, table)


def _problems_of_nulls(columns: Mapping[str, Any], table: Table) -> Iterator[str]:
    """Which columns would get nulls and take none. A default does not help: the null is sent."""
    for column in table.columns:
        if column.nullable and column.name in columns and columns[column.name].not_null:
            settings = "'nullable: true'" + (" and 'required: false'" * (not column.required))
            yield (
                f"column {column.name!r} of {table_text(table)} is NOT NULL, but the configuration "
                f"lets nulls through; take out {settings} (a 'default' is for events without the "
                f"field), or run: alter table {quoted(table.schema_name, table.name)} alter column "
                f"{quoted(column.name)} drop not null"
            )


def _problems_of_rights(found: Any, table: Table, columns: list[Any]) -> Iterator[str]:
    target = quoted(table.schema_name, table.name)
    role = quoted(found.role)
    if not found.schema_usage:
        yield (
            f"role {found.role!r} may not use schema {table.schema_name!r}; run: grant usage on "
            f"schema {quoted(table.schema_name)} to {role}"
        )
    if not found.temporary:
        yield (
            f"role {found.role!r} may not create temporary tables, which batches are staged in; "
            f"run: grant temporary on database {quoted(found.database)} to {role}"
        )
    if not all(column.may_insert for column in columns):
        yield (
            f"role {found.role!r} may not insert into {table_text(table)}; run: grant insert on "
            f"{target} to {role}"
        )
    if found.row_security and not found.insert_policy:
        yield (
            f"{table_text(table)} has row-level security, and no policy lets role {found.role!r} "
            f"insert; run: create policy ... on {target} for insert to {role} with check (...)"
        )


def _problems_of_storage(connection: sa.Connection, found: Any, table: Table) -> Iterator[str]:
    """What kind of table it is."""
    where = table_text(table)
    parts: list[Any] = []
    if found.kind == _PARTITIONED:
        parts = list(connection.execute(queries()["leaf_partitions"], {"oid": found.oid}))
        if not parts:
            yield (
                f"{where} has no partition; run: create table ... partition of "
                f"{quoted(table.schema_name, table.name)} ..."
            )
    elif found.kind == _FOREIGN:
        yield _FOREIGN_TABLE.format(where)
    elif not found.takes_inserts:
        yield (
            f"{where} is a view that takes no rows; name the table behind it in "
            f"'{table.section}.name', or create an INSTEAD OF INSERT trigger"
        )
    for part in parts:
        if part.kind == _FOREIGN:
            yield _FOREIGN_TABLE.format(f"partition '{part.schema}.{part.name}'")


def _problems_behind(connection: sa.Connection, written: Written, table: Table) -> Iterator[str]:
    """What is wrong with the table behind a view, or the one that a rule inserts into."""
    names = {"schema": written.schema, "name": written.name}
    if names == {"schema": table.schema_name, "name": table.name}:
        return
    behind = table.model_copy(update={"schema_name": written.schema, "name": written.name})
    check_crash_leaves_rows(connection, written.schema, written.name)
    found = connection.execute(queries()["target_relation"], names).one()
    yield from _problems_of_storage(connection, found, behind)
    for column in existing_columns(connection, behind).values():
        if column.number in written.nulls and column.not_null and not found.row_trigger:
            yield (
                f"column {column.name!r} of {table_text(behind)}, which {table_text(table)} writes "
                f"to, is NOT NULL and gets no value; run: alter table "
                f"{quoted(written.schema, written.name)} alter column {quoted(column.name)} set "
                "default ..."
            )


_FOREIGN_TABLE = (
    "{} is a foreign table: its rows are committed on another server and not together with the "
    "ledger, so a crash could lose or double them; load into a table of this database"
)


def _problems_of_other_column(column: Any, found: Any, table: Table) -> Iterator[str]:
    """What is wrong with a column that the job does not fill in."""
    where = f"column {column.name!r} of {table_text(table)}"
    if column.closed_sequence:
        yield (
            f"{where} takes its default from sequence {column.closed_sequence}, which role "
            f"{found.role!r} may not use; run: grant usage on sequence {column.closed_sequence} to "
            f"{quoted(found.role)}"
        )
    is_filled_in = column.has_default or found.row_trigger
    if column.not_null and not is_filled_in and not found.sends_rows_elsewhere:
        yield (
            f"{where} is NOT NULL and has no default, and is not in "
            f"'{table.section}.columns'; add it there, or run: alter table "
            f"{quoted(table.schema_name, table.name)} alter column "
            f"{quoted(column.name)} set default ..."
        )
