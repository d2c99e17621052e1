"""Existing columns of every ordinary type: filled exactly, or refused with what to do about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from sqlalchemy.dialects import postgresql

from etl import extract, load, validate
from etl.config import Settings, Table
from etl.fieldtypes import field_type
from etl.postgres.columns import column_problems, existing_columns
from etl.postgres.engine import transaction
from etl.schema import target_table
from etl.validate import frame_schema
from tests.unit.builders import message

DIALECT: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
METHODS = pytest.mark.parametrize("method", ["multi", "copy"])
LABELS = ["aaaaaaaa@b", 'odd "@, {label}\\']

TYPES_OF_ITS_OWN = (
    "create type mood as enum ('aaaaaaaa@b', 'odd \"@, {label}\\')",
    "create type pair as (a int, b text)",
    "create domain filled as text check (value <> '')",
    "create domain counter as bigint check (value is distinct from 7)",
    "create domain amount as numeric(12, 2) not null default 0",
    "create domain feeling as mood",
)
# The types of the existing columns.
EXISTING = (
    "smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,2)",
    "numeric(5,0)", "numeric(40,10)", "numeric(10,0)", "numeric(3,5)", "numeric(5,-2)", "money",
    "boolean", "text", "character varying", "character varying(36)", "character varying(10)",
    "character(36)", '"char"', "name", "uuid", "json", "jsonb", "jsonpath", "xml", "bytea", "date",
    "time", "time(3)", "time with time zone", "timestamp", "timestamp(0)", "timestamptz",
    "timestamptz(3)", "interval", "inet", "cidr", "macaddr", "macaddr8", "bit(8)", "bit varying",
    "point", "line", "lseg", "box", "path", "polygon", "circle", "tsvector", "tsquery", "oid",
    "regclass", "pg_lsn", "int4range", "int4multirange", "txid_snapshot", "int2vector", "mood",
    "pair", "filled", "counter", "amount", "feeling", "text[]", "character varying(10)[]",
    "smallint[]", "integer[]", "bigint[]", "numeric[]", "numeric(12,2)[]", "double precision[]",
    "boolean[]", "date[]", "timestamptz[]", "timestamptz(3)[]", "timestamp[]", "uuid[]", "inet[]",
    "bytea[]", "mood[]", "jsonb[]", "point[]",
)  # fmt: skip

TEXTS = {json.dumps(label): label for label in LABELS}
DECIMALS = {"9999999999.99": "9999999999.99", "-9999999999.99": "-9999999999.99", "1e-2": "0.01"}
INTEGERS = {"2147483647": "2147483647", "-2147483648": "-2147483648"}
DOUBLES = {"-0.0": "-0", "1.7976931348623157e308": "1.7976931348623157e308", "5e-324": "5e-324"}
MOMENTS = {
    '"9999-12-31T23:59:59.999999Z"': "9999-12-31 23:59:59.999999+00",
    '"0001-01-01T00:00:00Z"': "0001-01-01 00:00:00+00",
}
UUIDS = {'"FFFFFFFF-ffff-4fff-8fff-ffffffffffff"': "ffffffff-ffff-4fff-8fff-ffffffffffff"}
ADDRESSES = {'"1.2.3.4"': "1.2.3.4", '"2001:DB8::1"': "2001:db8::1"}
DATES = {'"9999-12-31"': "9999-12-31", '"0001-01-01"': "0001-01-01"}
TEXT_COLUMNS = ("text", "character varying", "filled", "mood", "feeling")

# Columns as they are configured: JSON texts and what is stored, and the types that can hold it.
CONFIGURED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "type: text": (TEXTS, TEXT_COLUMNS),
    "type: text, max_length: 10": (
        {'"aaaaaaaa@b"': "aaaaaaaa@b"},
        (*TEXT_COLUMNS, "character varying(10)", "character varying(36)"),
    ),
    "type: ip": (ADDRESSES, ("inet", "cidr")),
    "type: ip, max_length: 36": (
        {'"1.2.3.4"': "1.2.3.4"},
        ("text", "character varying", "character varying(36)", "filled"),
    ),
    "type: version": (
        {'"2147.483.647"': "2147483647", '"0.0"': "0"},
        ("integer", "bigint", "double precision", "numeric", "numeric(12,2)", "numeric(40,10)",
         "numeric(10,0)", "counter", "amount"),
    ),
    "type: smallint": (
        {"32767": "32767", "-32768": "-32768"},
        ("smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,2)",
         "numeric(5,0)", "numeric(40,10)", "numeric(10,0)", "counter", "amount"),
    ),
    "type: integer": (
        INTEGERS,
        ("integer", "bigint", "double precision", "numeric", "numeric(12,2)", "numeric(40,10)",
         "numeric(10,0)", "counter", "amount"),
    ),
    "type: bigint": (
        {str(2**63 - 1): str(2**63 - 1), str(-(2**63)): str(-(2**63))},
        ("bigint", "numeric", "numeric(40,10)", "counter"),
    ),
    "type: number": (DOUBLES, ("double precision",)),
    "type: decimal": (
        {"1" * 1000 + "." + "1" * 1000: "1" * 1000 + "." + "1" * 1000, "-1E-3": "-0.001"},
        ("numeric",),
    ),
    "type: decimal, precision: 12, scale: 2": (
        DECIMALS, ("numeric", "numeric(12,2)", "numeric(40,10)", "amount"),
    ),
    "type: decimal, precision: 4": (
        {"9999": "9999", "-9999.0": "-9999"},
        ("smallint", "integer", "bigint", "real", "double precision", "numeric", "numeric(12,2)",
         "numeric(5,0)", "numeric(40,10)", "numeric(10,0)", "counter", "amount"),
    ),
    "type: decimal, precision: 15": (
        {"999999999999999": "999999999999999", "-1e14": "-100000000000000"},
        ("bigint", "double precision", "numeric", "numeric(40,10)", "counter"),
    ),
    "type: boolean": ({"true": "true", "false": "false"}, ("boolean",)),
    "type: date": (DATES, ("date", "timestamp", "timestamp(0)")),
    "type: time": ({'"23:59:59.999999"': "23:59:59.999999", '"00:00:00"': "00:00:00"}, ("time",)),
    "type: timestamp": (MOMENTS, ("timestamptz",)),
    "type: timestamp, format: microseconds": (
        {"253402300799999999": "9999-12-31 23:59:59.999999+00"}, ("timestamptz",),
    ),
    "type: datetime": (
        {'"9999-12-31T23:59:59.999999"': "9999-12-31 23:59:59.999999"}, ("timestamp",),
    ),
    "type: datetime, format: rfc3339": (
        {'"2024-02-29T00:30:00+01:00"': "2024-02-28 23:30:00"}, ("timestamp",),
    ),
    "type: uuid": (
        UUIDS, ("uuid", "text", "character varying", "character varying(36)", "filled"),
    ),
    "type: bytes": ({'"AP+n"': "\\x00ffa7", '""': ""}, ("bytea",)),
    "type: json": (
        {
            r"""{"b": [1.50, 1e2, "\"\\\n'"], "a": null}""":
            r"""{"a": null, "b": [1.50, 100, "\"\\\n'"]}"""
        },
        ("jsonb",),
    ),
    "type: text, mask: true": ({}, ("text", "character varying", "filled")),
    "type: text, array: true": (
        {json.dumps(LABELS): '{"aaaaaaaa@b","odd \\"@, {label}\\\\"}', "[]": "{}"},
        ("text[]", "mood[]"),
    ),
    "type: text, max_length: 10, array: true": (
        {'["aaaaaaaa@b"]': "{aaaaaaaa@b}"}, ("text[]", "character varying(10)[]", "mood[]"),
    ),
    "type: integer, array: true, null_elements: true": (
        {"[2147483647, null, -2147483648]": "{2147483647,NULL,-2147483648}"},
        ("integer[]", "bigint[]", "numeric[]", "numeric(12,2)[]", "double precision[]"),
    ),
    "type: decimal, precision: 12, scale: 2, array: true": (
        {"[9999999999.99, -1e-2]": "{9999999999.99,-0.01}"}, ("numeric[]", "numeric(12,2)[]"),
    ),
    "type: number, array: true": (
        {"[-0.0, 5e-324, 1e308]": "{-0,5e-324,1e308}"}, ("double precision[]",),
    ),
    "type: boolean, array: true": ({"[true, false]": "{t,f}"}, ("boolean[]",)),
    "type: date, array: true": ({'["9999-12-31"]': "{9999-12-31}"}, ("date[]", "timestamp[]")),
    "type: timestamp, array: true": (
        {'["9999-12-31T23:59:59.999999Z"]': '{"9999-12-31 23:59:59.999999+00"}'},
        ("timestamptz[]",),
    ),
    "type: uuid, array: true": (
        {'["FFFFFFFF-ffff-4fff-8fff-ffffffffffff"]': "{ffffffff-ffff-4fff-8fff-ffffffffffff}"},
        ("uuid[]", "text[]"),
    ),
    "type: ip, array: true": ({'["1.2.3.4", "::1"]': "{1.2.3.4,::1}"}, ("inet[]",)),
    "type: bytes, array: true": ({'["AP+n", ""]': '{"\\\\x00ffa7",""}'}, ("bytea[]",)),
}  # fmt: skip


@pytest.fixture
def connection(engine: sa.Engine) -> Any:
    """A connection to a database with the types that the tables need."""
    with engine.connect() as opened:
        for statement in TYPES_OF_ITS_OWN:
            opened.exec_driver_sql(statement)
        yield opened


def columns_of(written: str, count: int) -> list[dict[str, Any]]:
    """The settings of many columns, from a line of the configuration."""
    read: dict[str, Any] = yaml.safe_load(f"{{{written}}}")
    return [{"name": f"c{i}", "field": f"f{i}", **read} for i in range(count)]


def create(connection: sa.Connection, types: Sequence[str]) -> None:
    """Create a table with a column of each type."""
    described = ", ".join(f"c{i} {existing}" for i, existing in enumerate(types))
    connection.exec_driver_sql(f"create table target ({described})")


def problems(connection: sa.Connection, table: Table) -> dict[str, str]:
    """What is wrong with the columns of the existing table, by their types."""
    found = column_problems(existing_columns(connection, table), target_table(table), table)
    numbers = {sentence: re.search(r"column 'c(\d+)'", sentence) for sentence in found}
    return {EXISTING[int(match[1])]: sentence for sentence, match in numbers.items() if match}


def test_an_existing_column_is_accepted_or_refused(
    connection: sa.Connection, settings: Callable[..., Settings]
) -> None:
    """Whoever writes what a refusal names has a column that is accepted."""
    create(connection, EXISTING)
    for written, (_, accepted) in CONFIGURED.items():
        refused = problems(connection, table_of(written, settings))
        assert set(EXISTING) - set(refused) == set(accepted), written
        follow_the_configuration(refused, connection, settings)


@pytest.mark.long
@pytest.mark.parametrize("written", CONFIGURED)
def test_the_statement_of_a_refusal_makes_the_column_one_that_is_accepted(
    written: str, connection: sa.Connection, settings: Callable[..., Settings]
) -> None:
    """It runs as it is written."""
    create(connection, EXISTING)
    table = table_of(written, settings)
    for sentence in problems(connection, table).values():
        (alter,) = re.findall("run: (alter table .*)", sentence)
        connection.exec_driver_sql(alter)
    assert problems(connection, table) == {}


def table_of(written: str, settings: Callable[..., Settings]) -> Table:
    """A table whose every column is configured alike."""
    return settings(table__columns=columns_of(written, len(EXISTING)), table__name="target").table


def follow_the_configuration(
    refused: dict[str, str], connection: sa.Connection, settings: Callable[..., Settings]
) -> None:
    """Write what the refusals say, and check that those columns are then accepted."""
    columns = []
    for existing, sentence in refused.items():
        if found := re.search("write '(.*)', or run", sentence):
            name = f"c{EXISTING.index(existing)}"
            columns.append(columns_of(found[1], 1)[0] | {"name": name, "field": name})
    if columns:
        table = settings(table__columns=columns, table__name="target").table
        assert problems(connection, table) == {}


@METHODS
def test_what_is_accepted_is_stored_exactly(
    method: str, connection: sa.Connection, engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The largest and the smallest values come back from each type of column."""
    connection.commit()
    for written, (values, accepted) in CONFIGURED.items():
        if not values:
            continue
        columns = columns_of(written, len(accepted))
        job = settings(table__columns=columns, table__name="target", load__method=method)
        with transaction(engine) as loading:
            create(loading, accepted)
            fill(loading, job, values)
            loading.exec_driver_sql("set local timezone to 'UTC'")
            for column, existing in zip(job.table.columns, accepted, strict=True):
                sql = field_type(column).sql.compile(dialect=DIALECT)
                read = sa.text(f"select cast(cast({column.name} as {sql}) as text) from target")
                got = loading.execute(read).scalars().all()
                wanted = sa.text(f"select cast(cast(:text as {sql}) as text)")
                expected = [loading.scalar(wanted, {"text": text}) for text in values.values()]
                assert got == expected, (written, existing)
            loading.exec_driver_sql("drop table target")


