"""The sections of the table: its columns, and where their values come from."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from etl.config.section import FIELDS_OF_THE_JOB, Identifier, Section
from etl.errors import shown_name

# Every table of Postgres has columns of these names.
SYSTEM_COLUMNS = ("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")


class Column(Section):
    """One column of the target table, and where its value comes from."""

    name: Identifier = Field(description="name of the column in the table")
    field: str | tuple[str, ...] | None = Field(
        None,
        description="field of the event, or a list of its names, while producers send old and new "
        "ones",
    )
    attribute: Literal["SentTimestamp"] | None = Field(
        None, description="attribute of the message, instead of a field"
    )
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
    mask: bool = Field(False, description="personal data: only a token reaches the database")
    context: str | None = Field(
        None,
        description="masking context, by default the first name of the field; in columns that "
        "share one, equal values share a token",
    )
    canonical: bool = Field(
        True, description="type ip: store every notation of an address as the same value"
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
    def _check_source(self) -> Column:
        if (self.field is None) == (self.attribute is None):
            raise ValueError("needs either 'field' or 'attribute'")
        if self.attribute and (self.type not in ("date", "timestamp") or self.mask):
            raise ValueError(
                "a column with an 'attribute' must have type 'date' or 'timestamp' and cannot be "
                "masked"
            )
        for name in self.fields:
            if name in FIELDS_OF_THE_JOB:
                raise ValueError(f"field {name!r} has a name that is reserved for the job")
        if not self.mask and self.context is not None:
            raise ValueError(
                "has a 'context', which only a masked column has: write 'mask: true', or take the "
                "context out"
            )
        # A line that was lost must not load in plain what the column's name says is masked.
        if self.name.lower().startswith("masked_") and "mask" not in self.model_fields_set:
            raise ValueError(
                "is named as masked, and 'mask' is missing: write 'mask: true', or 'mask: false' "
                "if its values come masked"
            )
        if self.mask and self.type not in ("text", "ip"):
            raise ValueError("only a column of type 'text' or 'ip' can be masked")
        if not self.required and not self.nullable:
            raise ValueError("a column that is not required must be nullable")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Every name of its field in an event; none if it comes from an attribute."""
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    @property
    def source(self) -> str:
        """The name of its value in the raw frame: the field's first, or the attribute's."""
        return self.fields[0] if self.fields else self.attribute or ""

    @property
    def masking_context(self) -> str:
        """The context that its tokens are bound to."""
        return self.context or self.source


def quoted_if_needed(part: str) -> str:
    """Quote a part of a name that has a dot, so that ``a.b`` + ``c`` is not ``a`` + ``b.c``."""
    if "." in part or '"' in part:
        return '"{}"'.format(part.replace('"', '""'))
    return part


class Table(Section):
    """The target table."""

    schema_name: Identifier = Field(
        "public", alias="schema", description="schema of the target table"
    )
    name: Identifier = Field("user_logins", description="target table; created if it is missing")
    token_check: bool = Field(
        False, description="create the table with a CHECK that masked columns hold tokens"
    )
    columns: tuple[Column, ...] = Field(description="columns of the table, in order")
    indexes: tuple[tuple[Identifier, ...], ...] = Field(
        (), description="indexes that init creates, each a list of columns: [[masked_ip, user_id]]"
    )

    @property
    def full_name(self) -> str:
        """The table as errors and the job's own tables name it: ``schema.name``."""
        return ".".join(quoted_if_needed(part) for part in (self.schema_name, self.name))

    @field_validator("schema_name")
    @classmethod
    def _check_schema(cls, schema: str) -> str:
        if schema.startswith("pg_") or schema == "information_schema":
            raise ValueError(
                f"schema {schema!r} is reserved for Postgres; name a schema of your own"
            )
        return schema

    @field_validator("columns")
    @classmethod
    def _check_distinct(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if not columns:
            raise ValueError("a table needs at least one column")
        names = Counter(column.name for column in columns)
        readers = Counter(name for c in columns for name in c.fields or (c.source,))
        for column in columns:
            if names[column.name] > 1:
                raise ValueError(f"column {shown_name(column.name)} is listed twice")
            for name in column.fields or (column.source,):
                if readers[name] > 1:
                    raise ValueError(f"{shown_name(name)} is read by two columns")
            if column.name == "message_id":
                raise ValueError("the column name 'message_id' is reserved for the job")
            if column.name in SYSTEM_COLUMNS:
                raise ValueError(f"the column name {column.name!r} is reserved for Postgres")
            # In the middle of the job a frame holds the fields and the table's columns together.
            # Besides, commands take either name of a column.
            if column.name in readers and column.name not in (column.source, *column.fields):
                raise ValueError(
                    f"column {shown_name(column.name)} has the name of another column's field"
                )
        return columns

    @property
    def masked_fields(self) -> frozenset[str]:
        """The fields of the event of which only tokens are stored."""
        return frozenset(field for column in self.columns if column.mask for field in column.fields)

    @property
    def plain_fields(self) -> dict[str, str]:
        """The fields that are stored as they come, each with the column that reads it."""
        return {
            field: column.name
            for column in self.columns
            if not column.mask
            for field in column.fields
        }
