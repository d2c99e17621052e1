"""What a column holds: its type, and whether it may be null."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from etl.config.section import Section


class ColumnType(Section):
    """The type of a column's values."""

    type: Literal[
        "text", "ip", "version", "integer", "bigint", "number", "boolean", "date", "timestamp"
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
    nullable: bool = Field(False, description="allow null")
    required: bool = Field(
        True, description="the field must be present; if false, a missing field counts as null"
    )

    @model_validator(mode="after")
    def _check_nullable(self) -> Self:
        if not self.required and not self.nullable:
            raise ValueError("a column that is not required must be nullable")
        return self
