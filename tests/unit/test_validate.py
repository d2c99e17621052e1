"""Raw frame -> valid frame and rejects."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import math
import subprocess
import sys
from itertools import product
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import extract, validate
from etl.config import Column
from etl.crypto.tokens import longest_value, token_length
from etl.errors import SettingsError
from etl.fieldtypes import Real, field_type, pack_version
from etl.frames import ABSENT
from etl.reading.sources import values_of_messages
from etl.sqs.message import Message
from etl.validate import frame_schema
from tests.unit.builders import EVENT, ROOT, SENT_MS, columns, event, message


def split(*bodies: str, of: tuple[Column, ...] = ()) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and check bodies."""
    of = of or columns()
    return split_messages([message(b, i) for i, b in enumerate(bodies)], of)


def split_messages(
    messages: list[Message], of: tuple[Column, ...]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and check messages."""
    fields = list(dict.fromkeys(c.source for c in of if c.fields))
    raw, unreadable = extract.read(messages, fields, of_messages=values_of_messages(of, "run"))
    assert unreadable.empty
    return validate.split(raw, frame_schema(of), of)


def converted(kind: str, value: Any, **more: Any) -> list[Any]:
    """Check one value of one type; return the converted value, or the checks that it failed."""
    column = Column(name="c", field="f", type=kind, **more)  # type: ignore[arg-type]
    valid, rejects = split(json.dumps({"f": value}), of=(column,))
    return list(rejects["check"]) if len(rejects) else [valid["c"].item()]


def test_a_good_event_becomes_a_row_of_table_values() -> None:
    """Until they are masked, masked columns have a name of their own."""
    valid, rejects = split(event())
    assert rejects.empty
    assert valid.iloc[0].to_dict() == {
        "message_id": "m0",
        "user_id": EVENT["user_id"],
        "device_type": "android",
        "masked_ip (plain)": "199.172.111.135",
        "masked_device_id (plain)": "593-47-5928",
        "locale": "RU",
        "app_version": 2_003_000,
        "create_date": dt.datetime.fromtimestamp(SENT_MS / 1000, dt.UTC).date(),
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"user_id": None}, [("user_id", "null")]),
        ({"user_id": 17}, [("user_id", "type")]),
        ({"user_id": ["a"]}, [("user_id", "type")]),
        ({"user_id": {"a": {}}}, [("user_id", "type")]),
        ({"user_id": "x" * 129}, [("user_id", "length")]),
        ({"user_id": "a\0b"}, [("user_id", "NUL character")]),
        ({"user_id": "\ud800"}, [("user_id", "lone surrogate")]),
        ({"device_id": "\udfff"}, [("device_id", "lone surrogate")]),
        ({"device_type": True}, [("device_type", "type")]),
        ({"ip": "1.2.3"}, [("ip", "IP address")]),
        ({"ip": "01.2.3.4"}, [("ip", "IP address")]),
        ({"ip": "fe80::1%eth0"}, [("ip", "IP address")]),
        ({"ip": ""}, [("ip", "IP address")]),
        ({"ip": None}, [("ip", "null")]),
        ({"app_version": 2.5}, [("app_version", "type")]),
        ({"app_version": "2"}, [("app_version", "version")]),
        ({"app_version": "2.3.0.1"}, [("app_version", "version")]),
        ({"app_version": "2..3"}, [("app_version", "version")]),
        ({"app_version": "02.0000001000"}, [("app_version", "version range")]),
        ({"app_version": "2.3\n"}, [("app_version", "version")]),
        ({"app_version": "٢.٣"}, [("app_version", "version")]),
        ({"app_version": "1.1000.0"}, [("app_version", "version range")]),
        ({"app_version": "2147.483.648"}, [("app_version", "version range")]),
        ({"device_id": "x" * 160}, [("device_id", "length")]),
        ({"device_id": "é" * 80}, [("device_id", "length")]),
        (
            {"ip": 5, "device_id": None, "locale": "x" * 33},
            [("ip", "type"), ("device_id", "null"), ("locale", "length")],
        ),
    ],
)
def test_a_broken_check_is_reported_by_column_and_name(
    changes: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    """All failures of a row are collected, and its neighbours are unaffected."""
    valid, rejects = split(event(), event(**changes), event())
    assert valid["message_id"].tolist() == ["m0", "m2"]
    assert set(rejects["message_id"]) == {"m1"}
    found = sorted(zip(rejects["column"], rejects["check"], strict=True))
    assert found == sorted(expected)


def test_a_long_text_beside_a_value_of_another_type_is_found() -> None:
    """Lengths of texts are compared as a whole only if all values are texts."""
    for other in (5, None, [], {}):
        _, rejects = split(event(locale=other), event(locale="x" * 33), event(device_id=other))
        found = set(zip(rejects["message_id"], rejects["check"], strict=True))
        assert ("m1", "length") in found


def test_a_message_of_another_shape_misses_every_field() -> None:
    """An absent field and a null break different checks."""
    _, rejects = split('{"foo": "x", "bar": "123", "locale": null}')
    assert set(zip(rejects["column"], rejects["check"], strict=True)) == {
        (field, "missing") for field in EVENT if field != "locale"
    }


def test_a_message_without_a_time_is_a_reject() -> None:
    """A message without SentTimestamp is rejected, because create_date has no other source."""
    _, rejects = split_messages([message(event(), sent_ms=None)], columns())
    assert rejects.iloc[0].tolist() == ["m0", "SentTimestamp", "missing"]


def test_all_rows_bad_leaves_an_empty_valid_frame_with_its_columns() -> None:
    """An empty frame has the same columns, so later stages need no special case."""
    valid, rejects = split(event(ip="x"), event(ip="y"))
    assert len(valid) == 0
    assert list(valid.columns)[:2] == ["message_id", "user_id"]
    assert rejects["message_id"].tolist() == ["m0", "m1"]


def test_null_locale_and_the_country_na_stay_apart() -> None:
    """The country "NA" must not become a null."""
    valid, _ = split(event(locale="NA"), event(locale=None))
    assert valid["locale"].tolist() == ["NA", None]


def test_one_null_integer_leaves_its_neighbours_integers() -> None:
    """With pandas' plain integers, a null would have turned the column into floats."""
    column = Column(name="n", field="n", type="bigint", nullable=True)
    valid, _ = split('{"n": 9007199254740993}', '{"n": null}', of=(column,))
    assert valid["n"].tolist()[0] == 9007199254740993
    assert pd.isna(valid["n"].tolist()[1])


def test_the_utc_date_is_that_of_the_sent_timestamp() -> None:
    """The time zone of the machine does not matter."""
    last = int(dt.datetime(2024, 2, 29, 23, 59, 59, 999000, dt.UTC).timestamp() * 1000)
    valid, _ = split_messages([message(event(), sent_ms=last)], columns())
    assert valid["create_date"].item() == dt.date(2024, 2, 29)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("integer", 2**31 - 1, [2**31 - 1]),
        ("integer", 2**31, ["range"]),
        ("integer", True, ["type"]),
        ("integer", 2.0, ["type"]),
        ("integer", "2", ["type"]),
        ("bigint", -(2**63), [-(2**63)]),
        ("bigint", 2**63, ["range"]),
        ("number", 2.5, [2.5]),
        ("number", 2, [2.0]),
        ("number", 10**400, ["range"]),
        ("number", True, ["type"]),
        ("boolean", True, [True]),
        ("boolean", 1, ["type"]),
        ("date", "2024-02-29", [dt.date(2024, 2, 29)]),
        ("date", "2023-02-29", ["date"]),
        ("date", "20240229", ["date"]),
        (
            "timestamp",
            "2024-02-29T23:00:00-05:00",
            [dt.datetime(2024, 3, 1, 4, tzinfo=dt.UTC)],
        ),
        ("timestamp", "2024-02-29T23:00:00", ["timestamp"]),
        ("timestamp", "0001-01-01T00:00:00+14:00", ["timestamp"]),
        ("ip", "2001:DB8:0:0:0:0:0:1", ["2001:db8::1"]),
        ("ip", "::ffff:1.2.3.4", ["1.2.3.4"]),
        ("ip", "0.0.0.0", ["0.0.0.0"]),
        ("version", "0.96", [96_000]),
        ("version", "2.3", [2_003_000]),
        ("version", "6.02", [6_002_000]),
        ("version", "2.00", [2_000_000]),
        ("version", "006.2.000", [6_002_000]),
        ("version", "00.00", [0]),
        ("version", "99.99.99", [99_099_099]),
        ("version", f"{'0' * 9_000}2.{'0' * 9_000}.{'0' * 9_000}3", [2_000_003]),
        ("version", "2147.483.647", [2**31 - 1]),
        ("text", "", [""]),
    ],
)
def test_each_type_takes_what_it_says_and_nothing_else(
    kind: str, value: Any, expected: list[Any]
) -> None:
    """A value is converted or breaks a named check; it is never changed silently."""
    assert converted(kind, value) == expected


