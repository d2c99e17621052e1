"""Conditions between the columns of a row."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from etl.checks.expressions import ExpressionError, parse
from etl.config import Column

DAY = dt.date(2026, 1, 1)
TYPES = {
    "a": "integer", "b": "bigint", "x": "number", "d": "decimal", "t": "text", "flag": "boolean",
    "start": "date", "end": "date", "v": "version", "ts": "timestamp", "ip": "ip", "j": "json",
    "from": "integer",
}  # fmt: skip
COLUMNS = [
    *(Column(name=n, field=n, type=kind, nullable=True) for n, kind in TYPES.items()),
    Column(name="m", field="m", type="text", mask=True, nullable=True),
]
ROW: dict[str, Any] = {
    "a": 7, "b": -2, "x": 0.1, "d": Decimal("0.3"), "t": "RU", "flag": True, "start": DAY,
    "end": DAY + dt.timedelta(days=30), "v": 2_010_000, "ip": "2001:db8::1", "from": 1, "m": "x",
    "ts": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "j": "{}",
}  # fmt: skip
MET: list[int] = []
NOT_MET = [0]


def failed(text: str, **changes: Any) -> list[int]:
    """Whether a row fails a condition."""
    values = {name: [value] for name, value in {**ROW, **changes}.items()}
    return parse(text, COLUMNS).failed(values, 1)


@pytest.mark.parametrize(
    "text",
    [
        "a > b", "a == 7 and not (b > 0)", "a < b or flag", "start <= end", "end - start == 30",
        "start + 30 == end", "end - 30 <= start", "t in ['RU', 'US']", "t not in ('US', 'DE')",
        "t in 'RU'", "m is not null", "not m is null", "0 < a <= 7", "-a == b * 3 - 1",
        "a / b == -3", "a / 2.0 == 3.5",
        "x == 0.1", "x * 3 > 0.3", "d == 0.3", "d + 0.1 == 0.4", "a in [1, 7.0]",
        "v >= '2.10'", "v in ['2.10.0']", "start >= '2025-12-31'", "ip == '2001:DB8:0::1'",
        "ts < '2026-01-01T01:00:01+01:00'", "column('from') == 1", "flag == true", "'RU' == t",
        "start + 1 > '2026-01-01'", "a > 1\n  and b < 0", "True", "x != 1",
    ],
)  # fmt: skip
def test_a_condition_that_is_met(text: str) -> None:
    """And its opposite is not."""
    assert failed(text) == MET
    assert failed(f"not ({text})") == NOT_MET


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("a > 1", MET),
        ("not (a > 1)", MET),
        ("a > 1 and b > 0", NOT_MET),
        ("a > 1 or b > 0", MET),
        ("a is null", MET),
        ("a is not null", NOT_MET),
        ("a in [1, 2]", MET),
        ("a + b > 0", MET),
        ("a is null and b > 0", NOT_MET),
    ],
)
def test_null_makes_a_condition_unknown_and_unknown_passes(text: str, outcome: list[int]) -> None:
    """As in a CHECK of SQL; ``b`` is below 0."""
    assert failed(text, a=None) == outcome


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("b / a > 0", NOT_MET),
        ("not (b / a > 0)", NOT_MET),
        ("a != 0 and b / a > 0", NOT_MET),
        ("a == 0 or b / a > 0", MET),
        ("a == 0 and b / a > 0", NOT_MET),
        ("not (a != 0 or b / a > 0)", NOT_MET),
        ("b / a > 0 or a == 0", NOT_MET),
        ("x / a > 0", NOT_MET),
        ("d / a > 0", NOT_MET),
        ("t is null or x * 1e308 * 1e10 > 0", NOT_MET),
        ("start + 99999999 > end", NOT_MET),
        ("b / a in [1]", NOT_MET),
    ],
)
def test_what_cannot_be_computed_fails_the_row(text: str, outcome: list[int]) -> None:
    """Unless what comes before it decides; ``a`` is 0."""
    assert failed(text, a=0) == outcome


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1", "at character 1: this cannot be read; write == for equal"),
        ("a <> 1", "at character 3: this cannot be read"),
        ("a > 1 AND b > 1", "this cannot be read"),
        ("(", "this cannot be read"),
        ("a > 1)", "this cannot be read"),
        ("zz > 1", "at character 1: 'zz' is not a column of the table"),
        ("t == 'é' and strat > end", "at character 14: .* did you mean 'start'"),
        ("a > 1 and\nzz > 1", "at character 11: 'zz'"),
        ("m == 'x'", "at character 1: column 'm' is masked"),
        ("t < 'x'", "'t' .type text. can only be compared by == and !="),
        ("j == 'x'", "'j' .type json. can only be asked whether it is null"),
        ("a + t > 1", r"cannot be put together by \+"),
        ("v + 1 > 2", r"cannot be put together by \+"),
        ("a == t", "cannot be compared with column 't'"),
        ("ts > start", "cannot be compared with column 'start'"),
        ("start > 'x'", "at character 9: this text is not a value of type 'date'"),
        ("a == null", "at character 6: null is only allowed in 'is null'"),
        ("a is 1", "'is' and 'is not' only go with null"),
        ("a in []", "'in' needs a list of values"),
        ("a in [b]", "'in' needs a list of values"),
        ("a", "is a value of type integer, and not a condition"),
        ("a and flag", "at character 1: a condition is needed here"),
        ("not a", "a condition is needed here"),
        ("-t == 1", "this sign is not allowed before column 't'"),
        ("not " * 500 + "flag", "is nested too deeply"),
        ("a > " + "9" * 5000, "this cannot be read"),
    ],
)
def test_a_mistake_is_found_at_the_start_with_its_place(text: str, problem: str) -> None:
    """Before a message is received."""
    with pytest.raises(ExpressionError, match=problem):
        parse(text, COLUMNS)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')", "a.real > 1", "(lambda: True)()", "[x for x in [1]] == a",
        "a if flag else b", "a ** 99999 > 1", "f'{a}' == t", "a[0] > 1", "(a := 1) > 0",
        "a << 9 > 1",
        "~a > 1", "a % 2 == 0", "column('a', 1) > 1", "column(a) > 1", "column(name='a') > 1",
        "a == b'x'", "a == ...", "a == 1j", "{a: 1} == 1", "open('x') is null", "a @ b > 1",
    ],
)  # fmt: skip
def test_nothing_of_python_is_executed(text: str) -> None:
    """What is no condition of this small language is refused, with its place."""
    with pytest.raises(ExpressionError, match="at character"):
        parse(text, COLUMNS)


def test_only_the_columns_that_are_read_are_needed() -> None:
    """And each row is told apart."""
    expression = parse("a < b", COLUMNS)
    assert expression.columns == {"a", "b"}
    assert expression.failed({"a": [1, 2, None, 3], "b": [2, 1, 0, 3]}, 4) == [1, 3]
