"""The checks that a configuration adds: of columns, of rows, of batches, and in Python."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from etl import extract, validate
from etl.checks import batches
from etl.checks.configured import check_table
from etl.config import Column, Table
from etl.errors import CheckRaised, SettingsError
from etl.frames import Note
from etl.validate import frame_schema
from tests.unit.builders import message

ROWS: list[dict[str, Any]] = [
    {"n": 7, "t": "RU"},
    {"n": 8, "t": None},
    {"n": 1, "t": "US"},
    {"n": "x", "t": "US"},
]


def column(name: str = "c", kind: str = "text", **more: Any) -> Column:
    """A column that reads the field of its name."""
    return Column(name=name, field=name, type=kind, **more)


def table(*columns: Column, **checks: Any) -> Table:
    """A table of two columns, or of these."""
    return Table(columns=columns or (column("n", "integer"), column("t", nullable=True)), **checks)


class Outcome:
    """Which rows are valid, why others are not, and the notes."""

    def __init__(self, of: Table, *events: dict[str, Any]) -> None:
        check_table(of)
        messages = [message(json.dumps(body), number) for number, body in enumerate(events)]
        raw, _ = extract.read(messages, [column.source for column in of.columns])
        self.notes = Counter[Note]()
        schema = frame_schema(of.columns, of)
        self.valid, rejects = validate.split(raw, schema, of.columns, self.notes)
        self.ids = [message_id.removeprefix("m") for message_id in self.valid["message_id"]]
        self.rejects = [
            f"{message_id.removeprefix('m')} {name}: {check}"
            for message_id, name, check in rejects.to_numpy().tolist()
        ]


def failed(kind: str, value: Any, **more: Any) -> list[str]:
    """The checks that one value fails."""
    return [
        text.partition(": ")[2]
        for text in Outcome(table(column("c", kind, **more)), {"c": value}).rejects
    ]


@pytest.mark.parametrize(
    ("kind", "more", "good", "bad", "check"),
    [
        ("text", {"in": ("RU", "US")}, "US", "us", "in"),
        ("integer", {"in": ("1", "2")}, 2, 3, "in"),
        ("boolean", {"in": ("true",)}, True, False, "in"),
        ("ip", {"in": ("2001:DB8::1",)}, "2001:db8:0::1", "::1", "in"),
        ("uuid", {"in": ("424CDD21-063A-43A7-B91B-7CA1A833AFAE",)},
         "424cdd21-063a-43a7-b91b-7ca1a833afae", "00000000-0000-0000-0000-000000000000", "in"),
        ("text", {"matches": "[A-Z]{2}-[0-9]+"}, "AB-1", "AB-1\n", "matches"),
        ("text", {"matches": "a|ab"}, "ab", "abc", "matches"),
        ("date", {"min": "2026-01-01"}, "2026-01-01", "2025-12-31", "min"),
        ("date", {"max": "2026-01-01"}, "2026-01-01", "2026-01-02", "max"),
        ("timestamp", {"max": "2026-01-01T00:00:00Z"}, "2026-01-01T01:00:00+01:00",
         "2026-01-01T00:00:00-01:00", "max"),
        ("version", {"min": "2.10"}, "2.10.0", "2.9.9", "min"),
        ("integer", {"min": "-5"}, -5, -6, "min"),
        ("bigint", {"max": "9007199254740992"}, 9007199254740992, 9007199254740993, "max"),
        ("number", {"max": "1.5"}, 1.5, 1.6, "max"),
        ("time", {"min": "09:00:00"}, "09:00:00", "08:59:59", "min"),
        ("text", {"min_length": 2}, "ab", "a", "min_length"),
        ("text", {"min_length": 2, "mask": True}, "ab", "a", "min_length"),
    ],
)  # fmt: skip
def test_a_value_is_checked_as_it_is_stored(
    kind: str, more: dict[str, Any], good: Any, bad: Any, check: str
) -> None:
    """Dates as dates and versions as versions, and what is masked before that; a null passes."""
    assert failed(kind, good, **more) == []
    assert failed(kind, bad, **more) == [check]
    assert failed(kind, None, nullable=True, **more) == []


def test_the_decimal_digits_of_a_limit_count() -> None:
    """No double is between them."""
    messages = [message('{"c": 0.10000000000000000002}', 0), message('{"c": 0.1}', 1)]
    of = table(column("c", "decimal", max="0.10000000000000000001"))
    raw, _ = extract.read(messages, ["c"], exact_numbers=True)
    _, rejects = validate.split(raw, frame_schema(of.columns, of), of.columns)
    assert rejects[["message_id", "check"]].to_numpy().tolist() == [["m0", "max"]]


@pytest.mark.parametrize("mask", ["siv", "hmac", {"mask": "partial", "keep_last": 4}])
def test_a_value_to_be_masked_is_checked_as_a_value_of_its_type(mask: Any) -> None:
    """Numbers are compared as numbers, though they are masked as text."""
    masked = mask if isinstance(mask, dict) else {"mask": mask}
    assert failed("integer", 9, min="5", max="10", **masked) == []
    assert failed("integer", 11, min="5", max="10", **masked) == ["max"]
    assert failed("decimal", 1.5, **masked, **{"in": ("1.50",)}) == []
    assert failed("bigint", 7, **masked, **{"in": ("8",)}) == ["in"]
    if mask in ("siv", "hmac"):
        assert failed("date", "2019-12-31", min="2020-01-01", **masked) == ["min"]


def test_a_value_that_cannot_be_read_fails_no_other_check() -> None:
    """Its reason is that of its type."""
    assert failed("date", "yesterday", min="2026-01-01", max="2026-01-02") == ["date"]


def test_every_failed_check_of_a_row_is_listed() -> None:
    """In the order of the names, with the source of the column."""
    of = table(Column(name="c", field="f", type="text", min_length=3, matches="b+"))
    assert Outcome(of, {"f": "a"}).rejects == ["0 f: matches", "0 f: min_length"]


def test_an_expression_of_exponential_time_elsewhere_takes_linear_time() -> None:
    """A sender cannot hold up a run with a text."""
    began = time.process_time()
    assert failed("text", "a" * 100_000, matches="(a+)+b") == ["matches"]
    assert time.process_time() - began < 60  # with backtracking, it would be longer than the world


def test_of_equal_values_the_first_is_loaded() -> None:
    """It is the first of those that pass the other checks; nulls are not equal."""
    of = table(column("n", "integer", unique=True, min="2"), column("t", nullable=True))
    rows: list[dict[str, Any]] = [{"n": n, "t": None} for n in (1, 1, 2, 2, 2)]
    found = Outcome(of, *rows)
    assert found.ids == ["2"]
    assert found.rejects == ["0 n: min", "1 n: min", "3 n: unique", "4 n: unique"]
    texts: list[dict[str, Any]] = [{"t": t} for t in (None, None, "x", "x")]
    assert Outcome(table(column("t", nullable=True, unique=True)), *texts).rejects == [
        "3 t: unique"
    ]


def test_two_notations_of_a_value_are_equal() -> None:
    """They would be stored as the same value, or get the same token."""
    of = table(column("c", "ip", unique=True, mask=True))
    assert Outcome(of, {"c": "::1"}, {"c": "0::1"}).rejects == ["1 c: unique"]


def test_what_only_warns_is_counted_and_loaded() -> None:
    """By source and check, each message once."""
    more: dict[str, Any] = {"min": "2", "unique": True, "warn": ("min", "unique")}
    of = table(
        Column(name="a", field="n", type="integer", **more),
        Column(name="b", field="n", type="integer", **more),
        checks=[{"name": "even", "expression": "a != 7", "severity": "warn"}],
    )
    found = Outcome(of, {"n": 1}, {"n": 1}, {"n": 7})
    assert (found.ids, found.rejects) == (["0", "1", "2"], [])
    assert found.notes == {("n", "min"): 2, ("n", "unique"): 1, ("table", "even"): 1}


def test_a_condition_between_columns_rejects_a_row() -> None:
    """Its name is the reason, and where it is unknown the row passes."""
    of = table(checks=[{"name": "pair", "expression": "n > 7 and t == 'RU'"}])
    assert Outcome(of, *ROWS).rejects == ["3 n: type", "0 table: pair", "2 table: pair"]


def test_a_condition_may_ask_whether_a_masked_value_is_null() -> None:
    """And nothing else."""
    masked = (column("m", mask=True, nullable=True), column("n", "integer"))
    of = table(*masked, checks=[{"name": "c", "expression": "m is not null or n > 1"}])
    rows: list[dict[str, Any]] = [{"m": None, "n": 1}, {"m": "x", "n": 1}, {"m": None, "n": 2}]
    assert Outcome(of, *rows).rejects == ["0 table: c"]
    with pytest.raises(SettingsError, match="at character 1: column 'm' is masked"):
        check_table(table(*masked, checks=[{"name": "c", "expression": "m == 'x'"}]))


def broken(rows: int, /, **check: Any) -> list[str]:
    """The checks that a batch of ten messages fails that has so many rows, one of them a null."""
    of = table(batch_checks=[{"name": "b", "min_messages": 10, **check}])
    valid = pd.DataFrame({"n": [1] * rows, "t": [None, *["x"] * rows][:rows]})
    return [check.name for check in batches.broken(of, valid, 10)]


@pytest.mark.parametrize(
    ("check", "rows", "is_broken"),
    [
        ({"rows": {"min": 1}}, 1, False),
        ({"rows": {"min": 1}}, 0, True),
        ({"rows": {"max": 9}}, 10, True),
        ({"null_share": {"column": "t", "max": 0.1}}, 10, False),
        ({"null_share": {"column": "t", "max": 0.1}}, 9, True),
        ({"null_share": {"column": "t", "max": 0}}, 0, False),
        ({"rows": {"min": 11}, "min_messages": 11}, 10, False),
    ],
)
def test_a_batch_is_checked_as_a_whole(check: dict[str, Any], rows: int, is_broken: bool) -> None:
    """From its number of messages on."""
    assert broken(rows, **check) == (["b"] if is_broken else [])


@pytest.mark.parametrize(
    ("kind", "more", "problem"),
    [
        ("text", {"matches": "("}, "'matches' is not a regular expression .*: unclosed group"),
        ("text", {"matches": "a)|(?:b"}, "'matches' is not .*: unopened group"),
        ("text", {"matches": "(?=a)"}, "look-ahead and look-behind, is not supported"),
        ("text", {"min": "a"}, "'min' is for a column of type"),
        ("integer", {"min_length": 2}, "'min_length' is for a column of type text"),
        ("integer", {"in": ("1", "a")}, "'in' is not a value of type 'integer'"),
        ("date", {"max": "2026"}, "'max' is not a value of type 'date'"),
        ("integer", {"max": "99999999999"}, "'max' is not a value of type 'integer'"),
        ("integer", {"min": "2", "max": "1"}, "'min' is larger than 'max'"),
        ("json", {"unique": True}, "'unique' is not for a column of type json"),
        ("integer", {"array": True, "in": ("1",)}, "'in' is not for an array"),
    ],
)
def test_a_check_that_cannot_be_made_is_found_at_the_start(
    kind: str, more: dict[str, Any], problem: str
) -> None:
    """Before a message is received."""
    with pytest.raises(SettingsError, match=f"column 'c': .*{problem}"):
        check_table(table(column("c", kind, **more)))


@pytest.mark.parametrize(
    "settings",
    [
        {"checks": [{"name": "a", "expression": "n > 1"}] * 2},
        {"checks": [{"name": "a: b", "expression": "n > 1"}]},
        {"batch_checks": [{"name": "a"}]},
        {"batch_checks": [{"name": "a", "rows": {}}]},
        {"batch_checks": [{"name": "a", "rows": {"min": 2, "max": 1}}]},
        {"python_checks": "no function"},
        {"python_checks": "os.system('x'):f"},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    """As any other setting."""
    with pytest.raises(ValidationError):
        table(**settings)


def test_only_a_check_that_is_there_can_warn() -> None:
    """Else its name is a slip."""
    with pytest.raises(ValidationError, match="'warn' lists 'max'"):
        column(min_length=1, warn=("max",))


def test_the_column_of_a_batch_check_is_one_of_the_table() -> None:
    """The error names the one that was meant."""
    share = {"column": "tt", "max": 0.5}
    with pytest.raises(SettingsError, match="'tt' is not a column of the table; did you mean 't'"):
        check_table(table(batch_checks=[{"name": "b", "null_share": share}]))


MODULE = """
import pandera.pandas as pa

