"""Which type a draft gives a column: the first of a list that takes every value that was seen.

This is the only place of a draft that knows the names of types. A type that a column cannot have
is passed over, so the list may be ahead of the types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from etl.config import Column
from etl.crypto.key_ids import MAX_KEY_ID_CHARACTERS
from etl.crypto.tokens import longest_value
from etl.errors import SettingsError
from etl.frames import ABSENT
from etl.operations.draft_words import MONEY, words_of
from etl.reading.cleaning import cleaned
from etl.schema import column_checks

Spec = dict[str, Any]  # the keys of a column, as config.yaml has them

# With room: values get longer, and the exact length could tell one from another.
ROOM = 2
LENGTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
TOKEN_LENGTHS = (256, *LENGTHS[4:])
MAX_INTEGER = 2**31 // 100  # ids and counters grow; above it, bigint
MAX_PRECISION = 38
MONEY_DIGITS = 15  # before the point

_TIME_WORDS = frozenset(
    (
        *("time", "timestamp", "ts", "at", "date", "datetime", "created"),
        *("updated", "modified", "occurred", "sent", "received", "epoch", "expires"),
        *("expiry", "seen", "zeit", "datum", "fecha", "hora", "heure", "quando"),
    )
)
# The years 2001 to 2100, in seconds.
_EPOCHS = {"seconds": 1, "milliseconds": 1_000, "microseconds": 1_000_000}
_FIRST, _LAST = 978_307_200, 4_102_444_800
_OFFSET = re.compile(r"(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})$")


def typed(base: Spec, path: Sequence[str], values: list[Any], *, is_personal: bool) -> Spec | None:
    """Add to a column the type that takes all of its values, and what belongs to the type.

    :param base: name, field, nullable, required
    :param values: of the raw frame
    :param is_personal: the column must be masked
    :returns: None if no type that can be masked, or no type at all, takes the values
    """
    present = [value for value in values if value is not None and value is not ABSENT]
    for candidate in _candidates(path, present, is_personal=is_personal):
        spec = {**base, **candidate}
        if is_personal:
            spec["mask"] = True
        if takes(spec, values):
            return spec
    return None


def takes(spec: Spec, values: list[Any]) -> bool:
    """Whether there is such a column, and every value passes its checks."""
    try:
        column = Column.model_validate(spec)
        checks = column_checks(column)
        read = cleaned(column, values)
    except (ValidationError, SettingsError):
        return False
    return not any(failed(read) for _, failed in checks)


def has_setting(key: str) -> bool:
    """Whether a column has a setting of this name."""
    return key in Column.model_fields


def _candidates(path: Sequence[str], present: list[Any], *, is_personal: bool) -> Iterator[Spec]:
    kinds = {type(value) for value in present}
    words = {*words_of(path[-1])}
    if all(issubclass(kind, str) for kind in kinds):
        yield from _of_texts(words, present, is_personal=is_personal)
    elif kinds == {bool}:
        yield {"type": "boolean"}
    elif kinds == {int}:
        yield from _of_integers(words, present)
    elif all(issubclass(kind, (int, float)) and kind is not bool for kind in kinds):
        yield from _of_numbers(words, present)
    elif kinds == {list}:
        yield from _of_lists(path, present, is_personal=is_personal)
    if not is_personal and not all(issubclass(kind, str) for kind in kinds):
        yield {"type": "json"}


def _of_texts(words: set[str], present: list[str], *, is_personal: bool) -> Iterator[Spec]:
    longest = max((len(text) for text in present), default=0)
    if is_personal:
        # All of a masked column is a token, which is text.
        for kind in ("ip", "uuid", "text"):
            yield from ({"type": kind, **size} for size in _token_sizes(present))
        return
    yield {"type": "uuid"}
    yield {"type": "date"}
    if any(map(_OFFSET.search, present)):
        yield {"type": "timestamp"}
    yield {"type": "datetime"}
    yield {"type": "time"}
    if "version" in words:
        yield {"type": "version"}
    size = next((length for length in LENGTHS if length >= ROOM * longest), None)
    yield {"type": "text", "max_length": size} if size else {"type": "text"}


def _token_sizes(present: list[str]) -> Iterator[Spec]:
    needed = ROOM * max((len(text.encode(errors="replace")) for text in present), default=0)
    for length in TOKEN_LENGTHS:
        if longest_value(length, MAX_KEY_ID_CHARACTERS) >= needed:
            yield {"max_length": length}
            return
    yield {}


def _of_integers(words: set[str], present: list[int]) -> Iterator[Spec]:
    if words & _TIME_WORDS:
        for form, unit in _EPOCHS.items():
            if all(_FIRST <= value / unit < _LAST for value in present):
                yield {"type": "timestamp", "format": form}
    if words & MONEY:
        yield from _decimals(present)
    is_small = all(abs(value) <= MAX_INTEGER for value in present)
    if is_small and not words & {"id", "key"}:
        yield {"type": "integer"}
    yield {"type": "bigint"}
    yield {"type": "decimal"}


def _of_numbers(words: set[str], present: list[Any]) -> Iterator[Spec]:
    if words & MONEY:
        yield from _decimals(present)
    yield {"type": "number"}
    yield {"type": "decimal"}


def _decimals(present: list[Any]) -> Iterator[Spec]:
    """A decimal with room before the point, and at least two digits after it."""
    scale = whole = 0
    for value in present:
        # A number of a message may have more digits than its double.
        number = Decimal(getattr(value, "text", None) or repr(value))
        if not number.is_finite():
            return
        exponent = int(number.as_tuple().exponent)
        scale = max(scale, -exponent)
        whole = max(whole, number.adjusted() + 1)
    scale = max(scale, 2)
    precision = max(MONEY_DIGITS, whole + 3) + scale
    if precision <= MAX_PRECISION:
        yield {"type": "decimal", "precision": precision, "scale": scale}


def _of_lists(path: Sequence[str], present: list[Any], *, is_personal: bool) -> Iterator[Spec]:
    items = [item for value in present for item in value if item is not None]
    has_null = any(item is None for value in present for item in value)
    if not items or any(type(item) in (dict, list) for item in items):
        return
    for item in _candidates(path, items, is_personal=is_personal):
        if item["type"] != "json":
            yield {**item, "array": True} | ({"null_elements": True} if has_null else {})
