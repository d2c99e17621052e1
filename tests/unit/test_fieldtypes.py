"""What each type accepts, stores and refuses, from the text of an event."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl import extract, validate
from etl.config import Column
from etl.fieldtypes import field_type, needs_exact_numbers
from etl.validate import frame_schema
from tests.unit.builders import message


def column_of(written: str) -> Column:
    """A column from a line of the configuration; ``accept`` is put in as it is."""
    read: dict[str, Any] = yaml.safe_load(f"{{{written}}}")
    accept = tuple(read.pop("accept", ()))
    column = Column(**{"name": "c", "field": "f", **read})
    return column.model_copy(update={"accept": accept})


def outcomes(column: Column, *texts: str) -> list[Any]:
    """What is stored for each JSON text, or the names of the checks that it fails."""
    bodies = [message(f'{{"f": {text}}}', number) for number, text in enumerate(texts)]
    exact = needs_exact_numbers(column)
    raw, unreadable = extract.read(bodies, ["f"], exact_numbers=exact)
    assert unreadable["check"].tolist() == []
    valid, rejects = validate.split(raw, frame_schema((column,)), (column,))
    stored = dict(zip(valid["message_id"], valid["c"].tolist(), strict=True))
    failed = rejects.groupby("message_id")["check"].agg(list).to_dict()
    return [failed.get(i, stored.get(i)) for i in raw["message_id"]]


UTC = dt.UTC
wall = dt.datetime.fromisoformat  # a time without a zone
# By column and JSON text: what is stored.
STORED: dict[str, dict[str, Any]] = {
    "type: smallint": {"32767": 32767, "-32768": -32768},
    "type: decimal": {
        "0.1": Decimal("0.1"),
        "12345678901234567890.12345678901234567890": Decimal(
            "12345678901234567890.1234567890123456789"
        ),
        "1E+3": Decimal(1000),
        "-0.0": Decimal(0),
        "0e999999999999999999999": Decimal(0),
        "1." + "0" * 5000: Decimal(1),
        "9" * 1000: Decimal("9" * 1000),
    },
    # This double is in the middle between two texts of 16 digits.
    "type: number": {
        "5.960464477539063e-08": 2.0**-24,
        "5.9604644775390625e-08": 2.0**-24,
    },
    "type: decimal, precision: 5, scale: 2": {
        "999.99": Decimal("999.99"), "-999.9900": Decimal("-999.99"), "7": Decimal(7),
        "1e2": Decimal(100), "0.01": Decimal("0.01"), "100e-4": Decimal("0.01"),
    },
    "type: decimal, precision: 2, scale: 2": {"0.99": Decimal("0.99"), "0": Decimal(0)},
    "type: decimal, precision: 3": {"999": Decimal(999), "1.0": Decimal(1)},
    "type: time": {
        '"23:59:59"': dt.time(23, 59, 59), '"00:00:00.0000010"': dt.time(0, 0, 0, 1),
    },
    "type: time, accept: [nanoseconds]": {'"23:59:59.999999999"': dt.time(23, 59, 59, 999_999)},
    "type: datetime": {
        '"2024-02-29T23:59:59.5"': wall("2024-02-29T23:59:59.500000"),
        '"2024-02-29 23:59:59"': wall("2024-02-29T23:59:59"),
        '"0001-01-01t00:00:00"': wall("0001-01-01T00:00:00"),
    },
    "type: datetime, format: rfc3339": {
        '"2024-02-29T23:00:00-01:30"': wall("2024-03-01T00:30:00"),
    },
    "type: datetime, format: milliseconds": {"1": wall("1970-01-01T00:00:00.001000")},
    "type: timestamp, format: seconds": {
        "0": dt.datetime(1970, 1, 1, tzinfo=UTC),
        "-1": dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        "1700000000.123456": dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC),
        "1.7000000001234560e9": dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC),
        "253402300799.999999": dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
        "-62135596800": dt.datetime(1, 1, 1, tzinfo=UTC),
        "-0.000001": dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    },
    "type: timestamp, format: seconds, accept: [nanoseconds]": {
        "1700000000.1234569": dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC),
        "-0.0000001": dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
        "1e-999999999": dt.datetime(1970, 1, 1, tzinfo=UTC),
    },
    "type: timestamp, format: milliseconds": {
        "1700000000123": dt.datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC),
        "253402300799999": dt.datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC),
    },
    "type: timestamp, format: microseconds": {
        "1700000000123456": dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, UTC),
    },
    "type: timestamp, accept: [nanoseconds]": {
        '"2024-02-29T23:59:59.999999999Z"': dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
    },
    "type: timestamp, accept: [leap_second]": {
        '"2016-12-31T23:59:60Z"': dt.datetime(2017, 1, 1, tzinfo=UTC),
        '"2017-01-01T00:59:60.5+01:00"': dt.datetime(2017, 1, 1, 0, 0, 0, 500_000, UTC),
    },
    "type: timestamp, accept: [offset_without_colon]": {
        '"2024-02-29t23:00:00+0530"': dt.datetime(2024, 2, 29, 17, 30, tzinfo=UTC),
    },
    "type: uuid": {
        '"424CDD21-063a-43A7-b91b-7ca1a833afae"': "424cdd21-063a-43a7-b91b-7ca1a833afae",
        '"00000000-0000-0000-0000-000000000000"': "00000000-0000-0000-0000-000000000000",
    },
    "type: bytes": {'"AP+n"': r"\x00ffa7", '""': r"\x", '"AA=="': r"\x00"},
    "type: json": {
        '{"b": [1, 1.50, 1E400, -0], "a": {"é": null}}': '{"b":[1,1.50,1E400,0],"a":{"é":null}}',
        "[]": "[]", '"a\\"\\u0001"': r'"a\"\u0001"', "false": "false", "12": "12", "0.10": "0.10",
        '"\\\\u0000"': r'"\\u0000"',
    },
    "type: json, max_length: 5": {'"abc"': '"abc"', "[1,2]": "[1,2]"},
    "type: json, nullable: true": {"null": None},
    "type: text, array: true": {'["", "a,b", "NULL"]': ["", "a,b", "NULL"], "[]": []},
    "type: integer, array: true, null_elements: true": {"[1, null]": [1, None]},
    "type: decimal, precision: 5, scale: 2, array: true": {"[0.10]": [Decimal("0.1")]},
    "type: ip, array: true": {'["::FFFF:1.2.3.4"]': ["1.2.3.4"]},
    "type: ip, max_length: 15": {'"::FFFF:251.2.3.4"': "251.2.3.4"},
    "type: ip, array: true, max_length: 15": {'["::FFFF:255.2.3.4"]': ["255.2.3.4"]},
    "type: integer, array: true, max_length: 1": {"[10]": [10]},
    "type: version, array: true": {'["2.3"]': [2_003_000]},
}  # fmt: skip

# By column and JSON text: the check that refuses it.
REFUSED: dict[str, dict[str, str]] = {
    "type: smallint": {"32768": "range", "1.0": "type", '"1"': "type"},
    "type: decimal": {
        '"1.0"': "type", "true": "type", "1e1000": "range", "1e-1001": "precision",
        "1e99999999999999999999": "range", "-1e99999999999999999999": "range",
        "1e-99999999999999999999": "precision", "0." + "1" * 1001: "precision",
    },
    "type: decimal, precision: 5, scale: 2": {
        "1000": "range", "-1000.00": "range", "0.001": "precision", "999.990001": "precision",
    },
    "type: decimal, precision: 2, scale: 2": {"1": "range"},
    "type: decimal, precision: 3": {"0.5": "precision", "1e3": "range"},
    "type: time": {
        '"24:00:00"': "time", '"23:59"': "time", '"23:59:60"': "time", '"12:00:00Z"': "time",
        '"12:00:00.0000001"': "precision", '"٢٣:00:00"': "time", "5": "type",
    },
    "type: datetime": {
        '"2024-02-29T23:59:59Z"': "datetime", '"2024-02-29T23:59:59+00:00"': "datetime",
        '"2024-02-30T00:00:00"': "datetime", '"2024-02-29"': "datetime",
        '"2016-12-31T23:59:60"': "datetime", '"2024-02-29T00:00:00.0000001"': "precision",
    },
    "type: datetime, format: rfc3339": {'"2024-02-29T23:00:00"': "datetime"},
    "type: timestamp": {
        '"2024-02-29T23:00:00+0530"': "timestamp", '"2016-12-31T23:59:60Z"': "timestamp",
        '"2024-02-29T23:59:59.0000001Z"': "precision", "1700000000": "type",
    },
    "type: timestamp, accept: [leap_second]": {
        '"2016-12-30T23:59:60Z"': "timestamp", '"2016-12-31T23:58:60Z"': "timestamp",
        '"2016-12-31T23:59:60+01:00"': "timestamp", '"9999-12-31T23:59:60Z"': "timestamp",
        '"2016-12-31T23:59:61Z"': "timestamp",
    },
    "type: timestamp, accept: [nanoseconds, leap_second]": {
        '"2024-02-29T23:00:00+0530"': "timestamp",
    },
    "type: timestamp, format: seconds": {
        "253402300800": "range", "-62135596801": "range", "1e999999999": "range",
        "1" + "0" * 900: "range", "0.0000001": "precision", "1e-999999999": "precision",
        "1700000000.12345678901234567890": "precision", '"1700000000"': "type", "true": "type",
    },
    "type: timestamp, format: milliseconds": {"1.5": "type", "253402300800000": "range"},
    "type: timestamp, format: microseconds": {"1e3": "type", "9" * 30: "range"},
    "type: uuid": {
        '"{424cdd21-063a-43a7-b91b-7ca1a833afae}"': "UUID",
        '"424cdd21063a43a7b91b7ca1a833afae"': "UUID",
        '"424cdd21-063a-43a7-b91b-7ca1a833afag"': "UUID", '""': "UUID",
        '"424cdd21-063a-43a7-b91b-7ca1a833afae\\n"': "UUID", "5": "type",
    },
    "type: bytes": {
        '"AP-n"': "base64", '"AA"': "base64", '"AB=="': "base64", '"AA==\\n"': "base64",
        '"é==="': "base64",
    },
    "type: json": {
        "null": "null", '{"a": "b\\u0000"}': "NUL character", '{"\\u0000": 1}': "NUL character",
        '["\\ud800"]': "lone surrogate", '{"\\udfff": 1}': "lone surrogate",
        "1e1000": "range", "[1e-1001]": "range", '{"a": 0e99999999999999999999}': "range",
    },
    "type: json, max_length: 5": {'"abcd"': "length", "[1, 2,3]": "length"},
    "type: text, array: true": {
        '["a", null]': "element null", '["a", 5]': "element type", '[["a"]]': "element type",
        '"a"': "type", '["\\u0000"]': "element NUL character", "{}": "type",
        '["\\ud800"]': "element lone surrogate",
    },
    "type: text, array: true, max_length: 2": {'["ab", "abc"]': "element length"},
    "type: integer, array: true": {
        "[2147483648]": "element range", "[true]": "element type", "[1.0]": "element type",
    },
    "type: decimal, precision: 5, scale: 2, array: true": {"[0.001]": "element precision"},
    "type: ip, array: true": {'["1.2.3"]': "element IP address"},
    "type: ip, max_length: 15": {'"2001:db8:1:1::1:1"': "length"},
    "type: ip, array: true, max_length: 15": {'["2001:db8:1:1::1:1"]': "element length"},
}  # fmt: skip


@pytest.mark.parametrize("written", STORED)
def test_a_value_is_stored_as_the_same_value(written: str) -> None:
    """Nothing is rounded."""
    got = outcomes(column_of(written), *STORED[written])
    expected = list(STORED[written].values())
    assert [None if value is pd.NA else value for value in got] == expected


@pytest.mark.parametrize("written", REFUSED)
def test_a_value_that_the_type_does_not_have_is_refused_by_name(written: str) -> None:
    """One check tells what is wrong."""
    assert outcomes(column_of(written), *REFUSED[written]) == [
        [check] for check in REFUSED[written].values()
    ]


@pytest.mark.parametrize(
    ("written", "spellings", "expected"),
    [
        ("type: integer", ["5"], "5"),
        ("type: bigint", ["-9223372036854775808"], "-9223372036854775808"),
        ("type: decimal", ["1.50", "1.5", "15e-1", "150E-2"], "1.5"),
        ("type: decimal", ["0", "-0.0", "0e5"], "0"),
        ("type: decimal", ["1e3", "1000.0"], "1000"),
        ("type: number", ["2", "2.0", "0.2e1"], "2"),
        ("type: number", ["0", "-0.0"], "0"),
        ("type: number", ["1e-7"], "1e-07"),
        ("type: boolean", ["true"], "true"),
        ("type: date", ['"2024-02-29"'], "2024-02-29"),
        ("type: time", ['"23:59:59.500"', '"23:59:59.5"'], "23:59:59.500000"),
        ("type: datetime", ['"2024-02-29 01:00:00"'], "2024-02-29T01:00:00"),
        (
            "type: timestamp",
            ['"2024-02-29T01:00:00+01:00"', '"2024-02-29t00:00:00.000z"'],
            "2024-02-29T00:00:00Z",
        ),
        ("type: timestamp, format: seconds", ["1.5", "15e-1"], "1970-01-01T00:00:01.500000Z"),
        ("type: uuid", [f'"{"AB" * 4}-0000-0000-0000-{"aB" * 6}"'],
         f"{'ab' * 4}-0000-0000-0000-{'ab' * 6}"),
        ("type: bytes", ['"AP+n"'], "AP+n"),
        ("type: ip", ['"::FFFF:1.2.3.4"', '"1.2.3.4"'], "1.2.3.4"),
        ("type: ip, canonical: false", ['"2001:DB8::1"'], "2001:DB8::1"),
        ("type: version", ['"2.03"', '"2.3.0"'], "2.3.0"),
        ("type: text", ['"a\\u0062"'], "ab"),
        ("type: json", ['{"b": 1, "a": [2]}', '{"a":[2],"b":1}'], '{"a":[2],"b":1}'),
        ("type: integer, array: true, null_elements: true", ["[1, null]"], '["1",null]'),
    ],
)  # fmt: skip
def test_the_spellings_of_one_value_have_one_text(
    written: str, spellings: list[str], expected: str
) -> None:
    """It is what a mask is made of."""
    column = column_of(written)
    bodies = [message(f'{{"f": {text}}}', number) for number, text in enumerate(spellings)]
    raw, _ = extract.read(bodies, ["f"], exact_numbers=needs_exact_numbers(column))
    assert [field_type(column).text(value) for value in raw["f"]] == [expected] * len(spellings)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("type: integer, precision: 5", "only a column of type 'decimal'"),
        ("type: decimal, scale: 2", "'precision', which must be there too"),
        ("type: decimal, precision: 2, scale: 3", "at most 'precision'"),
        ("type: date, format: seconds", "'timestamp' or 'datetime'"),
        ("type: json, array: true", "take 'array' out"),
        ("type: text, null_elements: true", "only a column with 'array: true' has"),
        ("type: text, array: true, mask: true", "not masked"),
    ],
)
def test_settings_that_a_type_does_not_have_are_refused(written: str, problem: str) -> None:
    """A setting that did nothing would be taken for one that does."""
    with pytest.raises(ValidationError, match=problem):
        column_of(written)


def test_only_types_with_all_digits_need_the_texts_of_numbers() -> None:
    """The default configuration keeps the fast way to read a body."""
    slow = {"number", "decimal", "json"}
    for name in ("text", "ip", "version", "integer", "boolean", "date", "timestamp", *slow):
        assert needs_exact_numbers(column_of(f"type: {name}")) == (name in slow)
    assert needs_exact_numbers(column_of("type: timestamp, format: seconds"))
    assert not needs_exact_numbers(column_of("type: timestamp, format: milliseconds"))
    assert needs_exact_numbers(column_of("type: number, array: true"))


# Numbers as JSON can write them, most of them near the limits of the column below.
NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@settings(max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=30), st.integers(1, 12), st.integers(0, 12))
def test_a_decimal_is_exact_or_refused(texts: list[str], precision: int, scale: int) -> None:
    """By fractions, which know nothing of digits."""
    scale = min(scale, precision)
    column = column_of(f"type: decimal, precision: {precision}, scale: {scale}")
    for text, got in zip(texts, outcomes(column, *texts), strict=True):
        value = Fraction(text)
        failed = ["precision"] if (value * 10**scale).denominator != 1 else []
        failed += ["range"] if abs(value) >= 10 ** (precision - scale) else []
        assert got == (failed or value), text


SECONDS = st.from_regex(r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,8})?(e-?[0-3])?", fullmatch=True)


@settings(max_examples=30)
@given(st.lists(SECONDS, min_size=1, max_size=30), st.booleans())
def test_seconds_are_exact_or_refused(texts: list[str], accepts: bool) -> None:
    """To the microsecond, or rounded down to it where that is accepted."""
    accept = "nanoseconds" if accepts else ""
    column = column_of(f"type: timestamp, format: seconds, accept: [{accept}]")
    for text, got in zip(texts, outcomes(column, *texts), strict=True):
        microseconds = Fraction(text) * 10**6
        try:
            moment = dt.datetime(1970, 1, 1, tzinfo=UTC) + dt.timedelta(
                microseconds=microseconds.numerator // microseconds.denominator
            )
        except OverflowError:
            assert got == ["range"], text
        else:
            is_kept = accepts or microseconds.denominator == 1
            assert got == (moment if is_kept else ["precision"]), text


# With surrogates, which stand alone if json writes them.
TEXTS = st.text() | st.sampled_from(["\0", "\ud800", "\udfff", "\\u0000", "\\ud800"])
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.decimals(allow_nan=False, allow_infinity=False, places=20)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def written_json(value: Any) -> str:
    """A value as JSON, by the library; its decimals are put in afterwards."""
    decimals: list[Decimal] = []

    def marker(number: Decimal) -> str:
        decimals.append(number)
        return f"decimal {len(decimals) - 1}"

    text = json.dumps({"v": value}, default=marker)
    for number, decimal in enumerate(decimals):
        text = text.replace(f'"decimal {number}"', f"{decimal:f}")
    return text[len('{"v": ') : -1]


@settings(max_examples=40)
@given(st.lists(JSON_VALUES, min_size=1, max_size=20))
def test_json_is_the_same_value_or_refused(values: list[Any]) -> None:
    """With every digit of a number; what Postgres cannot store is refused."""
    texts = [written_json(value) for value in values]
    for text, got in zip(texts, outcomes(column_of("type: json"), *texts), strict=True):
        value = json.loads(text, parse_float=Decimal)
        failed = ["null"] if value is None else []
        texts_within = json.dumps(value, ensure_ascii=False, default=str).replace("\\\\", "")
        failed += ["NUL character"] if r"\u0000" in texts_within else []
        failed += ["lone surrogate"] if re.search("[\ud800-\udfff]", texts_within) else []
        assert got == failed if failed else json.loads(got, parse_float=Decimal) == value, text


OF_ELEMENTS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "type: text": (str, st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
    "type: bigint": (int, st.integers(-(2**63), 2**63 - 1)),
    "type: boolean": (bool, st.booleans()),
    "type: uuid": (lambda value: str(uuid.UUID(value)), st.uuids().map(str)),
    "type: date": (dt.date.fromisoformat, st.dates().map(str)),
    "type: bytes": (
        lambda value: f"\\x{base64.b64decode(value).hex()}",
        st.binary().map(lambda value: base64.b64encode(value).decode()),
    ),
}


@settings(max_examples=15)
@pytest.mark.parametrize("written", OF_ELEMENTS)
@given(data=st.data())
def test_a_list_is_stored_element_by_element(written: str, data: st.DataObject) -> None:
    """Null elements only where they are allowed."""
    stored, values = OF_ELEMENTS[written]
    drawn = data.draw(st.lists(st.none() | values, max_size=5))
    allowed = data.draw(st.booleans())
    more = f", array: true, null_elements: {str(allowed).lower()}"
    (got,) = outcomes(column_of(written + more), json.dumps(drawn))
    if None in drawn and not allowed:
        assert got == ["element null"]
    else:
        assert got == [None if value is None else stored(value) for value in drawn]
