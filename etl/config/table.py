"""The sections of the table: its columns, and where their values come from."""

from __future__ import annotations

from collections import Counter

from pydantic import Field, field_validator

from etl.config.column import Column
from etl.config.section import Identifier, Section
from etl.errors import shown_name

# Every table of Postgres has columns of these names.
SYSTEM_COLUMNS = ("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")


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
