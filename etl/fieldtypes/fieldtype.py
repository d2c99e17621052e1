"""What is known of a type, and how the values of a column are converted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

Values = Sequence[Any]
Check = tuple[str, Callable[[Any], bool]]


class NetworkSettings(Protocol):
    """How many of an address's first bits are kept."""

    @property
    def v4(self) -> int:
        """Of IPv4."""

    @property
    def v6(self) -> int:
        """Of IPv6."""


class TypeSettings(Protocol):
    """What a type needs to know of its column, which is an ``etl.config.Column``."""

    @property
    def type(self) -> str:
        """Name of the type."""

    @property
    def max_length(self) -> int | None:
        """Maximum number of characters."""

    @property
    def precision(self) -> int | None:
        """Number of digits of a decimal."""

    @property
    def scale(self) -> int | None:
        """How many of them come after the point."""

    @property
    def format(self) -> str | None:
        """How a time is written."""

    @property
    def array(self) -> bool:
        """Whether a value is a list."""

    @property
    def null_elements(self) -> bool:
        """Whether there may be null in it."""

    @property
    def canonical(self) -> bool:
        """Whether addresses are brought into one spelling."""

    @property
    def accept(self) -> tuple[str, ...]:
        """What a value may be besides, such as a leap second."""

    @property
    def network(self) -> NetworkSettings | None:
        """The part of an address that is stored."""

    @property
    def mask(self) -> bool | str:
        """Whether, or how, the value is masked."""


@dataclass(frozen=True)
class FieldType:
    """One type, with the settings of its column.

    A value is a decoded value of an event that is neither null nor absent. A check takes one of the
    right Python type; what follows takes one that has passed the checks.
    """

    python: tuple[type, ...]
    checks: tuple[Check, ...]
    stored: Callable[[Any], Any]  # what the table gets of a value
    text: Callable[[Any], str]  # the same text for each spelling of a value
    sql: sa.types.TypeEngine[Any]
    convert: Callable[[Values], Any]  # stored() of a column, as a list or an array; keeps null
    # What is accepted although a part is lost: the word of ``accept``, and whether it applies.
    losses: tuple[Check, ...] = ()

    def is_valid(self, value: Any) -> bool:
        """Whether a value passes the checks of the type."""
        return type(value) in self.python and all(good(value) for _, good in self.checks)

    def text_length(self, value: Any) -> int:
        """The number of characters of a value's text; 0 if it is not a valid value."""
        return len(self.text(value)) if self.is_valid(value) else 0


def keep(value: Any) -> Any:
    """Return the same."""
    return value


def each(stored: Callable[[Any], Any]) -> Callable[[Values], list[Any]]:
    """Convert every value of a column by itself."""
    return lambda values: [None if value is None else stored(value) for value in values]


def distinct(stored: Callable[[str], Any]) -> Callable[[Values], list[Any]]:
    """Convert each distinct text once: versions repeat a lot, addresses a little."""

    def convert(values: Values) -> list[Any]:
        converted = {value: None if value is None else stored(value) for value in set(values)}
        return [converted[value] for value in values]

    return convert


def nullable_array(dtype: str, convert: Callable[[Values], Values] = list) -> Any:
    """Convert a column to one of pandas' nullable arrays.

    A single null would turn the integers of a plain array into floats.
    """

    def convert_all(values: Values) -> Any:
        import pandas as pd

        array: Callable[..., Any] = pd.array
        return array(convert(values), dtype=dtype)

    return convert_all


def succeeds(parse: Callable[[Any], object]) -> Callable[[Any], bool]:
    """A check that passes what a function takes without a ValueError."""

    def check(value: Any) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def between(low: Any, high: Any) -> Callable[[Any], bool]:
    """A check that passes both bounds and what is between them."""
    return lambda value: bool(low <= value <= high)
