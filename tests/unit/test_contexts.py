"""The lines that an error about contexts shows can be written into the configuration."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import yaml

from etl.config import Table
from etl.errors import SettingsError
from etl.postgres.contexts import FirstLoad, check, is_canonical
from etl.schema import masked_columns

NOW = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)


def table(*columns: dict[str, Any]) -> Table:
    """A table of these columns, which are masked text unless they say more."""
    return Table.model_validate({"columns": [{"type": "text", "mask": True, **c} for c in columns]})


def first_load(of: Table) -> list[FirstLoad]:
    """What a first run remembers."""
    return [
        FirstLoad(
            c.name, c.masking_context, is_canonical(c), list(c.fields), "job", NOW, c.token_steps
        )
        for c in masked_columns(of)
    ]


A = {"name": "a", "field": "x"}
B = {"name": "b", "field": "y"}
IP = {"name": "a", "field": "x", "type": "ip"}
CLEANED = {**A, "clean": ["strip", "lower"]}
PICKED = {**A, "pick": "last", "clean": ["nfc"]}

# The columns of the first run, those of the next, and the fields of each that the lines name.
CASES: dict[str, tuple[list[Any], list[Any], dict[str, Any]]] = {
    "renamed": ([A, B], [{**A, "field": "new"}, B], {"a": ["x", "new"]}),
    "renamed twice": (
        [{**A, "field": ["x", "older"]}, B],
        [{**A, "field": "new"}, B],
        {"a": ["x", "older", "new"]},
    ),
    "the first name taken out": (
        [{**A, "field": ["x", "z"]}],
        [{**A, "field": "z"}],
        {"a": ["x", "z"]},
    ),
    "swapped": ([A, B], [{**A, "field": "y"}, {**B, "field": "x"}], {"a": "x", "b": "y"}),
    "moved on": (
        [A, B],
        [{**A, "field": "y"}, {**B, "field": "z"}],
        {"a": "x", "b": ["y", "z"]},
    ),
    "taken by a plain column": (
        [A],
        [{**A, "field": "new"}, {"name": "c", "field": "x", "mask": False}],
        {"a": "new"},
    ),
    "taken by a new masked column": (
        [A],
        [{**A, "field": "new"}, {"name": "c", "field": "x"}],
        {"a": "new"},
    ),
    "taken as the name of a column": (
        [A],
        [{**A, "field": "new"}, {"name": "x", "field": "z", "mask": False}],
        {"a": "new"},
    ),
    "a context": ([A], [{**A, "context": "c"}], {"a": "x"}),
    "a context taken out": ([{**A, "context": "c"}], [A], {"a": "x"}),
    "a context that YAML would misread": ([{**A, "context": "no: #1"}], [A], {"a": "x"}),
    "a field that YAML would misread": ([{**A, "field": "0100"}], [A], {"a": ["0100", "x"]}),
    "not canonical": ([IP], [{**IP, "canonical": False}], {"a": "x"}),
    "canonical": ([{**IP, "canonical": False}], [IP], {"a": "x"}),
    "text, not an address": ([IP], [A], {"a": "x"}),
    "an address, not text": ([A], [IP], {"a": "x"}),
    "cleaned from now on": ([A], [CLEANED], {"a": "x"}),
    "not cleaned from now on": ([CLEANED], [A], {"a": "x"}),
    "cleaned in another order": ([CLEANED], [{**A, "clean": ["lower", "strip"]}], {"a": "x"}),
    "one of a list": ([A], [{**A, "pick": "first"}], {"a": "x"}),
    "another one of a list": ([PICKED], [{**PICKED, "pick": "first"}], {"a": "x"}),
    "a cleaned text, and now an address": ([CLEANED], [{**IP, "accept": ["port"]}], {"a": "x"}),
    "a text, and now a cleaned address": ([A], [{**IP, "clean": ["strip"]}], {"a": "x"}),
    "a cleaned text, and now a network": (
        [PICKED],
        [{**IP, "mask": False, "network": {"v4": 24}}],
        {"a": "x"},
    ),
    "a text, and now a number that may be text": (
        [A],
        [{**A, "mask": False, "type": "integer", "accept": ["text"]}],
        {"a": "x"},
    ),
    "not masked": ([A, B], [{**A, "mask": False}, B], {"a": "x"}),
    "not masked, and a number": ([A], [{**A, "type": "integer", "mask": False}], {"a": "x"}),
    "not masked, and a time": (
        [A],
        [{"name": "a", "attribute": "SentTimestamp", "type": "date", "mask": False}],
        {"a": "x"},
    ),
    "with all that a column may say": (
        [{**A, "nullable": True}],
        [{**A, "field": "new", "nullable": True, "required": False, "max_length": 300}],
        {"a": ["x", "new"]},
    ),
    "everything": (
        [IP, B],
        [{**A, "field": "y", "mask": False}, {**B, "field": "x", "context": "z", "type": "ip"}],
        {"a": "x", "b": "y"},
    ),
}


@pytest.mark.parametrize(("before", "after", "fields"), CASES.values(), ids=CASES)
def test_the_lines_of_the_error_repair_the_configuration(
    before: list[Any], after: list[Any], fields: dict[str, Any]
) -> None:
    """With them the columns are masked as in the first run, and read the old and the new fields."""
    known = first_load(table(*before))
    with pytest.raises(SettingsError) as caught:
        check(table(*after), known)
    lines = yaml.safe_load("\n".join(str(caught.value).splitlines()[1:]))
    assert {column["name"]: column["field"] for column in lines} == fields
    written = {column["name"]: column for column in lines}
    repaired = table(*(written.get(column["name"], column) for column in after))
    check(repaired, known)
    kept = {"nullable", "required", "max_length"}
    for column in after:
        assert {k: written.get(column["name"], column).get(k) for k in kept} == {
            k: column.get(k) for k in kept
        }


SAME: dict[str, tuple[list[Any], list[Any]]] = {
    "nothing": ([A, B], [A, B]),
    "another name behind": ([A], [{**A, "field": ["x", "new"]}]),
    "another name with the context": ([A], [{**A, "field": "new", "context": "x"}]),
    "another order with the context": ([A], [{**A, "field": ["new", "x"], "context": "x"}]),
    "the context written out": ([A], [{**A, "context": "x"}]),
    "canonical text": ([A], [{**A, "canonical": False}]),
    "text and an address that is not canonical": ([A], [{**IP, "canonical": False}]),
    "an address cleaned from now on": (
        [IP],
        [{**IP, "clean": ["strip", "lower"], "pick": "last", "accept": ["port"]}],
    ),
    "null values": ([CLEANED], [{**CLEANED, "null_values": ["unknown"]}]),
    "a masked column more": ([A], [A, B]),
    "a masked column less": ([A, B], [A]),
    "masked from now on": ([A, {**B, "mask": False}], [A, B]),
}


@pytest.mark.parametrize(("before", "after"), SAME.values(), ids=SAME)
def test_a_change_that_keeps_the_tokens_is_accepted(before: list[Any], after: list[Any]) -> None:
    """Equal values get equal tokens under both configurations."""
    check(table(*after), first_load(table(*before)))
