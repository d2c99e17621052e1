"""SQL's operators over columns of values, where None is unknown and FAILED cannot be computed.

A division by zero fails the row that divides, as Postgres would refuse that row.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import operator
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any


class Failure(Enum):
    """Marks a value that cannot be computed. It is not null."""

    FAILED = 0


FAILED = Failure.FAILED

Operator = Callable[[Any, Any], Any]
Column = Iterable[Any]

# More digits than a product of two values of numeric(38) has.
_EXACT = decimal.Context(prec=100)


def strict(operate: Operator) -> Operator:
    """The operator for values that may be unknown or failed: its result is so, too."""

    def operate_strictly(left: Any, right: Any) -> Any:
        if left is FAILED or right is FAILED:
            return FAILED
        if left is None or right is None:
            return None
        try:
            return operate(left, right)
        except ArithmeticError:
            return FAILED

    return operate_strictly


def both(left: Any, right: Any) -> Any:
    """SQL's ``and``, from left to right: what comes after a false is not looked at."""
    if left is False or left is FAILED:
        return left
    return right if left is True or right is False or right is FAILED else None


def either(left: Any, right: Any) -> Any:
    """SQL's ``or``, from left to right: what comes after a true is not looked at."""
    if left is True or left is FAILED:
        return left
    return right if left is False or right is True or right is FAILED else None


def negated(value: Any) -> Any:
    """SQL's ``not``."""
    return value if value is None or value is FAILED else not value


def _divided(left: int, right: int) -> int:
    """Divide whole numbers as Postgres does: what is after the point is cut off."""
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _finite(operate: Operator) -> Operator:
    def operate_on_floats(left: Any, right: Any) -> float:
        result = operate(float(left), float(right))
        if not math.isfinite(result):
            raise OverflowError
        return float(result)

    return operate_on_floats


def _shifted(sign: int) -> Operator:
    return lambda day, days: day + sign * dt.timedelta(days=days)


# By the kinds of both operands, see expressions.py; `number` is a double.
ARITHMETIC: dict[tuple[str, str], dict[str, Operator]] = {
    ("integer", "integer"): {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": _divided,
    },
    ("decimal", "decimal"): {
        "+": _EXACT.add,
        "-": _EXACT.subtract,
        "*": _EXACT.multiply,
        "/": _EXACT.divide,
    },
    ("number", "number"): {
        "+": _finite(operator.add),
        "-": _finite(operator.sub),
        "*": _finite(operator.mul),
        "/": _finite(operator.truediv),
    },
    ("date", "integer"): {"+": _shifted(1), "-": _shifted(-1)},
    ("integer", "date"): {"+": lambda days, day: _shifted(1)(day, days)},
    ("date", "date"): {"-": lambda end, start: (end - start).days},
}
COMPARISONS: dict[str, Operator] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
