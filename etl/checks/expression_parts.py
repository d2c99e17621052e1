"""The parts of an expression: their kinds, and how their values are computed."""

from __future__ import annotations

import decimal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from etl.checks.three_valued import FAILED, negated
from etl.config import Column

# Values by column, and how many there are of each.
Rows = tuple[Mapping[str, Sequence[Any]], int]
Evaluate = Callable[[Rows], Any]  # an iterable of one value a row

NUMERIC = ("integer", "decimal", "number")
ORDERED = (*NUMERIC, "version", "date", "time", "timestamp", "datetime")
COMPARED = (*ORDERED, "text", "ip", "boolean", "uuid")
QUOTED = "a text in quotes"


@dataclass(frozen=True)
class Part:
    """A part of an expression: its kind, and how its values are computed."""

    kind: str
    evaluate: Evaluate = field(repr=False)
    place: int  # in the expression, from 1
    text: str = ""  # of a text in quotes
    column: Column | None = None  # whose values these are


def named(part: Part) -> str:
    """A part, as an error names it."""
    if part.column is not None:
        return f"column {part.column.name!r} (type {part.column.type})"
    return part.kind if part.kind == QUOTED else f"a value of type {part.kind}"


def always(value: Any) -> Evaluate:
    """The same value for every row."""
    return lambda rows: repeat(value, rows[1])


def over(operate: Callable[[Any, Any], Any], left: Evaluate, right: Evaluate) -> Evaluate:
    """How the values of two parts are put together."""
    return lambda rows: map(operate, left(rows), right(rows))


def negation(evaluate: Evaluate) -> Evaluate:
    """The opposite of a condition."""
    return lambda rows: map(negated, evaluate(rows))


def same_kind(left: Part, right: Part) -> tuple[Part, Part]:
    """Two numbers of one kind: a double is stronger than a decimal, and that than an integer."""
    kind = max(left.kind, right.kind, key=NUMERIC.index)
    return _as_kind(left, kind), _as_kind(right, kind)


def _as_kind(part: Part, kind: str) -> Part:
    if part.kind == kind:
        return part
    values = part.evaluate
    if part.kind == "integer" and kind == "number":
        # Compared as it is, since not every large integer is a double.
        return Part(kind, values, part.place, column=part.column)
    convert = decimal.Decimal if kind == "decimal" else float

    def evaluate(rows: Rows) -> Any:
        return (
            value if value is None or value is FAILED else convert(value) for value in values(rows)
        )

    return Part(kind, evaluate, part.place, column=part.column)
