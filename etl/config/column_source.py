"""Where the value of a column comes from."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from etl.config.section import FIELDS_OF_THE_JOB, Identifier, Section
from etl.errors import shown_name


class ColumnSource(Section):
    """A column's name, and where its value comes from."""

    name: Identifier = Field(description="name of the column in the table")
    field: str | tuple[str, ...] | None = Field(
        None,
        description="field of the event, or a list of its names, while producers send old and new "
        "ones",
    )
    attribute: Literal["SentTimestamp"] | None = Field(
        None, description="attribute of the message, instead of a field"
    )

    @field_validator("field", mode="before")
    @classmethod
    def _check_names(cls, field: Any) -> Any:
        if field is None:
            return None
        names = field if isinstance(field, (list, tuple)) else [field]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("must be a name, or a list of names")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name {shown_name(name)} is listed twice")
        return names[0] if len(names) == 1 else tuple(names)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        if (self.field is None) == (self.attribute is None):
            raise ValueError("needs either 'field' or 'attribute'")
        for name in self.fields:
            if name in FIELDS_OF_THE_JOB:
                raise ValueError(f"field {name!r} has a name that is reserved for the job")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Every name of its field in an event; none if it comes from an attribute."""
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    @property
    def source(self) -> str:
        """The name of its value in the raw frame: the field's first, or the attribute's."""
        return self.fields[0] if self.fields else self.attribute or ""