def fill(connection: sa.Connection, job: Settings, values: Iterable[str]) -> None:
    """Load an event for each JSON text, which is the value of every field."""
    fields = [str(column.field) for column in job.table.columns]
    bodies = [
        message("{%s}" % ", ".join(f'"{field}": {text}' for field in fields), number)  # noqa: UP031
        for number, text in enumerate(values)
    ]
    raw, unreadable = extract.read(bodies, fields)
    valid, rejects = validate.split(raw, frame_schema(job.table.columns), job.table.columns)
    assert (unreadable["check"].tolist(), rejects["check"].tolist()) == ([], [])
    assert load.stage(connection, valid, job.table, job.load, 0).empty
    assert load.merge(connection, valid["message_id"].tolist(), job.table, len(valid), 0).empty


def test_what_an_enum_or_a_domain_refuses_is_a_reject_of_its_row(
    connection: sa.Connection, engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The other rows are loaded."""
    connection.exec_driver_sql("create table target (c0 mood, c1 filled)")
    connection.commit()
    columns = columns_of("type: text", 2)
    job = settings(table__columns=columns, table__name="target")
    rows = [(LABELS[0], "a"), ("no label", "a"), (LABELS[1], "")]
    bodies = [message(json.dumps({"f0": a, "f1": b}), i) for i, (a, b) in enumerate(rows)]
    raw, _ = extract.read(bodies, ["f0", "f1"])
    valid, _ = validate.split(raw, frame_schema(job.table.columns), job.table.columns)
    with transaction(engine) as loading:
        assert load.stage(loading, valid, job.table, job.load, 0).empty
        refused = load.merge(loading, valid["message_id"].tolist(), job.table, len(valid), 9)
        got = loading.execute(sa.text("select c0, c1 from target")).all()
    assert got == [rows[0]]
    assert refused["message_id"].tolist() == ["m1", "m2"]
    assert refused["check"].tolist() == [
        "SQLSTATE 22P02 column 'c0'", "SQLSTATE 23514 constraint 'filled_check'",
    ]  # fmt: skip


def test_the_column_of_a_text_that_is_no_label_is_named(
    connection: sa.Connection, engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """Of several enums, whatever they are called, and in a list; a trigger's refusal has none."""
    connection.exec_driver_sql(
        """create schema other; create type other."k:i %%nd" as enum ('a', 'b');"""
        """create domain kinds as other."k:i %%nd";"""
        """create table target (c0 mood, "c:%%1" kinds, c2 other."k:i %%nd"[], c3 text);"""
        """create function act() returns trigger language plpgsql as $$ begin """
        """if new.c3 = 'x' then perform cast('x' as integer); end if; return new; end $$;"""
        """create trigger act before insert on target for each row execute function act()"""
    )
    connection.commit()
    columns = columns_of("type: text, nullable: true", 4)
    columns[1]["name"] = "c:%1"
    columns[2] |= {"array": True, "null_elements": True}
    job = settings(table__columns=columns, table__name="target")
    texts = ['"no"', '"no"', '["a", null, "no"]', '"x"']
    rows = [dict.fromkeys(range(4), "null") | {n: text} for n, text in enumerate(texts)]
    rows.append({0: f'"{LABELS[0]}"', 1: '"a"', 2: '["b", null]', 3: '"y"'})
    bodies = [
        message("{%s}" % ", ".join(f'"f{f}": {v}' for f, v in row.items()), n)  # noqa: UP031
        for n, row in enumerate(rows)
    ]
    raw, _ = extract.read(bodies, [f"f{n}" for n in range(4)])
    valid, rejects = validate.split(raw, frame_schema(job.table.columns), job.table.columns)
    assert rejects.empty
    with transaction(engine) as loading:
        assert load.stage(loading, valid, job.table, job.load, 0).empty
        refused = load.merge(loading, valid["message_id"].tolist(), job.table, len(valid), 9)
    assert dict(zip(refused["message_id"], refused["check"], strict=True)) == {
        "m0": "SQLSTATE 22P02 column 'c0'", "m1": "SQLSTATE 22P02 column 'c:%1'",
        "m2": "SQLSTATE 22P02 column 'c2'", "m3": "SQLSTATE 22P02",
    }  # fmt: skip
