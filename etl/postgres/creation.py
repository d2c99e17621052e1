"""Creates the job's own tables and the target table where they are missing."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Collection

import sqlalchemy as sa

from etl.config import Table
from etl.postgres import partitions
from etl.postgres.definition import definition
from etl.postgres.engine import transaction
from etl.postgres.queries import queries, sql_file
from etl.postgres.sqlstate import NO_PRIVILEGE, sqlstate_of
from etl.postgres.tables import (
    check_schema_exists,
    has_own_tables,
    outdated_error,
    outdated_tables,
    own_columns,
)
from etl.schema import target_table


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
        existing = own_columns(connection)
        if outdated := outdated_tables(existing):
            masked = table.masked_fields if masked_fields is None else masked_fields
            parameters = {
                "job": job or table.full_name,
                "masked_fields": json.dumps(sorted(masked)),
            }
            connection.execute(queries()["configure_tables"], parameters)
            try:
                connection.exec_driver_sql(sql_file("tables.sql"))
            except sa.exc.DBAPIError as error:
                if has_own_tables(existing) and sqlstate_of(error) == NO_PRIVILEGE:
                    raise outdated_error(outdated[0], " as the owner of the tables") from None
                raise
        target = definition(table)
        check_schema_exists(connection, table)
        if not sa.inspect(connection).has_table(target.name, schema=target.schema):
            target.create(connection)
        partitions.create_missing(connection, table, dt.datetime.now(dt.UTC).date())


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