def test_an_address_keeps_its_spelling_by_setting() -> None:
    """With ``canonical: false`` the spelling of an address is kept."""
    assert converted("ip", "2001:DB8::0001", canonical=False) == ["2001:DB8::0001"]


def test_a_field_that_is_not_required_may_be_absent() -> None:
    """With ``required: false`` an absent field means null."""
    column = Column(name="c", field="f", type="text", required=False, nullable=True)
    valid, rejects = split("{}", of=(column,))
    assert rejects.empty
    assert valid["c"].tolist() == [None]


def test_the_longest_masked_value_makes_a_token_that_fits() -> None:
    """The limit on the value follows from the width of the token's column."""
    of = columns("device_id")
    valid, rejects = split('{"device_id": "' + "x" * 159 + '"}', of=of)
    assert (len(valid), len(rejects)) == (1, 0)
    assert token_length(159, 16) <= 256 < token_length(160, 16)


@pytest.mark.timeout(60)
def test_many_zeros_take_no_longer_than_other_text() -> None:
    """One message of them, however its parts end, must not hold up the run."""
    zeros = "0" * 300_000
    texts = [f"{zeros}.{zeros}.{zeros}{end}" for end in ("x", "1234567890", ".", ".0")]
    for text in [zeros, f"{zeros}.{zeros}x", f"{zeros}.", *texts] * 4:
        with pytest.raises(ValueError, match="not a version"):
            pack_version(text)


