"""The checks that a column's configuration adds to those of its type.

They look at the values as they would be stored, so that 2.3 and 2.3.0 are one version and dates
are compared as dates; in a masked column, at the values before they are masked. A null passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter
from pydantic_core import SchemaError

from etl.checks.searches import Failed
from etl.config import Column
from etl.errors import SettingsError
from etl.fieldtypes import Values
from etl.reading.literals import written_value

Check = tuple[str, Callable[[Values], Failed]]

UNIQUE = "unique"
ORDERED = (
    "version", "smallint", "integer", "bigint", "number", "decimal", "date", "time", "timestamp",
    "datetime",
)  # fmt: skip


def value_checks(column: Column) -> list[Check]:
    """The checks of a column by name, without :data:`UNIQUE`.

    Each takes converted values, None for null, and returns the positions of those that fail it.

    :raises SettingsError: a check has no meaning for the type, or its value is not of the type
    """
    if column.check_names and (column.array or column.type == "json"):
        raise SettingsError(
            f"column {column.name!r}: {column.check_names[0]!r} is not for "
            f"{'an array' if column.array else 'a column of type json'}"
        )
    checks: list[Check] = []
    if column.allowed is not None:
        if column.network:
            raise SettingsError(f"column {column.name!r}: 'in' is not for a column with a network")
        allowed = frozenset(_written(column, "in", text) for text in column.allowed)
        checks.append(("in", partial(_not_in, allowed=allowed | {None})))
    if column.matches is not None:
        _check_type(column, "matches", ("text",))
        checks.append(("matches", _not_matching(column, column.matches)))
    low = high = None
    if column.minimum is not None:
        _check_type(column, "min", ORDERED)
        low = _written(column, "min", column.minimum)
        checks.append(("min", partial(_below, low=low)))
    if column.maximum is not None:
        _check_type(column, "max", ORDERED)
        high = _written(column, "max", column.maximum)
        checks.append(("max", partial(_above, high=high)))
    if low is not None and high is not None and low > high:
        raise SettingsError(f"column {column.name!r}: 'min' is larger than 'max'")
    if column.min_length is not None:
        _check_type(column, "min_length", ("text",))
        checks.append(("min_length", partial(_shorter, length=column.min_length)))
    if column.mask and column.type not in ("text", "ip"):
        return [(name, partial(_of_texts, column=column, failed=failed)) for name, failed in checks]
    return checks


def repeated(values: Values) -> Failed:
    """The positions of the values that an earlier row has; nulls are all different."""
    present = [value for value in values if value is not None]
    if len(set(present)) == len(present):
        return []
    seen: set[Any] = set()
    failed = []
    for row, value in enumerate(values):
        if value in seen:
            failed.append(row)
        elif value is not None:
            seen.add(value)
    return failed


def _of_texts(values: Values, *, column: Column, failed: Callable[[Values], Failed]) -> Failed:
    """Search values that are written as text already, since they are to be masked."""
    read = {text: written_value(column, text) for text in set(values) if text is not None}
    return failed([None if text is None else read[text] for text in values])


def _check_type(column: Column, check: str, types: Sequence[str]) -> None:
    if column.type not in types:
        raise SettingsError(
            f"column {column.name!r}: {check!r} is for a column of type {' or '.join(types)}"
        )


def _written(column: Column, check: str, text: str) -> Any:
    try:
        return written_value(column, text)
    except ValueError as error:
        raise SettingsError(f"column {column.name!r}: {check!r} {error}") from None


def _not_in(values: Values, allowed: frozenset[Any]) -> Failed:
    if allowed.issuperset(values):
        return []
    return [row for row, value in enumerate(values) if value not in allowed]


def _below(values: Values, low: Any) -> Failed:
    present = [value for value in values if value is not None]
    if not present or min(present) >= low:
        return []
    return [row for row, value in enumerate(values) if value is not None and value < low]


def _above(values: Values, high: Any) -> Failed:
    present = [value for value in values if value is not None]
    if not present or max(present) <= high:
        return []
    return [row for row, value in enumerate(values) if value is not None and value > high]


def _shorter(values: Values, length: int) -> Failed:
    present = [value for value in values if value is not None]
    if not present or min(map(len, present)) >= length:
        return []
    return [row for row, value in enumerate(values) if value is not None and len(value) < length]


def _not_matching(column: Column, pattern: str) -> Callable[[Values], Failed]:
    """The search for texts that do not match as a whole.

    By the regular expressions of Rust, which pydantic brings: they take time in proportion to the
    length of a text, whatever the expression. See docs/decisions/0037-linear-expressions.md.
    """
    try:
        TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])  # alone: it is whole
        whole = StringConstraints(strict=True, pattern=rf"\A(?:{pattern})\z")
        one = TypeAdapter(Annotated[str, whole]).validator
        column_of_them = TypeAdapter(list[Annotated[str, whole] | None]).validator
    except SchemaError as error:
        reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
        raise SettingsError(
            f"column {column.name!r}: 'matches' is not a regular expression that can be used here: "
            f"{reason}"
        ) from None

    def search(values: Values) -> Failed:
        if column_of_them.isinstance_python(values):
            return []
        return [
            row
            for row, value in enumerate(values)
            if value is not None and not one.isinstance_python(value)
        ]

    return search
