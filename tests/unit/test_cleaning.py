"""Values are read leniently where a column says so, and only there; changes are counted."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import unicodedata
from collections import Counter
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import config, extract, validate
from etl.checks.configured import check_columns
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UsageError
from etl.fieldtypes import Real, needs_exact_numbers
from etl.frames import Note
from etl.operations.lookup import tokens_of
from etl.reading.cleaning import cleaned
from etl.reading.steps import STEPS, clean_text
from etl.schema import column_checks, convert
from etl.validate import frame_schema
from tests.unit.builders import ROOT, message

RING = Keyring.new("k1")
ABC = {"type": "text", "clean": ["strip", "nfc", "lower"]}
DIGITS = {"type": "text", "clean": ["nfkc", "digits"]}
FIRST, LAST = ({"type": "ip", "pick": pick} for pick in ("first", "last"))
PORT = {"type": "ip", "accept": ["port"]}
NETWORK = {"type": "ip", "network": 24}
NULLS = {"type": "text", "nullable": True, "null_values": ["", "unknown"]}
INTEGER = {"type": "integer", "accept": ["text", "whole_float"]}
NUMBER = {"type": "number", "accept": ["text"]}
BOOLEAN = {"type": "boolean", "accept": ["text"]}
DECIMAL = {"type": "decimal", "accept": ["text"]}
EPOCH = {"type": "timestamp", "format": "seconds", "accept": ["text"]}
ROUGH = {"type": "timestamp", "accept": ["nanoseconds", "leap_second"]}
NO_ID = {"type": "uuid", "nullable": True, "null_values": ["0000000a-0000-0000-0000-000000000000"]}
TIME_0 = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def column_of(**facts: Any) -> Column:
    """A column ``c`` that reads the field ``f``."""
    return Column.model_validate({"name": "c", "field": "f", **facts})


def read(column: Column, *texts: str) -> tuple[list[Any], list[str], Counter[Note]]:
    """Read the field of one event for each JSON text.

    :returns: the values of the valid frame, the checks that failed, and the notes
    """
    bodies = [message(f'{{"f": {text}}}', number) for number, text in enumerate(texts)]
    raw, unreadable = extract.read(bodies, ["f"])
    assert unreadable.empty
    notes = Counter[Note]()
    valid, rejects = validate.split(raw, frame_schema((column,)), (column,), notes)
    return valid.iloc[:, 1].tolist(), rejects["check"].tolist(), notes


# A column, the JSON of a value, what is stored, and the steps that changed it.
TAKEN: list[tuple[dict[str, Any], str, Any, list[str]]] = [
    (ABC, '"abc-1"', "abc-1", []),
    (ABC, '"ABC-1"', "abc-1", ["lower"]),
    (ABC, '" abc-1\\n"', "abc-1", ["strip"]),
    (ABC, '"\\u3000\\u00c4"', "ä", ["strip", "lower"]),
    (ABC, '"A\\u0308"', "ä", ["nfc", "lower"]),
    ({"type": "text", "clean": ["upper"]}, '"de"', "DE", ["upper"]),
    ({"type": "text", "clean": ["strip", "nfkc"]}, '"\\u00a8"', "\u0308", ["nfkc", "strip"]),
    (DIGITS, '"+49 (170) 1-2"', "4917012", ["digits"]),
    (DIGITS, '"\\u0661\\u0662"', "12", ["digits"]),
    (DIGITS, '"unknown"', "unknown", []),
    (DIGITS, '"5\\u2460"', "51", ["nfkc"]),
    ({"type": "text", "clean": ["digits", "nfkc"]}, '"5\\u2460"', "5", ["digits"]),
    (FIRST, '["1.2.3.4", "5.6.7.8"]', "1.2.3.4", ["pick"]),
    (LAST, '["1.2.3.4", "5.6.7.8"]', "5.6.7.8", ["pick"]),
    (FIRST, '"1.2.3.4, 5.6.7.8"', "1.2.3.4", ["pick"]),
    (LAST, '"1.2.3.4,5.6.7.8, ,"', "5.6.7.8", ["pick"]),
    (LAST, '["1.2.3.4", "5.6.7.8, ::2"]', "::2", ["pick"]),
    (LAST, '"1.2.3.4"', "1.2.3.4", []),
    ({**FIRST, "nullable": True}, "[]", None, ["pick"]),
    ({**FIRST, "nullable": True}, '" , "', None, ["pick"]),
    ({**FIRST, "clean": ["lower"], **PORT}, '["[2001:DB8::1]:80"]', "2001:db8::1", [
        "pick", "lower", "port",
    ]),
    (PORT, '"1.2.3.4:5678"', "1.2.3.4", ["port"]),
    (PORT, '"[2001:db8::1]:443"', "2001:db8::1", ["port"]),
    (PORT, '"[2001:db8::1]"', "2001:db8::1", ["port"]),
    (PORT, '"2001:db8::1:443"', "2001:db8::1:443", []),
    (NETWORK, '"199.172.111.135"', "199.172.111.0/24", []),
    (NETWORK, '"::ffff:199.172.111.135"', "199.172.111.0/24", []),
    (NETWORK, '"2001:db8:1:2::3"', "2001:db8:1::/48", []),
    ({"type": "ip", "network": {"v6": 32}}, '"2001:db8:1:2::3"', "2001:db8::/32", []),
    ({**NETWORK, "nullable": True}, "null", None, []),
    ({**NETWORK, "nullable": True, "null_values": ["0.0.0.0"]}, '"0.0.0.1"', "0.0.0.0/24", []),
    (NULLS, '"unknown"', None, ["null_values"]),
    (NULLS, '""', None, ["null_values"]),
    (NULLS, '"Unknown"', "Unknown", []),
    ({**NULLS, "clean": ["strip", "lower"]}, '" Unknown"', None, [
        "strip", "lower", "null_values",
    ]),
    ({"type": "ip", "nullable": True, "null_values": ["::"]}, '"0:0:0::"', None, ["null_values"]),
    ({**PORT, "nullable": True, "null_values": ["0.0.0.0"]}, '"0.0.0.0:80"', None, [
        "port", "null_values",
    ]),
    ({**INTEGER, "nullable": True, "null_values": ["-1", ""]}, "-1.0", None, [
        "null_values", "whole_float",
    ]),
    ({**INTEGER, "nullable": True, "null_values": ["-1", ""]}, '""', None, ["null_values"]),
    ({"type": "integer", "nullable": True, "null_values": ["-1"]}, "-1", None, ["null_values"]),
    ({"type": "boolean", "nullable": True, "null_values": ["1"]}, "true", True, []),
    (INTEGER, '"5"', 5, ["text"]),
    (INTEGER, '"-0"', 0, ["text"]),
    (INTEGER, "5.0", 5, ["whole_float"]),
    (INTEGER, "5e2", 500, ["whole_float"]),
    (INTEGER, '"5.0"', 5, ["text", "whole_float"]),
    (INTEGER, "5", 5, []),
    (NUMBER, '"2.5"', 2.5, ["text"]),
    (NUMBER, '"-1e3"', -1000.0, ["text"]),
    ({**INTEGER, "type": "bigint"}, "9007199254740993.0", 2**53 + 1, ["whole_float"]),
    (DECIMAL, '"2.50"', Decimal("2.5"), ["text"]),
    (DECIMAL, '"0.12345678901234567890"', Decimal("0.1234567890123456789"), ["text"]),
    ({**DECIMAL, "nullable": True, "null_values": ["-1"]}, "-1.0", None, ["null_values"]),
    (EPOCH, '"0"', TIME_0, ["text"]),
    (EPOCH, "0", TIME_0, []),
    ({"type": "timestamp", "nullable": True, "null_values": ["1970-01-01T00:00:00Z"]},
     '"1970-01-01T01:00:00+01:00"', None, ["null_values"]),
    (NO_ID, '"0000000A-0000-0000-0000-000000000000"', None, ["null_values"]),
    (ROUGH, '"1970-01-01T00:00:00.0000001Z"', TIME_0, ["nanoseconds"]),
    (ROUGH, '"1970-01-01T00:00:00.0000000Z"', TIME_0, []),
    (ROUGH, '"1969-12-31T23:59:60.0000001Z"', TIME_0, ["leap_second", "nanoseconds"]),
    ({**ROUGH, "type": "datetime", "format": "rfc3339"}, '"1969-12-31T23:59:60Z"',
     TIME_0.replace(tzinfo=None), ["leap_second"]),
    ({**ROUGH, "array": True}, '["1969-12-31T23:59:60Z", "1970-01-01T00:00:00Z"]',
     [TIME_0, TIME_0], ["leap_second"]),
    ({**EPOCH, "accept": ["nanoseconds"]}, "1e-7", TIME_0, ["nanoseconds"]),
    (BOOLEAN, '"true"', True, ["text"]),
    (BOOLEAN, "false", False, []),
    ({**BOOLEAN, "clean": ["lower"]}, '"False"', False, ["lower", "text"]),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "text", "stored", "steps"), TAKEN)
def test_a_value_is_read_as_the_column_says_and_counted(
    facts: dict[str, Any], text: str, stored: Any, steps: list[str]
) -> None:
    """Each step that changed it has a note of its own, under the field."""
    values, checks, notes = read(column_of(**facts), text, text)
    assert checks == []
    assert [None if value is pd.NA else value for value in values] == [stored, stored]
    assert notes == {("f", f"changed: {step}"): 2 for step in steps}


# A column, the JSON of a value, and the checks that it fails.
LEFT: list[tuple[dict[str, Any], str, list[str]]] = [
    (ABC, "5", ["type"]),
    (ROUGH, '"1970-01-02T23:59:60Z"', ["timestamp"]),
    (ROUGH, '"1970-01-01T00:00:00.0000001"', ["timestamp"]),
    (ROUGH, "5", ["type"]),
    (ABC, '["abc"]', ["type"]),
    (ABC, '"\\ud800 "', ["lone surrogate"]),
    (ABC, '" \\u0000"', ["NUL character"]),
    (FIRST, '[["1.2.3.4"]]', ["type"]),
    (FIRST, '["x", "1.2.3.4"]', ["IP address"]),
    (FIRST, "[]", ["null"]),
    (PORT, '"1.2.3.4:65536"', ["IP address"]),
    (PORT, '"1.2.3.4:"', ["IP address"]),
    (PORT, '"1.2.3.256:80"', ["IP address"]),
    (PORT, '"host:80"', ["IP address"]),
    (PORT, '"[1.2.3.4]:80"', ["IP address"]),
    (PORT, '"\\u0661.2.3.4:80"', ["IP address"]),
    ({**NULLS, "nullable": False}, '""', ["null"]),
    (INTEGER, '"05"', ["type"]),
    (INTEGER, '"+5"', ["type"]),
    (INTEGER, '" 5"', ["type"]),
    (INTEGER, '"1,000"', ["type"]),
    (INTEGER, '"\\u0665"', ["type"]),
    (INTEGER, '""', ["type"]),
    (INTEGER, "5.5", ["type"]),
    (INTEGER, '"5.5"', ["type"]),
    (INTEGER, "5.00000000000000000001", ["type"]),
    (INTEGER, '"5.00000000000000000001"', ["type"]),
    (INTEGER, "true", ["type"]),
    ({"type": "integer", "nullable": True, "null_values": ["1"]}, "true", ["type"]),
    (INTEGER, '"2147483648"', ["range"]),
    (INTEGER, "1e300", ["range"]),
    (INTEGER, '"' + "1" * 1001 + '"', ["type"]),
    (NUMBER, '"NaN"', ["type"]),
    (NUMBER, '"2,5"', ["type"]),
    (NUMBER, '"1e999"', ["range"]),
    (NUMBER, '"1.00000000000000000001"', ["precision"]),
    (BOOLEAN, '"True"', ["type"]),
    (BOOLEAN, '"1"', ["type"]),
    (BOOLEAN, "1", ["type"]),
    ({**INTEGER, "accept": ["text"]}, "5.0", ["type"]),
    ({**INTEGER, "accept": ["whole_float"]}, '"5"', ["type"]),
]


@pytest.mark.parametrize(("facts", "text", "checks"), LEFT)
def test_what_is_not_accepted_stays_a_reject(
    facts: dict[str, Any], text: str, checks: list[str]
) -> None:
    """The check keeps its name."""
    assert read(column_of(**facts), text)[:2] == ([], checks)


def test_a_loss_is_counted_only_of_a_value_that_is_taken() -> None:
    """A refused one loses nothing."""
    texts = ('"1970-01-02T23:59:60Z"', '"1970-02-30T00:00:00.0000001Z"', "null", "[]")
    assert read(column_of(**ROUGH), *texts)[2] == {}


def test_nothing_is_changed_by_default() -> None:
    """Without the settings, each of these values is a reject, or stays as it is."""
    for facts, text, _, _ in TAKEN:
        strict = {name: facts[name] for name in facts if name in ("type", "nullable")}
        values, _, notes = read(column_of(**strict), text)
        assert not notes
        if values and facts["type"] == "text":
            assert values == [json.loads(text)]


def test_two_columns_of_one_field_count_its_values_once() -> None:
    """Each cleans it on its own."""
    both = tuple(
        column_of(**ABC).model_copy(update={"name": name, "clean": clean})
        for name, clean in (("a", ("lower",)), ("b", ("lower", "strip")))
    )
    raw, _ = extract.read([message('{"f": "A "}'), message('{"f": "b"}', 1)], ["f"])
    notes = Counter[Note]({("f", "changed: lower"): 10})
    valid, _ = validate.split(raw, frame_schema(both), both, notes)
    assert valid[["a", "b"]].to_numpy().tolist() == [["a ", "a"], ["b", "b"]]
    assert notes == {("f", "changed: lower"): 11, ("f", "changed: strip"): 1}


def test_the_default_is_read_as_a_value_is_and_not_counted() -> None:
    """It is in the configuration, where everybody sees it."""
    column = column_of(**ABC, default="N/A")
    raw, _ = extract.read([message("{}"), message('{"f": "n/a "}', 1)], ["f"])
    notes = Counter[Note]()
    valid, _ = validate.split(raw, frame_schema((column,)), (column,), notes)
    assert valid["c"].tolist() == ["n/a", "n/a"]
    assert notes == {("f", "changed: strip"): 1}


STEP_LISTS = (
    st.lists(st.sampled_from(list(STEPS)), unique=True)
    .filter(lambda steps: not {"lower", "upper"} <= set(steps))
    .filter(lambda steps: not {"nfc", "nfkc"} <= set(steps))
)


@given(STEP_LISTS, st.text())
def test_cleaning_twice_changes_nothing_more(steps: list[str], text: str) -> None:
    """So a stored text, once unmasked, is found under the same token."""
    clean = clean_text(text, steps)
    assert clean_text(clean, steps) == clean
    for step in steps:
        assert STEPS[step](clean) == clean


@given(st.text(alphabet="abÄé 漢-1", min_size=1, max_size=8), st.data())
@settings(max_examples=50)
def test_spellings_that_are_equal_after_cleaning_have_one_token(
    text: str, data: st.DataObject
) -> None:
    """The loader and a search by value agree on it."""
    column = column_of(**ABC, mask=True)
    changes = data.draw(st.lists(st.sampled_from(["upper", "nfd", "space"])))
    other = text
    for change in changes:
        other = {
            "upper": other.upper(),
            "nfd": unicodedata.normalize("NFD", other),
            "space": f" {other}\u3000",
        }[change]
    (stored, of_other), checks, _ = read(column, json.dumps(text), json.dumps(other))
    assert (stored, checks) == (of_other, [])
    assert tokens_of(text, column, RING) == tokens_of(other, column, RING)
    assert tokens_of(stored, column, RING) == tokens_of(other, column, RING)


JSON_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["5", "5.0", "-1e2", "true", "1.2.3.4", "1.2.3.4:80", "[::1]:80", "::1", ""])
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
)


def failed_checks(column: Column, values: list[Any]) -> list[str]:
    """The names of the checks that one of the values fails."""
    return [name for name, failed in column_checks(column) if failed(values)]


@given(st.sampled_from([INTEGER, NUMBER, BOOLEAN, PORT]), JSON_VALUES)
def test_accepting_more_never_changes_a_value_that_was_right(
    facts: dict[str, Any], value: Any
) -> None:
    """It is the same object."""
    decoded = json.loads(json.dumps(value), parse_float=Real)
    lenient = column_of(**facts)
    changes = Counter[str]()
    read_values = cleaned(lenient, [decoded], changes)
    if not failed_checks(column_of(type=facts["type"]), [decoded]) or not changes:
        assert read_values[0] is decoded


@given(st.ip_addresses(), st.integers(1, 31), st.integers(1, 127))
def test_a_network_has_the_first_bits_of_the_address(address: Any, v4: int, v6: int) -> None:
    """As the standard library computes it."""
    column = column_of(type="ip", network={"v4": v4, "v6": v6})
    (stored,) = convert(column, [str(address)])
    address = getattr(address, "ipv4_mapped", None) or address
    bits = v4 if address.version == 4 else v6
    assert stored == str(ipaddress.ip_network((address, bits), strict=False))


def test_a_search_for_a_null_value_is_refused() -> None:
    """No row can have it."""
    column = column_of(**NULLS, mask=True)
    with pytest.raises(UsageError, match="counts as null in 'f', so no row"):
        tokens_of("unknown", column, RING)


def test_a_person_gives_one_value_and_no_list() -> None:
    """A comma in it is part of it."""
    column = column_of(type="text", pick="first", mask=True)
    assert tokens_of("a, b", column, RING) != tokens_of("a", column, RING)


# Settings of a column, and what the error says.
WRONG: list[tuple[str, str]] = [
    ("type: integer, accept: [txt]", "'accept' has the unknown word 'txt'; did you mean 'text'?"),
    ("type: integer, accept: text", "'accept' must be a list"),
    ("type: integer, accept: [text, text]", "'accept' has 'text' twice"),
    ("type: text, accept: [text]", "accepts 'text', which is only for numbers and booleans; "),
    ("type: number, accept: [whole_float]", "accepts 'whole_float', which is only for type "),
    ("type: text, accept: [port]", "accepts 'port', which is only for type 'ip'; take it out"),
    ("type: date, accept: [leap_second]", "accepts 'leap_second', which is only for timestamps "),
    ("type: timestamp, format: seconds, accept: [leap_second]", "only for timestamps as text"),
    ("type: timestamp, accept: [text]", "accepts 'text', which is only for numbers and booleans"),
    ("type: ip, array: true, accept: [port]", "accepts 'port', which an array cannot have"),
    ("type: text, array: true, clean: [lower]", "has 'clean', which an array cannot have"),
    ("type: json, null_values: ['']", "has 'null_values', which type 'json' cannot have"),
    ("type: text, clean: [trim]", "'clean' has the unknown word 'trim'; did you mean 'strip'?"),
    ("type: text, clean: [lower, upper]", "'clean' has both 'lower' and 'upper'; take one out"),
    ("type: integer, clean: [strip]", "only with 'accept: [text]'"),
    ("type: ip, clean: [digits]", "'digits', which is only for type 'text'"),
    ("type: text, pick: middle", "unknown pick 'middle'; known are first, last"),
    ("type: text, network: 24", "has a 'network', which is only for type 'ip'"),
    ("type: ip, network: 32", "'network' must be how many of the first bits are kept: 1 to 31 of "),
    ("type: ip, network: {v4: 24, v6: 128}", "'network' must be how many of the first bits"),
    ("type: ip, network: {v5: 24}", "'network' must be how many of the first bits"),
    ("type: ip, network: true", "'network' must be how many of the first bits"),
    ("type: ip, network: 24, mask: true", "has a 'network', which is stored in plain"),
    ("type: ip, network: 24, canonical: false", "has a 'network', which is always canonical"),
    ("type: ip, network: 24, max_length: 42", "has a 'network', which has up to 43 characters"),
]


def load(*columns: str) -> Settings:
    """Load config.yaml with these columns, each written as in it."""
    listed = ", ".join(f"{{{column}}}" for column in columns)
    return config.load(ROOT / "config.yaml", {"ETL_TABLE__COLUMNS": f"[{listed}]"})


@pytest.mark.parametrize(("written", "said"), WRONG)
def test_a_setting_that_means_nothing_is_refused(written: str, said: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(SettingsError) as caught:
        load(f"name: c, field: f, {written}")
    assert said in str(caught.value)


@pytest.mark.parametrize("source", ["constant: a", "metadata: run_id"])
def test_a_value_of_the_job_is_not_cleaned(source: str) -> None:
    """It is not sent by anybody."""
    with pytest.raises(SettingsError, match="only a value of an event or of its sender"):
        load(f"name: c, {source}, type: text, clean: [lower]")


def test_null_values_are_written_as_cleaning_leaves_them() -> None:
    """One that never occurs is a mistake."""
    column = column_of(**{**NULLS, "clean": ["lower"], "null_values": ["", "N/A"]})
    with pytest.raises(SettingsError, match="number 2 of its 'null_values' is compared after"):
        check_columns((column,))
    check_columns((column.model_copy(update={"null_values": ("", "n/a")}),))


MASKED_IP = "name: masked_ip, field: ip, type: ip, mask: true"


def test_a_network_may_be_stored_beside_the_token() -> None:
    """It tells little of the address; the address itself may not be stored."""
    written = "name: net, field: ip, type: ip, network: 24"
    table = load(MASKED_IP, written).table
    assert table.plain_fields == {}
    with pytest.raises(SettingsError, match="'ip' is masked in column 'masked_ip', and column"):
        load(MASKED_IP, written.replace(", network: 24", ""))


@pytest.mark.parametrize("network", ["25", "{v6: 49}"])
def test_a_network_of_few_addresses_is_not_stored_beside_the_token(network: str) -> None:
    """Most of the address would be there in plain."""
    with pytest.raises(SettingsError, match=r"would store too much of it; write 'network: \{v4"):
        load(MASKED_IP, f"name: net, field: ip, type: ip, network: {network}")
    load(f"name: net, field: ip, type: ip, network: {network}")


def test_whole_floats_are_told_by_all_of_their_digits() -> None:
    """The nearest double of 5.00000000000000000001 is 5."""
    assert needs_exact_numbers(column_of(**INTEGER))
    assert not needs_exact_numbers(column_of(type="integer", accept=["text"]))


def test_a_column_without_these_settings_is_passed_on() -> None:
    """It costs nothing, and no value is looked at."""
    values = [object()]
    assert cleaned(column_of(type="text"), values) is values