def test_versions_are_packed_in_their_own_order() -> None:
    """Packing keeps the order of versions, and no two versions collide."""
    ordered = list(product((0, 1, 99, 999, 2146), (0, 1, 99, 999), (0, 1, 99, 999)))
    packed = [pack_version(".".join(map(str, parts))) for parts in ordered]
    assert packed == sorted(set(packed))


def test_a_column_too_narrow_for_any_token_is_refused_by_name() -> None:
    """The configuration is refused before anything is received."""
    narrow = Column(name="masked", field="f", type="text", max_length=59, mask=True)
    with pytest.raises(SettingsError, match=r"'masked'.*at least 60"):
        frame_schema((narrow,))


def test_pandera_imports_nothing_more_once_there_is_a_schema() -> None:
    """An import that fails must do so before the first receive."""
    code = (
        "import sys, pandas as pd; from etl.validate import frame_schema\n"
        "from tests.unit.builders import columns\n"
        "schema = frame_schema(columns()).raw; before = set(sys.modules)\n"
        "schema.validate(pd.DataFrame(columns=list(schema.columns), dtype=object), lazy=True)\n"
        "sys.exit(repr(sorted(set(sys.modules) - before)) if set(sys.modules) - before else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def expected_checks(column: Column, value: Any) -> list[str]:
    """The checks that a value fails, looked at alone and in the plainest way."""
    kind = field_type(column)
    python = (int,) if column.attribute else kind.python
    if value is ABSENT:
        return ["missing"] if column.required else []
    if value is None:
        return [] if column.nullable else ["null"]
    if type(value) not in python:
        return ["type"]
    if column.attribute:
        return []
    failed = [name for name, good in kind.checks if not good(value)]
    if python == (str,):
        failed += ["NUL character"] * ("\0" in value)
        failed += ["lone surrogate"] * any("\ud800" <= c <= "\udfff" for c in value)
        limit = column.max_length or 10**9
        if column.type == "ip":  # measured as it is stored, and only if it is an address
            value = "" if failed else kind.convert([value])[0]
        utf8 = len(value.encode("utf-8", "surrogatepass"))
        long = utf8 > longest_value(limit, 16) if column.mask else len(value) > limit
        failed += ["length"] * long
    return failed


ANY_VALUE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["1.2.3", "::1", "1.2.3.4", "::1.2.3.4", "2.3", "1.1000", "2024-02-30", "2024-02-29"]
    ),
    st.sampled_from(
        ["2024-02-29T23:00:00Z", "x" * 33, "\u00e9" * 20, "x" * 31, "x" * 32, "a\0b", "\ud800"]
    ),
    st.sampled_from(
        [2**31, -(2**31), 2**63, 10**400, True, 1, 0, 1.5, -0.0, math.inf, Real("1.5")]
    ),
    st.sampled_from([None, ABSENT]),
    st.builds(list),
    st.builds(dict),
)
USUAL = {
    "text": ["a", "android", ""],
    "ip": ["1.2.3.4", "2001:db8::1"],
    "version": ["2.3", "2.3.0"],
    "integer": [1, 2],
    "bigint": [1, 2**62],
    "number": [1, 2.5],
    "boolean": [True, False],
    "date": ["2024-02-29"],
    "timestamp": ["2024-02-29T23:00:00Z"],
}


