"""Paths in events: how they are written, and what is found there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.config import paths
from etl.fieldtypes import Real
from etl.frames import ABSENT
from etl.reading.paths import Known, TwoValuesError, at, row_of

EVENT = {
    "id": 7,
    "a.b": "dotted",
    "customer": {"email": "e@example.com", "address": {"city": None}},
    "items": [{"sku": "A-1"}, {"sku": "B-2", "tags": ["x", "y"]}],
    "$": "dollar",
    'say "hi"': 1,
}

VALUES = [
    ("id", 7),
    ("customer.email", "e@example.com"),
    ("customer", EVENT["customer"]),
    ("customer.address.city", None),
    ("customer.address.city.name", ABSENT),
    ("customer.phone", ABSENT),
    ("id.x", ABSENT),
    ("id[0]", ABSENT),
    ("items[1].sku", "B-2"),
    ("items[1].tags[0]", "x"),
    ("items[2].sku", ABSENT),
    ("items.sku", ABSENT),
    ('"a.b"', "dotted"),
    ("a.b", ABSENT),
    ("$", EVENT),
    ('"$"', "dollar"),
    (r'"say \"hi\""', 1),
]


@pytest.mark.parametrize(("path", "value"), VALUES)
def test_a_path_leads_to_its_value_or_to_nothing(path: str, value: Any) -> None:
    """What is not there is absent, wherever the way ends."""
    assert at(EVENT, paths.parse(path)) == value
    assert row_of([path])(EVENT) == [value]


def test_all_of_them_at_once() -> None:
    """A row has the values in the order of the paths."""
    assert row_of([path for path, _ in VALUES])(EVENT) == [value for _, value in VALUES]


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "a]", 'a"b', '"a', "a b.", "a[0]b"]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    """The error says how one is written."""
    with pytest.raises(ValueError, match="is not a path"):
        paths.parse(text)


steps = st.one_of(
    st.text(min_size=1).filter(lambda t: t < "\ud800" or t > "\udfff"), st.integers(0, 9999)
)


@given(st.lists(steps, max_size=5).filter(lambda path: not path or isinstance(path[0], str)))
def test_a_written_path_is_read_as_itself(path: list[str | int]) -> None:
    """Whatever the names are, and also when they look like a path."""
    assert paths.parse(paths.written(tuple(path))) == tuple(path)
    assert paths.parse(paths.written(tuple(path), ("message_id",))) == tuple(path)


def test_equal_paths_are_written_alike() -> None:
    """So they name one column of the raw frame."""
    assert paths.written(paths.parse('"customer"."email"')) == "customer.email"
    assert paths.written(("message_id",), ("message_id",)) == '"message_id"'


def test_a_field_may_have_several_paths() -> None:
    """A null beside a value counts as absent; two values are a reject."""
    names = {"customer.email": ["email"]}
    row = row_of(["customer.email", "id"], names)
    assert row({"customer": {"email": None}, "email": "x", "id": 1}) == ["x", 1]
    assert row({"customer": {"email": None}}) == [None, ABSENT]
    assert row({"email": "x", "customer": 5}) == ["x", ABSENT]
    with pytest.raises(TwoValuesError) as found:
        row({"customer": {"email": "y"}, "email": "x"})
    assert found.value.field == "customer.email"


def test_numbers_are_compared_with_all_their_digits() -> None:
    """Also those that the same double is nearest to."""
    row = row_of(["a"], {"a": ["b"]})
    ones = [1, {"c": Real("0.12345678901234567890")}]
    others = [1, {"c": Real("0.1234567890123456789")}]
    assert row({"a": ones, "b": others}) == [ones]
    with pytest.raises(TwoValuesError):
        row({"a": ones, "b": [1, {"c": Real("0.12345678901234567891")}]})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["id"], ("a", "customer")),
        (["id", "customer"], ("a",)),
        (["id", "customer.email"], ("a", "customer.phone", "customer.at")),
        (["customer", "customer.email"], ("id", "a")),
        (["customer.email", "customer"], ("id", "a")),
        (["customer.at.city"], ("id", "a", "customer.email", "customer.phone", "customer.at.zip")),
        (["$"], ()),
        (["id", "$"], ()),
    ],
)
def test_the_names_that_nothing_reads(fields: list[str], expected: tuple[str, ...]) -> None:
    """Those within an object that a path leads through are named with it."""
    event = {"id": 1, "a": [{"x": 1}], "customer": {"email": 1, "phone": 2, "at": {"city": 1}}}
    if "customer.at.city" in fields:
        event["customer"]["at"]["zip"] = 2  # type: ignore[index]
    assert Known(fields, {}).unknown_names(event) == expected
    assert Known(fields[:1], {fields[0]: fields[1:]}).unknown_names(event) == expected
