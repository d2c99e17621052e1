"""Arrays of the other types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.dialects import postgresql

from etl.fieldtypes.fieldtype import Check, FieldType, TypeSettings, each
from etl.fieldtypes.json_values import json_text
from etl.fieldtypes.texts import TEXT_CHECKS


def array_of(element: FieldType, column: TypeSettings) -> FieldType:
    """A list whose elements are values of a type. Its checks are named for the element's."""
    allowed = {*element.python, type(None)} if column.null_elements else set(element.python)
    checks: list[Check] = []
    if not column.null_elements:
        checks.append(("element null", lambda values: None not in values))
        allowed.add(type(None))
    checks.append(("element type", lambda values: allowed.issuperset(map(type, values))))
    if element.python == (str,):
        checks += [_of_elements(check, element) for check in TEXT_CHECKS]
    checks += [_of_elements(check, element) for check in element.checks]
    if (limit := column.max_length) is not None and element.python == (str,):
        # An address may be stored in fewer characters than it came in.
        size = element.text_length if column.type == "ip" else len
        checks.append(_of_elements(("length", lambda value: size(value) <= limit), element))

    def stored(values: list[Any]) -> list[Any]:
        return [None if value is None else element.stored(value) for value in values]

    def text(values: list[Any]) -> str:
        return json_text([None if value is None else element.text(value) for value in values])

    sql = postgresql.ARRAY(element.sql)
    losses = tuple((name, _any_element(is_lost, element)) for name, is_lost in element.losses)
    return FieldType((list,), tuple(checks), stored, text, sql, each(stored), losses)


def _any_element(is_lost: Callable[[Any], bool], element: FieldType) -> Callable[[Any], bool]:
    return lambda values: any(is_lost(v) for v in values if type(v) in element.python)


def _of_elements(check: Check, element: FieldType) -> Check:
    """A check of a list, which leaves values of another type to the check of the types."""
    name, good = check

    def is_good(values: list[Any]) -> bool:
        return all(good(value) for value in values if type(value) in element.python)

    return f"element {name}", is_good
