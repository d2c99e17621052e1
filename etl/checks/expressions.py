"""Conditions between the columns of a row, such as ``start <= end``, with SQL's logic of nulls.

An expression is parsed as Python's are, but only what is here is understood, and nothing of it is
ever executed by Python. Every part has a kind, known before the first row: the type of a column
(integer for both sizes of whole numbers), or that of a literal. A text in quotes takes the kind of
what it is compared with: ``start >= '2026-01-01'``. This is one file because it is one grammar.
"""

from __future__ import annotations

import ast
import decimal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from itertools import repeat
from typing import Any, NoReturn

from etl.checks.expression_parts import (
    COMPARED,
    NUMERIC,
    ORDERED,
    QUOTED,
    Evaluate,
    Part,
    Rows,
    always,
    named,
    negation,
    over,
    same_kind,
)
from etl.checks.three_valued import ARITHMETIC, COMPARISONS, FAILED, both, either, strict
from etl.config import Column, TableChecks
from etl.errors import SettingsError, suggestion
from etl.reading.literals import written_value

_KINDS = {"smallint": "integer", "bigint": "integer"}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_SIGNS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Eq: "==", ast.NotEq: "!=",
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_WAYS = (
    "write == for equal, != for not equal, and 'and', 'or', 'not', 'in [...]', 'is null' in small "
    "letters; a column with another name as column('...')"
)


class ExpressionError(ValueError):
    """What is wrong with an expression, and at which character."""


@dataclass(frozen=True)
class Expression:
    """A condition that can be evaluated."""

    columns: frozenset[str]  # that it reads
    _evaluate: Evaluate = field(repr=False)

    def failed(self, values: Mapping[str, Sequence[Any]], rows: int) -> list[int]:
        """The positions of the rows that do not meet it; where it is unknown, a row does.

        :param values: converted values of its columns, None for null
        :param rows: how many there are of each
        """
        met = list(self._evaluate((values, rows)))
        if False not in met and FAILED not in met:
            return []
        return [row for row, is_met in enumerate(met) if is_met is False or is_met is FAILED]


def parse(text: str, columns: Sequence[Column]) -> Expression:
    """Parse a condition on these columns.

    :raises ExpressionError: it is not one; says what is wrong, and where
    """
    # In parentheses it may have several lines.
    written = f"({text}\n)"
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(written.replace("\0", "\ufffd"), mode="eval").body
        parser = _Parser(written, {column.name: column for column in columns})
        condition = parser.part(tree)
    except SyntaxError as error:
        lines = written.split("\n")[: max((error.lineno or 1) - 1, 0)]
        place = sum(len(line) + 1 for line in lines) + (error.offset or 1) - 1
        place = min(max(place, 1), len(text))
        raise ExpressionError(f"at character {place}: this cannot be read; {_WAYS}") from None
    except (RecursionError, MemoryError):
        raise ExpressionError("is nested too deeply") from None
    except ExpressionError:
        raise
    except ValueError:  # such as a number of thousands of digits
        raise ExpressionError("has a value that cannot be read") from None
    if condition.kind != "boolean":
        raise ExpressionError(f"is a value of type {condition.kind}, and not a condition")
    return Expression(frozenset(parser.read), condition.evaluate)


def row_checks(rules: TableChecks, columns: tuple[Column, ...]) -> list[tuple[str, Expression]]:
    """The conditions by name.

    :raises SettingsError: one of them cannot be read
    """
    parsed = []
    for check in rules.checks:
        try:
            parsed.append((check.name, parse(check.expression, columns)))
        except ExpressionError as error:
            raise SettingsError(
                f"{rules.section}.checks: check {check.name!r}: its expression {error}"
            ) from None
    return parsed


