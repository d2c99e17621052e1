"""The job's own tables and the target table: whether they exist, and read as frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import quoted, table_text
from etl.postgres.engine import transaction
from etl.postgres.queries import fetch_frame, queries
from etl.postgres.storage import check_storage

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
    "runs": "empty_messages",
    "unmask_audit": "fingerprint",
    "key_checks": "first_used_at",
    "masked_columns": "key_id",
    "dropped_fields": "first_used_at",
    "broken_checks": "job",
    "remove_samples": _FUNCTION,
    "check_token": _FUNCTION,
}


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
    check_schema_exists(connection, table)
    if not sa.inspect(connection).has_table(table.name, schema=table.schema_name):
        raise TableError(f"{table_text(table)} is missing; create it with: etl init")


def check_schema_exists(connection: sa.Connection, table: Table) -> None:
    """Check that the target's schema exists. Nothing of this program creates it."""
    schema = table.schema_name
    if not sa.inspect(connection).has_schema(schema):
        raise TableError(
            f"schema {schema!r} of {table_text(table)} is missing; run: create schema "
            f"{quoted(schema)}, or correct '{table.section}.schema'"
        )


def check_own_tables(connection: sa.Connection) -> None:
    """Check that the job's own tables exist.

    :raises TableError: one of them does not, or is from an earlier version
    """
    existing = own_columns(connection)
    if not has_own_tables(existing):
        raise TableError(NO_TABLES)
    if outdated := outdated_tables(existing):
        raise outdated_error(outdated[0])


def tables_of_others(connection: sa.Connection) -> list[str]:
    """Those of the job's own tables that only another role can update."""
    names = {"names": list(_NEWEST)}
    return list(connection.execute(queries()["tables_of_others"], names).scalars())


def outdated_error(name: str, whose: str = "") -> TableError:
    """The error for one of the job's own tables that is missing or from an earlier version."""
    kind = "function" if _NEWEST[name] == _FUNCTION else "table"
    return TableError(
        f"{kind} 'etl.{name}' is missing or from an earlier version; update it{whose} with: etl "
        "init"
    )


def has_own_tables(existing: set[tuple[str, str]]) -> bool:
    """Whether one of the job's own tables is there, of whatever version."""
    return any(table in _NEWEST for table, _ in existing)


def outdated_tables(existing: set[tuple[str, str]]) -> list[str]:
    """The job's own tables that are missing or from an earlier version."""
    return [table for table, column in _NEWEST.items() if (table, column) not in existing]


def own_columns(connection: sa.Connection) -> set[tuple[str, str]]:
    """The columns of the job's own tables: table and column."""
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