def rows():
    return pa.DataFrameSchema(
        {"n": pa.Column(checks=[
            pa.Check(lambda s: s != 7, name="seven"),
            pa.Check(lambda s: s != 8, name="eight", raise_warning=True),
        ])},
        checks=[pa.Check(lambda frame: frame["m"] != "secret", name="not secret")],
    )

def pandera_s_own():
    return pa.DataFrameSchema({"n": pa.Column(unique=True), "m": pa.Column(nullable=False)})

def changes():
    def spoil(frame):
        frame["n"] = 0
        return frame["n"] == 0
    return pa.DataFrameSchema(checks=[pa.Check(spoil)])

def leaks():
    def check(series):
        raise ValueError(f"{series.tolist()}")
    return pa.DataFrameSchema({"m": pa.Column(checks=[pa.Check(check, name="boom")])})

def exits():
    return pa.DataFrameSchema({"m": pa.Column(checks=[pa.Check(lambda s: exit(s.tolist()))])})

def of_all():
    return pa.DataFrameSchema({"n": pa.Column(checks=[pa.Check(lambda s: False, name="no")])})

def parses():
    return pa.DataFrameSchema({"m": pa.Column(parsers=pa.Parser(lambda s: s.map({}.__getitem__)))})

def another_table():
    return pa.DataFrameSchema({"other": pa.Column()})

