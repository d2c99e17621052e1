"""The job's own tables and the target table: created, checked, and read as frames."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import column_problems, existing_columns, quoted, table_text
from etl.postgres.definition import definition
from etl.postgres.engine import transaction
from etl.postgres.queries import fetch_frame, queries, sql_file
from etl.postgres.sqlstate import NO_PRIVILEGE, sqlstate_of
from etl.postgres.storage import check_storage
from etl.schema import target_table

if TYPE_CHECKING:
    import pandas as pd

NO_TABLES = "the job's tables are missing; create them with: etl init"

_FUNCTION = "()"
# The newest column of each of the job's tables. If it is missing, then either the table is missing
# or an earlier version of this program created it.
_NEWEST = {
    "jobs": "registered_at",
    "job_columns": "registered_at",
    "ledger": "job_id",
    "quarantine": "is_sample",
    "runs": "skipped",
    "unmask_audit": "fingerprint",
    "key_checks": "first_used_at",
    "masked_columns": "first_used_at",
    "broken_checks": "job",
    "remove_samples": _FUNCTION,
    "check_token": _FUNCTION,
}


def create_tables(
    engine: sa.Engine,
    table: Table,
    job: str | None = None,
    masked_fields: Collection[str] | None = None,
) -> None:
    """Create the job's own tables and the target where they are missing.

    Tables of an earlier version get the columns that they lack. An existing target is not altered.
    When nothing is missing, no privilege is needed.

    :param job: the job that the rows of an earlier version belong to; by default that of the table
    :param masked_fields: what was masked in their messages, by default the fields of the table
    :raises TableError: there is no such schema, or the role may not update the tables
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        # Two runs that start at the same time would both find nothing and both create.
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('etl.create_tables'))"))
        existing = _own_columns(connection)
        if outdated := _outdated_tables(existing):
            masked = table.masked_fields if masked_fields is None else masked_fields
            parameters = {
                "job": job or table.full_name,
                "masked_fields": json.dumps(sorted(masked)),
            }
            connection.execute(queries()["configure_tables"], parameters)
            try:
                connection.exec_driver_sql(sql_file("tables.sql"))
            except sa.exc.DBAPIError as error:
                if _has_own_tables(existing) and sqlstate_of(error) == NO_PRIVILEGE:
                    raise _outdated(outdated[0], " as the owner of the tables") from None
                raise
        target = definition(table)
        _check_schema_exists(connection, table)
        if not sa.inspect(connection).has_table(target.name, schema=target.schema):
            target.create(connection)


def create_indexes(engine: sa.Engine, table: Table) -> None:
    """Create the configured indexes that are missing. Loading waits meanwhile.

    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    for names in table.indexes:
        # The name is derived from the columns, so that init recognises its own indexes. It stays
        # below Postgres' limit of 63 bytes.
        digest = hashlib.sha256(repr((table.schema_name, table.name, names)).encode()).hexdigest()
        index = sa.Index(f"etl_{digest[:16]}", *(target.c[name] for name in names))
        with transaction(engine) as connection:
            index.create(connection, checkfirst=True)


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


def check_existence(connection: sa.Connection, table: Table) -> None:
    """Check that the job's own tables and the target exist, and that a crash leaves their rows.

    :raises TableError: one of them does not, or is from an earlier version, or is unlogged
    """
    check_own_tables(connection)
    check_storage(connection, table.schema_name, table.name)
    check_target_exists(connection, table)


def check_target_exists(connection: sa.Connection, table: Table) -> None:
    """Check that there is a target table.

    :raises TableError: there is none
    """
    _check_schema_exists(connection, table)
    if not sa.inspect(connection).has_table(table.name, schema=table.schema_name):
        raise TableError(f"{table_text(table)} is missing; create it with: etl init")


def _check_schema_exists(connection: sa.Connection, table: Table) -> None:
    """Check that the target's schema exists. Nothing of this program creates it."""
    schema = table.schema_name
    if not sa.inspect(connection).has_schema(schema):
        raise TableError(
            f"schema {schema!r} of {table_text(table)} is missing; run: create schema "
            f"{quoted(schema)}, or correct 'table.schema'"
        )


def check_own_tables(connection: sa.Connection) -> None:
    """Check that the job's own tables exist.

    :raises TableError: one of them does not, or is from an earlier version
    """
    existing = _own_columns(connection)
    if not _has_own_tables(existing):
        raise TableError(NO_TABLES)
    if outdated := _outdated_tables(existing):
        raise _outdated(outdated[0])


def tables_of_others(connection: sa.Connection) -> list[str]:
    """Those of the job's own tables that only another role can update."""
    names = {"names": list(_NEWEST)}
    return list(connection.execute(queries()["tables_of_others"], names).scalars())


def _outdated(name: str, whose: str = "") -> TableError:
    kind = "function" if _NEWEST[name] == _FUNCTION else "table"
    return TableError(
        f"{kind} 'etl.{name}' is missing or from an earlier version; update it{whose} with: etl "
        "init"
    )


def _has_own_tables(existing: set[tuple[str, str]]) -> bool:
    return any(table in _NEWEST for table, _ in existing)


def _outdated_tables(existing: set[tuple[str, str]]) -> list[str]:
    """The job's own tables that are missing or from an earlier version."""
    return [table for table, column in _NEWEST.items() if (table, column) not in existing]


def _own_columns(connection: sa.Connection) -> set[tuple[str, str]]:
    return {(table, column) for table, column in connection.execute(queries()["own_columns"])}


def query_frame(
    engine: sa.Engine, query: str | sa.TextClause, parameters: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Run a query on the job's own tables; return its rows as a frame.

    :param query: the name of a query in ``etl/sql``, or a text
    :raises TableError: the tables do not exist
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        check_own_tables(connection)
        return fetch_frame(
            connection, queries()[query] if isinstance(query, str) else query, parameters
        )
