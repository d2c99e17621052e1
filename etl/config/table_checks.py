"""Checks of whole rows and whole batches of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Protocol, Self

from pydantic import Field, field_validator, model_validator

from etl.config.section import Section
from etl.errors import shown_name

# As a reason of the quarantine it is printed after its column and a colon.
CheckName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00-\x1f\x7f:]+$")]
# A dotted module, a colon and a function.
FunctionName = Annotated[
    str,
    Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"),
]
MAX_EXPRESSION_CHARACTERS = 1000


class RowCheck(Section):
    """A condition between the columns of a row."""

    name: CheckName = Field(description="name of the check in the quarantine")
    expression: str = Field(
        min_length=1,
        max_length=MAX_EXPRESSION_CHARACTERS,
        description="condition that every row must meet, unless a null keeps it unknown: "
        "`start <= end`",
    )
    severity: Literal["reject", "warn"] = Field(
        "reject", description="warn: count the rows that fail it, and load them"
    )


class RowLimits(Section):
    """How many rows of a batch may be loaded."""

    minimum: int | None = Field(None, alias="min", ge=0, description="least number of rows")
    maximum: int | None = Field(None, alias="max", ge=0, description="largest number of rows")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.minimum is None and self.maximum is None:
            raise ValueError("needs 'min' or 'max'")
        if None not in (self.minimum, self.maximum) and self.minimum > self.maximum:  # type: ignore[operator]
            raise ValueError("'min' is larger than 'max'")
        return self


class NullShare(Section):
    """How many values of a column may be null."""

    column: str = Field(description="column of the table")
    maximum: float = Field(alias="max", ge=0, le=1, description="largest share of nulls: 0.5")


class BatchCheck(Section):
    """A condition that the rows of a batch must meet together."""

    name: CheckName = Field(description="name of the check")
    rows: RowLimits | None = Field(None, description="number of rows that pass all other checks")
    null_share: NullShare | None = Field(None, description="share of nulls among these rows")
    min_messages: int = Field(
        100, ge=1, description="number of messages in a batch from which on the check applies"
    )
    severity: Literal["stop", "warn"] = Field(
        "stop",
        description="stop: release the batch and stop the run (exit code 3); warn: count its "
        "messages, and load it",
    )

    @model_validator(mode="after")
    def _check_condition(self) -> Self:
        if (self.rows is None) == (self.null_share is None):
            raise ValueError("needs 'rows' or 'null_share', and not both")
        return self


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class TableChecks(Section):
    """What the rows of a table must meet, besides the checks of each column."""

    section: ClassVar[str] = "table"  # of the configuration

    checks: tuple[RowCheck, ...] = Field((), description="conditions between columns of a row")
    batch_checks: tuple[BatchCheck, ...] = Field((), description="conditions for a whole batch")
    python_checks: FunctionName | None = Field(
        None,
        description="`module:function` that returns a pandera DataFrameSchema for the rows; it "
        "sees plain values",
    )

    @field_validator("checks", "batch_checks")
    @classmethod
    def _check_distinct_checks(cls, checks: tuple[_Named, ...]) -> tuple[_Named, ...]:
        _check_distinct([check.name for check in checks])
        return checks


def _check_distinct(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"check {shown_name(name)} is listed twice")
