"""What the table holds is what came in the event, by both methods; else the message is a reject."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from etl import extract, load, validate
from etl.config import Settings
from etl.fieldtypes import utc
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.validate import frame_schema
from tests.unit.builders import message

METHODS = pytest.mark.parametrize("method", ["multi", "copy"])
ZONE = dt.UTC

# JSON texts of values by type, and what the table then holds.
STORED: dict[str, dict[str, Any]] = {
    "number": {
        "0": 0.0,
        "-0.0": -0.0,
        "-0": 0.0,
        "0.1": 0.1,
        "0.10000000000000001": 0.1,  # as C writes it, with the 17 digits that tell every double
        "0.1000000000000000055511151231257827": 0.1,
        "-1.50": -1.5,
        "123456789012345": 123456789012345.0,
        "9007199254740992": 2.0**53,
        "9007199254740994": 2.0**53 + 2,
        "-9007199254740992": -(2.0**53),
        "100000000000000000000": 1e20,
        "1e22": 1e22,
        "1E+5": 1e5,
        "1.7976931348623157e308": 1.7976931348623157e308,
        "2.2250738585072014e-308": 2.2250738585072014e-308,
        "5e-324": 5e-324,
        "0e999": 0.0,
        "0." + "0" * 400: 0.0,
        "1" + "0" * 300 + "e-300": 1.0,
        "null": None,
    },
    "integer": {"2147483647": 2**31 - 1, "-2147483648": -(2**31), "-0": 0, "null": None},
    "bigint": {
        "9223372036854775807": 2**63 - 1,
        "-9223372036854775808": -(2**63),
        "9007199254740993": 2**53 + 1,
        "null": None,
    },
    "boolean": {"true": True, "false": False, "null": None},
    "date": {
        '"2024-02-29"': dt.date(2024, 2, 29),
        '"0001-01-01"': dt.date(1, 1, 1),
        '"9999-12-31"': dt.date(9999, 12, 31),
        "null": None,
    },
    "timestamp": {
        '"2024-02-29T23:59:59.999999Z"': dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, ZONE),
        '"2024-02-29t23:59:59.1z"': dt.datetime(2024, 2, 29, 23, 59, 59, 100_000, ZONE),
        '"2024-02-29 23:59:59.1234560+00:00"': dt.datetime(
            2024, 2, 29, 23, 59, 59, 123_456, ZONE
        ),
        '"2024-02-29T00:00:00.000001+14:00"': dt.datetime(2024, 2, 28, 10, 0, 0, 1, ZONE),
        '"0001-01-01T00:00:00Z"': dt.datetime(1, 1, 1, tzinfo=ZONE),
        '"9999-12-31T23:59:59.999999Z"': dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, ZONE),
        '"2024-02-29T23:59:59-23:59"': dt.datetime(2024, 3, 1, 23, 58, 59, tzinfo=ZONE),
        "null": None,
    },
    "version": {'"2.3.0"': 2_003_000, '"2147.483.647"': 2**31 - 1, "null": None},
    "text": {
        json.dumps(text): text
        for text in (
            "", " ", "trailing  ", "  leading", "NULL", "\\N", "\\.", "\\", "\t\n\r\x0b\x01\x7f",
            "'\"`$%s%%:x", "é ÿ 漢 🎈 \u202e", "e\u0301", "\ufeff", "{1,2}", "-0.0", "\x1a",
        )
    }
    | {"null": None},
    "ip": {
        '"1.2.3.4"': "1.2.3.4",
        '"255.255.255.255"': "255.255.255.255",
        '"2001:DB8::1"': "2001:db8::1",
        '"::ffff:1.2.3.4"': "1.2.3.4",
        '"::"': "::",
        "null": None,
    },
}  # fmt: skip

# JSON texts that are a reject, with the check that they break.
REFUSED: dict[str, dict[str, str]] = {
    "number": {
        "9007199254740993": "precision",
        "-9007199254740993": "precision",
        "9007199254740993.0": "precision",
        "9007199254740993e0": "precision",
        "1.00000000000000000001": "precision",
        "123456789.123456789": "precision",
        "0.12345678901234567890": "precision",
        "36028797018963971": "precision",
        "100000000000000000001": "precision",
        "5e-400": "precision",
        "4e-324": "precision",
        "1e-99999999999999999999": "precision",
        "1." + "1" * 5000: "precision",
        "1e400": "range",
        "-1e99999999999999999999": "range",
        "1" + "0" * 400: "range",
        '"1"': "type",
        "true": "type",
    },
    "integer": {"2147483648": "range", "1.0": "type", "1e2": "type", "0.1e1": "type"},
    "bigint": {"9223372036854775808": "range", "1.0": "type", "9007199254740993.0": "type"},
    "boolean": {"1": "type", '"true"': "type"},
    "date": {'"2023-02-29"': "date", '"0000-01-01"': "date", '"10000-01-01"': "date"},
    "timestamp": {
        '"2024-02-29T23:59:59.1234567Z"': "precision",
        '"2024-02-29T23:59:59.000000001Z"': "precision",
        '"2016-12-31T23:59:60Z"': "timestamp",
        '"2024-02-29T24:00:00Z"': "timestamp",
        '"2024-02-29T23:59:59+01:00:30"': "timestamp",
        '"2024-02-29T23:59:59+24:00"': "timestamp",
        '"9999-12-31T23:59:59-01:00"': "timestamp",
        '"2024-02-29T23:59Z"': "timestamp",
        '"2024-02-29T23:59:59,5Z"': "timestamp",
        '"2024-02-29T23:59:59.Z"': "timestamp",
        '"infinity"': "timestamp",
    },
    "version": {'"2147.483.648"': "version range", '"2.3.0-beta"': "version"},
    "text": {'"a\\u0000b"': "NUL character", '"\\ud800"': "lone surrogate"},
    "ip": {'"1.2.3.4/24"': "IP address", '"1.2.3"': "IP address", '" 1.2.3.4"': "IP address"},
}


def column_settings(make: Callable[..., Settings], kind: str, method: str) -> Settings:
    """A job with one column of a type."""
    column = {"name": "value", "field": "f", "type": kind, "nullable": True}
    return make(load__method=method, table__columns=[column])


def split(job: Settings, texts: list[str]) -> Any:
    """Read and check one event for each JSON text."""
    bodies = [message(f'{{"f": {text}}}', number) for number, text in enumerate(texts)]
    raw, unreadable = extract.read(bodies, ["f"])
    assert unreadable.empty
    return validate.split(raw, frame_schema(job.table.columns), job.table.columns)


@METHODS
@pytest.mark.parametrize("kind", STORED)
def test_every_value_comes_back_as_it_came(
    kind: str, method: str, settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """Nothing is rounded, padded, cut or read as something else on the way to the table."""
    job = column_settings(settings, kind, method)
    create_tables(engine, job.table)
    valid, rejects = split(job, list(STORED[kind]))
    assert rejects.empty
    with transaction(engine) as connection:
        assert load.stage(connection, valid, job.table, job.load, 0).empty
        assert load.merge(connection, valid["message_id"], job.table, len(valid), 0).empty
    with engine.connect() as connection:
        connection.exec_driver_sql("set timezone to 'UTC'")
        read = "host(value)" if kind == "ip" else "value"
        got = connection.execute(sa.text(f"select {read} from user_logins")).scalars().all()
    expected = list(STORED[kind].values())
    assert got == expected
    assert list(map(type, got)) == list(map(type, expected))
    if kind == "number":
        signs = [math.copysign(1, value or 0.0) for value in got]
        assert signs == [math.copysign(1, value or 0.0) for value in expected]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_value_that_the_type_cannot_hold_exactly_is_a_reject(
    kind: str, settings: Callable[..., Settings]
) -> None:
    """The check says why."""
    valid, rejects = split(column_settings(settings, kind, "multi"), list(REFUSED[kind]))
    assert valid.empty
    assert rejects["check"].tolist() == list(REFUSED[kind].values())


def test_a_number_is_exact_if_no_digit_of_it_is_lost(settings: Callable[..., Settings]) -> None:
    """Any double is exact in any number of digits that a program writes it with."""
    job = column_settings(settings, "number", "multi")
    for value in (0.1, 1 / 3, 2.5e-8, 123456.789, 1e23, 5e-324, 1.2e308, 2.0**70):
        for digits in (*range(17), 30, 100):
            text = f"{value:.{digits}e}"
            lost = Decimal(text) != Decimal(f"{float(text):.{digits}e}")
            _, refused = split(job, [text])
            assert (refused["check"].tolist() == ["precision"]) == lost, text
            if digits >= 16:
                assert not lost


def test_digits_are_examined_only_where_a_column_stores_numbers() -> None:
    """Other jobs do not pay for it."""
    body = message('{"f": 1.00000000000000000001}')
    (read,) = extract.read([body], ["f"], exact_numbers=False)[0]["f"]
    assert type(read) is float


def test_the_time_of_a_message_is_exact_to_the_millisecond() -> None:
    """The latest time of the calendar, too."""
    for milliseconds in (1_700_000_000_123, 253_402_300_799_999, 1, 999):
        time = utc(milliseconds)
        assert (time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
            milliseconds=1
        ) == milliseconds
        assert time.microsecond == milliseconds % 1000 * 1000


@METHODS
def test_an_address_whose_spelling_is_kept_is_stored_as_text(
    method: str, settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """The type inet would write it another way."""
    column = {"name": "value", "field": "f", "type": "ip", "canonical": False}
    job = settings(load__method=method, table__columns=[column])
    create_tables(engine, job.table)
    spellings = ["2001:DB8:0::1", "::ffff:1.2.3.4", "1.2.3.4"]
    valid, _ = split(job, [json.dumps(text) for text in spellings])
    with transaction(engine) as connection:
        load.stage(connection, valid, job.table, job.load, 0)
        load.merge(connection, valid["message_id"], job.table, len(valid), 0)
    with engine.connect() as connection:
        got = connection.execute(sa.text("select value from user_logins")).scalars().all()
    assert got == spellings


TEXTS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
NUMBERS = st.decimals(-(10**10), 10**10, places=4).map(lambda number: f"{number:f}")
DRAWN: dict[str, tuple[dict[str, Any], st.SearchStrategy[str]]] = {
    "smallint": ({"type": "smallint"}, st.integers(-(2**15), 2**15 - 1).map(str)),
    "double precision": (
        {"type": "number"},
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
    ),
    "numeric(15,4)": ({"type": "decimal", "precision": 15, "scale": 4}, NUMBERS),
    "text": ({"type": "text"}, TEXTS.map(json.dumps)),
    "uuid": ({"type": "uuid"}, st.uuids().map(lambda value: json.dumps(str(value).upper()))),
    "bytea": (
        {"type": "bytes"},
        st.binary(max_size=8).map(lambda value: json.dumps(base64.b64encode(value).decode())),
    ),
    "time": ({"type": "time"}, st.times().map(lambda value: json.dumps(value.isoformat()))),
    "timestamp": ({"type": "datetime"}, st.datetimes().map(lambda v: json.dumps(v.isoformat()))),
    "date": ({"type": "date"}, st.dates().map(lambda value: json.dumps(str(value)))),
}
DRAWN |= {
    f"{sql}[]": (
        {**column, "array": True, "null_elements": True},
        st.lists(texts | st.just("null"), max_size=4).map(lambda t: f"[{', '.join(t)}]"),
    )
    for sql, (column, texts) in DRAWN.items()
}
DRAWN["jsonb"] = (
    {"type": "json"},
    st.recursive(
        NUMBERS | TEXTS.map(json.dumps) | st.sampled_from(["null", "true", "1e999", "-1E-999"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda t: f"[{', '.join(t)}]")
            | st.dictionaries(TEXTS.map(json.dumps), inner, max_size=3).map(
                lambda d: f"{{{', '.join(f'{name}: {value}' for name, value in d.items())}}}"
            )
        ),
        max_leaves=6,
    ).filter(lambda text: text != "null"),
)


@pytest.mark.long
@METHODS
@example_settings(max_examples=30, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_value_comes_back_as_postgres_reads_its_json(
    method: str,
    settings: Callable[..., Settings],
    engine: sa.Engine,
    data: st.DataObject,
) -> None:
    """Postgres's own functions take the values out of the events."""
    columns = [
        {"name": f"c{i}", "field": f"f{i}", **column}
        for i, (column, _) in enumerate(DRAWN.values())
    ]
    job = settings(load__method=method, table__columns=columns)
    create_tables(engine, job.table)
    texts = st.tuples(*(texts for _, texts in DRAWN.values()))
    drawn = data.draw(st.lists(texts, min_size=1, max_size=10))
    events = [event_of(row) for row in drawn]
    raw, _ = extract.read([message(e, i) for i, e in enumerate(events)], list(job.event_fields))
    valid, rejects = validate.split(raw, frame_schema(job.table.columns), job.table.columns)
    assert rejects.empty
    with transaction(engine) as connection:
        connection.exec_driver_sql("truncate user_logins")
        assert load.stage(connection, valid, job.table, job.load, 0).empty
        ids = valid["message_id"].tolist()
        assert load.merge(connection, ids, job.table, len(ids), 0).empty
        stored = ", ".join(f"cast(c{i} as text)" for i, _ in enumerate(DRAWN))
        got = connection.execute(sa.text(f"select {stored} from user_logins")).all()
        read = ", ".join(read_by_postgres(sql, f"f{i}") for i, sql in enumerate(DRAWN))
        wanted = sa.text(f"select {read} from (select cast(:event as json) as event) as events")
        expected = [connection.execute(wanted, {"event": event}).one() for event in events]
    assert got == expected


def event_of(texts: Sequence[str]) -> str:
    """An event with these values, in JSON."""
    members = [f'"f{i}": {text}' for i, text in enumerate(texts)]
    return f"{{{', '.join(members)}}}"


def read_by_postgres(sql: str, field: str) -> str:
    """SQL that reads a value of this type out of an event, as text."""
    if sql == "jsonb":
        return f"cast(cast(event -> '{field}' as jsonb) as text)"
    scalar = (
        "decode({}, 'base64')" if sql.startswith("bytea") else f"cast({{}} as {sql.strip('[]')})"
    )
    value = scalar.format(f"event ->> '{field}'")
    if not sql.endswith("[]"):
        return f"cast({value} as text)"
    elements = f"json_array_elements_text(event -> '{field}') with ordinality as e (text, place)"
    return f"cast(array(select {scalar.format('text')} from {elements} order by place) as text)"
