"""What the values of a column must be, besides values of its type."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from etl.config.section import Section

Name = Literal["in", "matches", "min", "max", "min_length", "unique"]


class ColumnChecks(Section):
    """Checks of the values that a column would store, or, if it is masked, of the plain values.

    A null passes all of them.
    """

    allowed: tuple[str, ...] | None = Field(
        None, alias="in", min_length=1, max_length=10_000, description="the only values allowed"
    )
    matches: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="type text: a regular expression that the whole value must match, in the "
        "syntax of Rust's regex, without look-around and backreferences",
    )
    minimum: str | None = Field(
        None,
        alias="min",
        description="smallest value allowed, written as a value of the column: 2026-01-01",
    )
    maximum: str | None = Field(None, alias="max", description="largest value allowed")
    min_length: int | None = Field(
        None, ge=1, le=10_485_760, description="type text: minimum number of characters"
    )
    unique: bool = Field(
        False, description="within a batch, load only the first of the rows with the same value"
    )
    warn: tuple[Name, ...] = Field(
        (), description="which of these checks only count what fails, and reject nothing"
    )

    @property
    def check_names(self) -> tuple[Name, ...]:
        """The checks that the column has, in order."""
        configured: dict[Name, bool] = {
            "in": self.allowed is not None,
            "matches": self.matches is not None,
            "min": self.minimum is not None,
            "max": self.maximum is not None,
            "min_length": self.min_length is not None,
            "unique": self.unique,
        }
        return tuple(name for name, is_configured in configured.items() if is_configured)

    @model_validator(mode="after")
    def _check_warn(self) -> Self:
        for name in self.warn:
            if name not in self.check_names:
                raise ValueError(f"'warn' lists {name!r}, which this column does not check")
        return self