class _Parser:
    def __init__(self, written: str, columns: Mapping[str, Column]) -> None:
        self._written = written
        self._columns = columns
        self.read: set[str] = set()

    def part(self, node: ast.expr) -> Part:
        """Understand one part."""
        if isinstance(node, ast.Constant):
            return self._literal(node, node.value)
        if isinstance(node, ast.Name) and node.id.lower() in _WORDS:
            return self._literal(node, _WORDS[node.id.lower()])
        if isinstance(node, (ast.Name, ast.Call)):
            return self._value_of(node)
        if isinstance(node, ast.BoolOp):
            return self._joined(node)
        if isinstance(node, ast.UnaryOp):
            return self._signed(node)
        if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
            return self._computed(node, _SIGNS[type(node.op)])
        if isinstance(node, ast.Compare):
            return self._compared(node)
        return self._refuse(node, f"this is not allowed; {_WAYS}")

    def _place(self, node: ast.expr) -> int:
        lines = self._written.split("\n")
        before = lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="ignore")
        return sum(len(line) + 1 for line in lines[: node.lineno - 1]) + len(before)

    def _refuse(self, node: ast.expr, problem: str) -> NoReturn:
        raise ExpressionError(f"at character {self._place(node)}: {problem}")

    def _literal(self, node: ast.expr, value: Any) -> Part:
        place = self._place(node)
        if type(value) is bool:
            return Part("boolean", always(value), place)
        if type(value) is int:
            return Part("integer", always(value), place)
        if type(value) is float:
            written = ast.get_source_segment(self._written, node) or ""
            number = decimal.Decimal(written.replace("_", ""))
            return Part("decimal", always(number), place)
        if type(value) is str:
            return Part(QUOTED, always(value), place, text=value)
        return self._refuse(node, "null is only allowed in 'is null' and 'is not null'")

    def _column(self, node: ast.expr) -> Column:
        name = None
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            match node.args:
                case [ast.Constant(value=str(given))] if node.func.id == "column":
                    name = None if node.keywords else given
        if name is None:
            self._refuse(node, f"this is not allowed; {_WAYS}")
        if name not in self._columns:
            known = suggestion(name, self._columns)
            self._refuse(node, f"{name!r} is not a column of the table{known}")
        self.read.add(name)
        return self._columns[name]

    def _value_of(self, node: ast.expr) -> Part:
        column = self._column(node)
        if column.mask:
            self._refuse(
                node,
                f"column {column.name!r} is masked, and an expression may only ask whether it is "
                "null",
            )
        kind = _KINDS.get(column.type, column.type)
        if column.array or column.network:
            kind = "array" if column.array else "network"
        name = column.name
        return Part(kind, lambda rows: rows[0][name], self._place(node), column=column)

    def _joined(self, node: ast.BoolOp) -> Part:
        join = both if isinstance(node.op, ast.And) else either
        conditions = [self._condition(value).evaluate for value in node.values]
        return Part("boolean", reduce(partial(over, join), conditions), self._place(node))

    def _condition(self, node: ast.expr) -> Part:
        part = self.part(node)
        if part.kind != "boolean":
            self._refuse(node, f"a condition is needed here, and this is {named(part)}")
        return part

    def _signed(self, node: ast.UnaryOp) -> Part:
        if isinstance(node.op, ast.Not):
            inner = self._condition(node.operand).evaluate
            return Part("boolean", negation(inner), self._place(node))
        part = self.part(node.operand)
        if part.kind not in NUMERIC or isinstance(node.op, ast.Invert):
            self._refuse(node, f"this sign is not allowed before {named(part)}")
        if isinstance(node.op, ast.UAdd):
            return part
        subtract = strict(ARITHMETIC[part.kind, part.kind]["-"])
        values = part.evaluate
        zero = decimal.Decimal(0) if part.kind == "decimal" else 0
        return Part(
            part.kind, lambda rows: map(subtract, repeat(zero), values(rows)), self._place(node)
        )

    def _computed(self, node: ast.BinOp, sign: str) -> Part:
        left, right = self.part(node.left), self.part(node.right)
        if left.kind in NUMERIC and right.kind in NUMERIC:
            left, right = same_kind(left, right)
        operate = ARITHMETIC.get((left.kind, right.kind), {}).get(sign)
        if operate is None:
            self._refuse(node, f"{named(left)} and {named(right)} cannot be put together by {sign}")
        kind = left.kind
        if {left.kind, right.kind} == {"date", "integer"}:
            kind = "date"
        elif left.kind == "date":
            kind = "integer"  # of days
        return Part(kind, over(strict(operate), left.evaluate, right.evaluate), self._place(node))

    def _compared(self, node: ast.Compare) -> Part:
        """One comparison, or several as in ``0 < a <= b``, which must all hold."""
        conditions = self._comparisons(node)
        return Part("boolean", reduce(partial(over, both), conditions), self._place(node))

    def _comparisons(self, node: ast.Compare) -> Iterator[Evaluate]:
        left = node.left
        for operation, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operation, (ast.Is, ast.IsNot)):
                yield self._null_test(left, right, isinstance(operation, ast.Is))
            elif isinstance(operation, (ast.In, ast.NotIn)):
                found = self._membership(left, right)
                yield found if isinstance(operation, ast.In) else negation(found)
            else:
                yield self._comparison(left, right, _SIGNS[type(operation)])
            left = right

    def _null_test(self, node: ast.expr, null: ast.expr, is_null: bool) -> Evaluate:
        word = null.id.lower() if isinstance(null, ast.Name) else ""
        if word != "null" and not (isinstance(null, ast.Constant) and null.value is None):
            self._refuse(null, "'is' and 'is not' only go with null")
        name = self._column(node).name
        if is_null:
            return lambda rows: [value is None for value in rows[0][name]]
        return lambda rows: [value is not None for value in rows[0][name]]

    def _comparison(self, left_node: ast.expr, right_node: ast.expr, sign: str) -> Evaluate:
        left, right = self._comparable(left_node, right_node)
        if left.kind not in ORDERED and sign not in ("==", "!="):
            self._refuse(left_node, f"{named(left)} can only be compared by == and !=")
        return over(strict(COMPARISONS[sign]), left.evaluate, right.evaluate)

    def _comparable(self, left_node: ast.expr, right_node: ast.expr) -> tuple[Part, Part]:
        left, right = self.part(left_node), self.part(right_node)
        for node, part in ((left_node, left), (right_node, right)):
            if part.kind not in (*COMPARED, QUOTED):
                self._refuse(node, f"{named(part)} can only be asked whether it is null")
        if right.kind == QUOTED:
            right = self._as_value_of(right_node, right, left)
        elif left.kind == QUOTED:
            left = self._as_value_of(left_node, left, right)
        if left.kind in NUMERIC and right.kind in NUMERIC:
            return same_kind(left, right)
        if left.kind != right.kind:
            self._refuse(left_node, f"{named(left)} cannot be compared with {named(right)}")
        return left, right

    def _as_value_of(self, node: ast.expr, quoted: Part, other: Part) -> Part:
        """A text in quotes as a value of what it is compared with."""
        column = other.column
        if other.kind in (QUOTED, "text") or (column is None and other.kind != "date"):
            return Part("text", quoted.evaluate, quoted.place)
        if column is None:
            column = Column(name="date", field="date", type="date")
        try:
            value = written_value(column, quoted.text)
        except ValueError as error:
            self._refuse(node, f"this text {error}")
        return Part(other.kind, always(value), quoted.place)

    def _membership(self, node: ast.expr, choices: ast.expr) -> Evaluate:
        left = self.part(node)
        listed = choices.elts if isinstance(choices, (ast.List, ast.Tuple)) else [choices]
        if not listed or not all(
            isinstance(choice, (ast.Constant, ast.UnaryOp)) for choice in listed
        ):
            self._refuse(choices, "'in' needs a list of values: in ['RU', 'US']")
        found: set[Any] = set()
        for choice in listed:
            _, value = self._comparable(node, choice)
            found.update(value.evaluate(({}, 1)))
        values = left.evaluate

        def evaluate(rows: Rows) -> Any:
            return [
                value if value is None or value is FAILED else value in found
                for value in values(rows)
            ]

        return evaluate
