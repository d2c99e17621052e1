"""Tables that are created with keys, NOT NULL and defaults, and columns that are added later."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl.config import Settings
from etl.errors import SettingsError, TableError
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.postgres.partitions import AHEAD, create_missing, periods
from etl.postgres.target import check_target
from tests.conftest import Job

COLUMNS: list[dict[str, Any]] = [
    {"name": "order id %", "field": "order_id", "type": "integer"},
    {"name": "status", "field": "status", "type": "text", "default": "it's :new"},
    {"name": "paid", "field": "paid", "type": "boolean", "default": "false"},
    {"name": "app", "field": "app", "type": "version", "default": "2.3", "nullable": True},
    {"name": "note", "field": "note", "type": "text", "nullable": True},
]
Make = Callable[..., Settings]


def described(engine: sa.Engine) -> dict[str, tuple[bool, str | None]]:
    """The columns of the table: whether they are NOT NULL, and their default."""
    columns = sa.inspect(engine).get_columns("orders")
    return {c["name"]: (not c["nullable"], c["default"]) for c in columns}


def test_a_table_is_created_as_configured(settings: Make, engine: sa.Engine) -> None:
    """With its primary key, NOT NULL and defaults, as the job stores them."""
    made = settings(
        table__name="orders",
        table__columns=COLUMNS,
        table__primary_key=["order id %"],
        table__not_null=True,
        table__defaults=True,
    )
    create_tables(engine, made.table)
    check_target(engine, made.table)
    assert sa.inspect(engine).get_pk_constraint("orders")["constrained_columns"] == ["order id %"]
    assert described(engine) == {
        "order id %": (True, None),
        "status": (True, "'it''s :new'::text"),
        "paid": (True, "false"),
        "app": (False, "2003000"),
        "note": (False, None),
    }


def test_the_primary_key_serves_conflicts(settings: Make, engine: sa.Engine) -> None:
    """A key that is the primary key needs no second index."""
    made = settings(
        table__name="orders",
        table__columns=COLUMNS,
        table__primary_key=["order id %"],
        table__on_conflict="skip",
        table__key=["order id %"],
    )
    create_tables(engine, made.table)
    check_target(engine, made.table)
    assert sa.inspect(engine).get_unique_constraints("orders") == []


@pytest.mark.parametrize(
    ("key", "says"),
    [(["note"], "cannot be 'nullable'"), (["other"], "is not a column of the table")],
)
def test_a_primary_key_that_cannot_be_is_refused(key: list[str], says: str, settings: Make) -> None:
    """With the column at fault."""
    with pytest.raises(SettingsError) as refused:
        settings(table__name="orders", table__columns=COLUMNS, table__primary_key=key)
    assert says in str(refused.value)


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a configuration and returns its path."""

    def write(*columns: dict[str, Any], **table: Any) -> str:
        path = tmp_path / "orders.yaml"
        path.write_text(json.dumps({"table": {"name": "orders", "columns": columns, **table}}))
        return str(path)

    return write


def test_alter_adds_what_is_missing(job: Job, configure: Callable[..., str]) -> None:
    """It shows the statements, asks, and adds the columns; rows that are there get the default."""
    assert job.command("init", "--config", configure(COLUMNS[0])).returncode == 0
    with job.engine.begin() as connection:
        connection.exec_driver_sql("insert into orders values (1)")
    masked = {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True}
    path = configure(*COLUMNS[:2], masked, not_null=True, defaults=True, token_check=True)
    alter = ("init", "--alter", "--config", path)
    for refused in (job.command("init", "--config", path), job.command(*alter, piped="n\n")):
        assert refused.returncode != 0
        assert list(described(job.engine)) == ["order id %"]
    done = job.command(*alter, "--yes")
    assert done.returncode == 0, done.stderr
    statements = done.stdout.splitlines()
    assert statements[0] == (
        """alter table "public"."orders" add column status TEXT DEFAULT 'it''s :new' NOT NULL;"""
    )
    assert statements[1] == 'alter table "public"."orders" add column masked_ip TEXT;'
    assert "check_token" in statements[2]
    assert job.rows("select * from orders") == [(1, "it's :new", None)]
    again = job.command(*alter)
    assert (again.returncode, again.stdout) == (0, "")
    assert "no column is missing" in again.stderr


def test_alter_refuses_what_it_cannot_do(job: Job, configure: Callable[..., str]) -> None:
    """It changes no type, and adds nothing to a view."""
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            """create table orders ("order id %%" text); create view seen as select * from orders"""
        )
    path = configure(*COLUMNS[:2])
    refused = job.command("init", "--alter", "--yes", "--config", path)
    assert refused.returncode == 2
    assert "--alter only adds columns: column 'order id %' of table 'public.orders' is TEXT" in (
        refused.stderr
    )
    path = configure(COLUMNS[1], name="seen")
    refused = job.command("init", "--alter", "--yes", "--config", path)
    assert refused.returncode == 2
    assert "is a view or a foreign table, so no column can be added to it" in refused.stderr