def another_type():
    return pa.DataFrameSchema({"n": pa.Column("int64")})

def nothing():
    pass

def raises():
    raise RuntimeError
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder."""
    name = f"checks_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    return name


def with_python(module: str, function: str) -> Table:
    """A table with a masked column, and checks in Python."""
    masked = column("m", mask=True, nullable=True)
    return table(column("n", "integer"), masked, python_checks=f"{module}:{function}")


PLAIN: list[dict[str, Any]] = [
    {"n": 7, "m": "secret"},
    {"n": 8, "m": None},
    {"n": 8, "m": "canary"},
]


def test_a_schema_of_pandera_s_checks_the_plain_values(module: str) -> None:
    """Its failures are rejects, and what raises a warning there is counted."""
    found = Outcome(with_python(module, "rows"), *PLAIN)
    assert found.rejects == ["0 n: seven", "0 table: not secret"]
    assert found.notes == {("n", "eight"): 2}


def test_what_pandera_itself_checks_rejects_too(module: str) -> None:
    """Such as nulls, and values that are not unique."""
    found = Outcome(with_python(module, "pandera_s_own"), *PLAIN)
    assert found.rejects == ["1 m: not_nullable", "1 n: field_uniqueness", "2 n: field_uniqueness"]


def test_a_check_in_python_cannot_change_the_rows(module: str) -> None:
    """It gets a frame of its own."""
    assert Outcome(with_python(module, "changes"), *PLAIN).valid["n"].tolist() == [7, 8, 8]


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("leaks", "the check 'boom' of 'm' raised ValueError; this batch was released"),
        ("of_all", "the check 'no' of 'n' does not say which rows fail it"),
        ("parses", "the schema raised KeyError"),
        ("exits", "the schema raised SystemExit"),
    ],
)
def test_a_check_that_raises_stops_the_run_and_shows_no_value(
    module: str, function: str, problem: str
) -> None:
    """The error has names and types only, and no other error behind it."""
    with pytest.raises(CheckRaised, match=problem) as caught:
        Outcome(with_python(module, function), *PLAIN)
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("rows_", "has no function 'rows_'"),
        ("nothing", "returns NoneType, and not a DataFrameSchema"),
        ("raises", "raises RuntimeError"),
        ("another_table", "does not fit the table: column not in dataframe: other"),
        ("another_type", "does not fit the table: wrong dtype: Int32"),
    ],
)
def test_a_function_that_cannot_be_used_is_found_at_the_start(
    module: str, function: str, problem: str
) -> None:
    """Before a message is received."""
    with pytest.raises(SettingsError, match=problem):
        check_table(with_python(module, function))


def test_a_module_that_is_not_there_says_where_it_is_looked_for() -> None:
    """It may be in the working folder."""
    with pytest.raises(SettingsError, match=r"'no_module'\).*in the working folder"):
        check_table(with_python("no_module", "f"))
