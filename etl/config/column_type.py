"""What a column holds: its type, and whether it may be null."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from etl.config.section import Section

# The types that tell when something happened.
TIMES = ("date", "timestamp", "datetime")


class ColumnType(Section):
    """The type of a column's values."""

    type: Literal[
        "text",
        "ip",
        "version",
        "smallint",
        "integer",
        "bigint",
        "number",
        "decimal",
        "boolean",
        "date",
        "time",
        "timestamp",
        "datetime",
        "uuid",
        "bytes",
        "json",
    ] = Field(
        description="type of the value; version: '2.3.0' is stored as the integer 2003000 (major x "
        "1,000,000 + minor x 1,000 + patch); '2.3' and '2.03' are the same version"
    )
    max_length: int | None = Field(
        None,
        ge=1,
        le=10_485_760,
        description="maximum number of characters; in a masked column, of characters in the token",
    )
    precision: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="type decimal: number of digits; null: up to 1,000 before and after the point",
    )
    scale: int | None = Field(
        None, ge=0, description="type decimal: how many of them come after the point"
    )
    format: Literal["rfc3339", "seconds", "milliseconds", "microseconds"] | None = Field(
        None,
        description="type timestamp: RFC 3339 (the default), or a number since 1970 UTC; type "
        "datetime: null (no offset), or one of these, stored as the time in UTC",
    )
    array: bool = Field(False, description="a list of values of the type, stored as an array")
    null_elements: bool = Field(False, description="allow null in the list")
    nullable: bool = Field(False, description="allow null")
    required: bool = Field(
        True, description="the field must be present; if false, a missing field counts as null"
    )

    @model_validator(mode="after")
    def _check_type(self) -> Self:
        if self.type != "decimal" and (self.precision, self.scale) != (None, None):
            raise ValueError("only a column of type 'decimal' has a 'precision' and a 'scale'")
        if self.scale is not None and (self.precision is None or self.scale > self.precision):
            raise ValueError("'scale' must be at most 'precision', which must be there too")
        if self.format is not None and self.type not in ("timestamp", "datetime"):
            raise ValueError("only a column of type 'timestamp' or 'datetime' has a 'format'")
        if self.array and self.type == "json":
            raise ValueError("a list is a value of type 'json': take 'array' out")
        if self.null_elements and not self.array:
            raise ValueError("has 'null_elements', which only a column with 'array: true' has")
        return self

    @model_validator(mode="after")
    def _check_nullable(self) -> Self:
        if not self.required and not self.nullable:
            raise ValueError("a column that is not required must be nullable")
        return self
