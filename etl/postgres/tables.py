"""The job's own tables and the target table: created, checked, and read as frames."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.config import Column, Table
from etl.errors import TableError
from etl.postgres.engine import transaction
from etl.postgres.queries import queries, sql_file
from etl.schema import sql_type, table_columns

NO_TABLES = "the job's tables are missing; create them with: python -m etl init"
# The newest column of each of the job's tables: without it the table is absent, or an earlier
# version of this program made it.
_NEWEST = {
    "ledger": "handled_at",
    "quarantine": "closed_as",
    "runs": "command",
    "unmask_audit": "fingerprint",
    "broken_checks": "messages",
}


def create_tables(source: sa.Engine, table: Table) -> None:
    """Create what is absent: the job's own tables, or what an earlier version's lack; the target.

    A target that is there is not altered. Where nothing is absent no privilege is needed.

    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(source) as connection:
        # Two runs that start at once would both find nothing and both create.
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('etl.create_tables'))"))
        if _lacking(connection):
            connection.exec_driver_sql(sql_file("tables.sql"))
        target = target_table(table)
        if not sa.inspect(connection).has_table(target.name, schema=target.schema):
            target.create(connection)


def create_indexes(source: sa.Engine, table: Table) -> None:
    """Create the indexes of the configuration that are absent; loading waits meanwhile.

    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    for names in table.indexes:
        # Named by what they are of, so that init knows them again; cut to Postgres' 63 bytes.
        digest = hashlib.sha256(repr((table.schema_name, table.name, names)).encode()).hexdigest()
        index = sa.Index(f"etl_{digest[:16]}", *(target.c[name] for name in names))
        with transaction(source) as connection:
            index.create(connection, checkfirst=True)


def check_tables(source: sa.Engine, table: Table) -> None:
    """See that the job's tables and the target are there, and that the target can take the rows.

    :raises TableError: one is missing, or a column of the target is missing or of another type
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    name = f"{table.schema_name}.{table.name}"
    with transaction(source) as connection:
        _check_own_tables(connection)
        inspector = sa.inspect(connection)
        if not inspector.has_table(table.name, schema=table.schema_name):
            raise TableError(f"table {name!r} is missing; create it with: python -m etl init")
        there = {
            column["name"]: column["type"]
            for column in inspector.get_columns(table.name, schema=table.schema_name)
        }
    for column in table.columns:
        if column.name not in there:
            raise TableError(
                f"table {name!r} has no column {column.name!r}; add it, or take it out of "
                "'table.columns'"
            )
        if not _takes(there[column.name], column):
            raise TableError(
                f"column {column.name!r} of table {name!r} is {there[column.name]}, but the "
                f"configuration makes {sql_type(column)}; change the one or the other"
            )


def target_table(table: Table) -> sa.Table:
    """Describe the target table as configured."""
    described = sa.Table(
        table.name, sa.MetaData(), *table_columns(table.columns), schema=table.schema_name
    )
    if table.token_check:
        for column in table.columns:
            if column.mask:
                described.append_constraint(_token_check(described, column))
    return described


def _token_check(described: sa.Table, column: Column) -> sa.CheckConstraint:
    # 63 bytes is the longest name; Postgres would cut a longer one in silence.
    name = f"{column.name.encode()[:54].decode(errors='ignore')}_is_token"
    call = sa.func.etl.check_token(described.c[column.name], name)
    return sa.CheckConstraint(call, name=name)


def _check_own_tables(connection: sa.Connection) -> None:
    lacking = _lacking(connection)
    if len(lacking) == len(_NEWEST):
        raise TableError(NO_TABLES)
    if lacking:
        raise TableError(
            f"table 'etl.{lacking[0]}' is missing, or of an earlier version; bring it up to date "
            "with: python -m etl init"
        )


def _lacking(connection: sa.Connection) -> list[str]:
    """Which of the job's own tables are absent or of an earlier version."""
    there = {tuple(pair) for pair in connection.execute(queries()["own_columns"])}
    return [table for table, column in _NEWEST.items() if (table, column) not in there]


def _takes(there: sa.types.TypeEngine[Any], column: Column) -> bool:
    """Whether the existing type holds every value of the configured one."""
    wanted = sql_type(column)
    if isinstance(wanted, sa.String):
        # Text and unbounded varchar have no length and take all.
        length = getattr(there, "length", None)
        wide = length is None or (wanted.length is not None and length >= wanted.length)
        return isinstance(there, sa.String) and wide
    if isinstance(wanted, sa.DateTime):
        return isinstance(there, sa.DateTime) and there.timezone
    if isinstance(wanted, sa.Integer) and not isinstance(wanted, sa.BigInteger):
        return isinstance(there, (sa.Integer, sa.Numeric)) and not isinstance(
            there, sa.SmallInteger
        )
    if isinstance(wanted, sa.BigInteger):
        return isinstance(there, sa.BigInteger)
    if isinstance(wanted, sa.Double):
        return isinstance(there, sa.Double)
    return isinstance(there, type(wanted))


def query_frame(
    source: sa.Engine, query: str | sa.TextClause, parameters: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Ask a query, named or as it is, about the job's own tables; its columns, a row a row.

    :raises TableError: the tables are not there
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(source) as connection:
        _check_own_tables(connection)
        # Not pandas.read_sql: it wraps errors, and their messages carry values.
        statement = queries()[query] if isinstance(query, str) else query
        answer = connection.execute(statement, parameters or {})
        return pd.DataFrame(answer.all(), columns=list(answer.keys()))
