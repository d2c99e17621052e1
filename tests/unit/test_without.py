"""Hidden places are taken out of decoded values, whatever these look like."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.frames import ABSENT
from etl.reading.without import without


@pytest.mark.parametrize(
    ("places", "value", "left"),
    [
        ([("a",)], {"a": 1, "b": 2}, {"b": 2}),
        ([("a", "b")], {"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}),
        ([("a", "b")], {"a": [{"b": 1}, {"b": 2, "c": 3}]}, {"a": [{}, {"c": 3}]}),
        ([("a", "b")], {"a": [[{"b": 1}]]}, {"a": [[{}]]}),
        ([("a", "b"), ("a",)], {"a": {"c": 1}}, {}),
        ([("a",), ("a", "b")], {"a": {"c": 1}}, {}),
        ([("a", "b"), ("a", "c")], {"a": {"b": 1, "c": 2, "d": 3}}, {"a": {"d": 3}}),
        ([("a", "b")], {"a": '{"b": 1}'}, {}),
        ([("a", "b")], {"a": ['{"b": 1}', 1, None]}, {"a": [None]}),
        ([("a", "b")], {"a": None, "b": "kept"}, {"a": None, "b": "kept"}),
        ([("a", "b")], {"a": 4111111111111234, "c": True}, {"c": True}),
        ([("a",)], 4111111111111234, None),
        ([("a",)], '{"a": 1}', None),
        ([("a",)], None, None),
        ([("a",)], ABSENT, ABSENT),
        ([("a",)], [{"a": 1}, "b"], [{}]),
    ],
)
def test_what_is_at_a_place_is_taken_out(places: Any, value: Any, left: Any) -> None:
    """A text where an object is expected may hold it, and goes too."""
    before = copy.deepcopy(value)
    assert without(places)(value) == left
    assert value == before


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.recursive(
    st.none() | st.just(1) | st.just("secret"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def hidden(value: Any, place: tuple[str, ...]) -> Any:
    """Everything at a place, whatever lists are on the way."""
    if isinstance(value, list):
        return [found for item in value for found in hidden(item, place)]
    if not place:
        return [value]
    if isinstance(value, dict) and place[0] in value:
        return hidden(value[place[0]], place[1:])
    return [value] if isinstance(value, str) else []


@given(VALUES, st.lists(st.lists(NAMES, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3))
def test_nothing_is_left_at_any_place(value: Any, places: list[tuple[str, ...]]) -> None:
    """And twice is as once."""
    left = without(places)(value)
    assert [found for place in places for found in hidden(left, place)] == []
    assert without(places)(left) == left
    assert json.dumps(left).count("secret") <= json.dumps(value).count("secret")