PARTITIONED: list[dict[str, Any]] = [
    {"name": "user_id", "field": "user_id", "type": "text"},
    {"name": "Sent %", "attribute": "SentTimestamp", "type": "timestamp"},
]


def partitioned(settings: Make, every: str, **changes: Any) -> Settings:
    """The settings of a table in partitions by the time of the message."""
    partition_by = {"range": "Sent %", "every": every}
    return settings(
        table__name="events",
        table__columns=PARTITIONED,
        table__partition_by=partition_by,
        **changes,
    )


def partitions_of(engine: sa.Engine) -> dict[str, str]:
    """The partitions of the table by name, with their bounds."""
    statement = (
        "select relname, pg_get_expr(relpartbound, oid) as bounds from pg_class join pg_inherits "
        "on inhrelid = oid where inhparent = cast('events' as regclass) and relkind = 'r'"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql("set timezone = 'UTC'")
        return {row.relname: row.bounds for row in connection.exec_driver_sql(statement)}


def test_partitions_are_made_ahead(settings: Make, engine: sa.Engine) -> None:
    """Those of two weeks ago and of three periods to come, and one for all other rows."""
    made = partitioned(settings, "month", table__primary_key=["user_id", "Sent %"])
    create_tables(engine, made.table)
    check_target(engine, made.table)
    assert len(partitions_of(engine)) >= AHEAD + 2
    with transaction(engine) as connection:
        create_missing(connection, made.table, dt.date(2040, 1, 10))
    found = partitions_of(engine)
    assert found["events_default"] == "DEFAULT"
    assert found["events_20391201"] == (
        "FOR VALUES FROM ('2039-12-01 00:00:00+00') TO ('2040-01-01 00:00:00+00')"
    )
    assert {"events_20400101", "events_20400201", "events_20400301", "events_20400401"} < {*found}
    with transaction(engine) as connection:
        create_missing(connection, made.table, dt.date(2040, 1, 10))
    assert partitions_of(engine) == found


def test_a_partition_that_cannot_be_made_is_said(
    settings: Make, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rows are in the default partition, and the others are made."""
    made = partitioned(settings, "day")
    create_tables(engine, made.table)
    with engine.begin() as connection:
        connection.exec_driver_sql("insert into events values ('a', '2040-01-01 12:00Z')")
    with transaction(engine) as connection:
        create_missing(connection, made.table, dt.date(2040, 1, 1))
    assert "partition 'events_20400101' of table 'public.events' was not created" in caplog.text
    assert "events_20400102" in partitions_of(engine)


def test_the_partitions_of_a_renamed_table_are_in_the_way(
    settings: Make, engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """They keep their names. Without a default partition the first batch would be refused."""
    made = partitioned(settings, "month")
    create_tables(engine, made.table)
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table events rename to events_of_last_year")
    named = "needs a default partition, and 'events_default' is another table; rename that one"
    with pytest.raises(TableError, match=named):
        create_tables(engine, made.table)
    assert "was not created" not in caplog.text
    with engine.begin() as connection:
        connection.exec_driver_sql("alter table events_default rename to rest_of_last_year")
    create_tables(engine, made.table)
    assert partitions_of(engine) == {"events_default": "DEFAULT"}
    assert "was not created, so its rows go to the default partition: another table" in caplog.text


@pytest.mark.parametrize(
    ("every", "today", "first", "last"),
    [
        ("day", dt.date(2024, 3, 1), dt.date(2024, 2, 16), dt.date(2024, 3, 4)),
        ("month", dt.date(2024, 1, 31), dt.date(2024, 1, 1), dt.date(2024, 4, 1)),
        ("month", dt.date(2024, 11, 1), dt.date(2024, 10, 1), dt.date(2025, 2, 1)),
        ("year", dt.date(2024, 1, 1), dt.date(2023, 1, 1), dt.date(2027, 1, 1)),
    ],
)
def test_periods_follow_each_other(
    every: str, today: dt.date, first: dt.date, last: dt.date
) -> None:
    """From that of two weeks ago, without a gap."""
    found = list(periods(every, today))
    assert (found[0][0], found[-1][0]) == (first, last)
    assert [end for _, end in found[:-1]] == [start for start, _ in found[1:]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partition_by": {"range": "user_id"}}, "must have type 'date' or 'timestamp'"),
        ({"primary_key": ["user_id"]}, "'primary_key' must hold 'Sent %'"),
        ({"key": ["user_id"], "on_conflict": "skip"}, "'key' must hold 'Sent %'"),
    ],
)
def test_partitions_that_cannot_be_are_refused(
    changes: dict[str, Any], says: str, settings: Make
) -> None:
    """With the column at fault."""
    table = {"name": "events", "columns": PARTITIONED, "partition_by": {"range": "Sent %"}}
    with pytest.raises(SettingsError) as refused:
        settings(**{f"table__{key}": value for key, value in {**table, **changes}.items()})
    assert says in str(refused.value)
