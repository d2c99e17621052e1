"""The partitions of a table that is divided by time: made ahead, with one for all other rows.

``init`` makes those of the last weeks, which the queue may still hold messages of, and the next
ones. It makes more each time that it is called, and so does a run that creates tables. A row of any
other time goes to the default partition, so that no row is ever refused for its time.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator

import sqlalchemy as sa

from etl.config import Table
from etl.errors import TableError
from etl.postgres.columns import quoted, table_text
from etl.postgres.queries import queries
from etl.postgres.sqlstate import NO_PRIVILEGE, sqlstate_of

log = logging.getLogger(__name__)

# SQS keeps a message for at most this long.
DAYS_BACK = 14
AHEAD = 3  # partitions after the one of today
# SQLSTATEs. Nothing is said of an overlap: another partition takes the rows of these days.
_OVERLAPS = "42P17"
_EXISTS = "42P07"
_REASONS = {
    "23514": "the default partition holds rows of it; move them",
    NO_PRIVILEGE: "this role does not own the table; let the owner run: etl init",
    _EXISTS: "another table has its name",
}
_MAX_STEM_BYTES = 50  # of a name, before the date


def create_missing(connection: sa.Connection, table: Table, today: dt.date) -> None:
    """Create the partitions that are missing, in the caller's transaction.

    A partition that cannot be created is no error, since the default partition takes its rows: it
    is said in the log. Does nothing if the table is not partitioned by the configured column.

    :raises TableError: another table has the name of the default partition
    """
    if table.partition_by is None:
        return
    names = {"schema": table.schema_name, "name": table.name, "column": table.partition_by.range}
    if not connection.execute(queries()["is_partitioned_by"], names).scalar_one():
        return
    existing = set(connection.execute(queries()["partition_names"], names).scalars())
    target = quoted(table.schema_name, table.name)
    default = _name(table, "default")
    if not connection.execute(queries()["has_default_partition"], names).scalar_one():
        statement = f"{_create(table, default)} partition of {target} default"
        refused = _refused(connection, statement)
        if refused == _EXISTS:
            raise TableError(
                f"{table_text(table)} needs a default partition, and {default!r} is another "
                "table; rename that one (a renamed table's partitions keep their names)"
            )
        _warn(table, default, refused)
    for start, end in periods(table.partition_by.every, today):
        name = _name(table, f"{start:%Y%m%d}")
        if name not in existing:
            bounds = f"for values from ('{start}') to ('{end}')"
            statement = f"{_create(table, name)} partition of {target} {bounds}"
            _warn(table, name, _refused(connection, statement))


def periods(every: str, today: dt.date) -> Iterator[tuple[dt.date, dt.date]]:
    """The first day of each partition, and that of the next one."""
    start = _first_day(every, today - dt.timedelta(days=DAYS_BACK))
    last = _first_day(every, today)
    for _ in range(AHEAD):
        last = _next(every, last)
    while start <= last:
        yield start, _next(every, start)
        start = _next(every, start)


def _first_day(every: str, day: dt.date) -> dt.date:
    if every == "day":
        return day
    return day.replace(day=1) if every == "month" else day.replace(month=1, day=1)


def _next(every: str, start: dt.date) -> dt.date:
    longer_than_it = {"day": 1, "month": 31, "year": 366}[every]
    return _first_day(every, start + dt.timedelta(days=longer_than_it))


def _name(table: Table, suffix: str) -> str:
    stem = table.name.encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    return f"{stem}_{suffix}"


def _create(table: Table, name: str) -> str:
    return f"create table {quoted(table.schema_name, name)}"


def _refused(connection: sa.Connection, statement: str) -> str | None:
    """Create a partition; return the SQLSTATE of why it was not."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(statement.replace("%", "%%"))
    except sa.exc.DBAPIError as error:
        savepoint.rollback()
        sqlstate = sqlstate_of(error)
        if sqlstate == _OVERLAPS or sqlstate in _REASONS:
            return sqlstate
        raise
    savepoint.commit()
    return None


def _warn(table: Table, name: str, sqlstate: str | None) -> None:
    if sqlstate in _REASONS:
        log.warning(
            "partition %r of %s was not created, so its rows go to the default partition: %s",
            name,
            table_text(table),
            _REASONS[sqlstate],
        )