@st.composite
def frames(draw: st.DrawFn) -> tuple[tuple[Column, ...], pd.DataFrame]:
    """Some columns, and a raw frame with usual values and a few of any kind."""
    of: list[Column] = []
    for position, kind in enumerate(
        draw(st.lists(st.sampled_from(sorted(USUAL)), min_size=1, max_size=3))
    ):
        nullable = draw(st.booleans())
        is_text = kind in ("text", "ip", "version", "date", "timestamp")
        mask = kind in ("text", "ip") and draw(st.booleans())
        limit = draw(st.sampled_from([None, 90 if mask else 32])) if is_text else None
        of.append(
            Column(
                name=f"c{position}",
                field=f"f{position}",
                type=kind,  # type: ignore[arg-type]
                nullable=nullable,
                required=not nullable or draw(st.booleans()),
                mask=mask,
                max_length=limit,
            )
        )
    rows = draw(st.integers(0, 5))
    raw: dict[str, Any] = {"message_id": [f"m{row}" for row in range(rows)]}
    for column in of:
        values = [draw(st.sampled_from(USUAL[column.type])) for _ in range(rows)]
        for row in draw(st.lists(st.integers(0, rows - 1), max_size=2)) if rows else []:
            values[row] = draw(ANY_VALUE)
        raw[column.source] = values
    return tuple(of), pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in raw.items()})


def check_frame(drawn: tuple[tuple[Column, ...], pd.DataFrame]) -> None:
    """Compare the rejects of whole columns with those of each value."""
    of, raw = drawn
    expected = {
        (message_id, column.source, check)
        for column in of
        for message_id, value in zip(raw["message_id"], raw[column.source], strict=True)
        for check in expected_checks(column, value)
    }
    valid, rejects = validate.split(raw, frame_schema(of), of)
    assert set(rejects.itertuples(index=False, name=None)) == expected
    assert len(rejects) == len(expected)
    bad = {message_id for message_id, _, _ in expected}
    assert valid["message_id"].tolist() == [i for i in raw["message_id"] if i not in bad]


@settings(max_examples=100, deadline=None)
@given(frames())
def test_a_whole_column_fails_the_checks_that_its_values_fail_alone(
    drawn: tuple[tuple[Column, ...], pd.DataFrame],
) -> None:
    """The checks look at a column as a whole first, which must make no difference."""
    check_frame(drawn)


@pytest.mark.long
@settings(max_examples=400, deadline=None)
@given(frames())
def test_more_columns_fail_the_checks_that_their_values_fail_alone(
    drawn: tuple[tuple[Column, ...], pd.DataFrame],
) -> None:
    """As above, with more frames."""
    check_frame(drawn)


@settings(max_examples=500)
@given(st.one_of(st.integers(0, 2**128 - 1), st.lists(st.integers(0, 3), min_size=8, max_size=8)))
def test_an_address_is_written_as_rfc_5952_says(drawn: int | list[int]) -> None:
    """Whether or not it has zeros to shorten, and from any notation."""
    number = drawn
    if isinstance(number, list):
        number = int("".join(f"{group:04x}" for group in number), 16)
    address = ipaddress.IPv6Address(number)
    expected = str(address.ipv4_mapped or address)
    column = Column(name="c", field="f", type="ip")
    texts = [str(address), address.exploded, address.exploded.upper()]
    converted = field_type(column).convert([*texts, None, "1.2.3.4"])
    assert converted == [*[expected] * 3, None, "1.2.3.4"]


def test_a_check_that_two_columns_of_a_field_fail_is_one_reason() -> None:
    """The counts are of messages."""
    of = tuple(
        Column(name=name, field="code", type="text", matches="[a-z]+", mask=False)
        for name in ("code", "code_again")
    )
    _, rejects = split('{"code": "1"}', '{"code": "2"}', of=of)
    assert rejects[["message_id", "column", "check"]].to_numpy().tolist() == [
        ["m0", "code", "matches"],
        ["m1", "code", "matches"],
    ]
