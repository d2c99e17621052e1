"""The sections of the table: its columns, and where their values come from."""

from __future__ import annotations

from collections import Counter
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from etl.config.column import Column
from etl.config.hidden import check_first_names, check_masked
from etl.config.masked_together import check_contexts, check_parts
from etl.config.partitioning import Partitioning
from etl.config.section import Identifier
from etl.config.table_checks import TableChecks
from etl.errors import shown_name, suggestion

# Every table of Postgres has columns of these names.
SYSTEM_COLUMNS = ("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")
MESSAGE_ID = "message_id"


def quoted_if_needed(part: str) -> str:
    """Quote a part of a name that has a dot, so that ``a.b`` + ``c`` is not ``a`` + ``b.c``."""
    if "." in part or '"' in part:
        return '"{}"'.format(part.replace('"', '""'))
    return part


def _check_names_of_masked(columns: tuple[Column, ...]) -> None:
    """Check that no masked column has the name of another one's field."""
    tokens = {field: c.name for c in columns if c.has_tokens for field in c.fields}
    for column in columns:
        # Commands take either name of a column with tokens.
        reader = tokens.get(column.name)
        if column.has_tokens and reader and column.name not in column.fields:
            raise ValueError(
                f"masked column {shown_name(column.name)} has the name of a field of "
                f"{shown_name(reader)}"
            )


class Table(TableChecks):
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
    on_conflict: Literal["error", "skip", "update"] = Field(
        "error",
        description="what to do with an event if the table has a row with the same 'key': error: "
        "whatever a constraint says; skip: keep the row; update: keep the one that was sent last",
    )
    key: tuple[Identifier, ...] = Field(
        (), description="columns that identify a row, for on_conflict: [order_id]"
    )
    primary_key: tuple[Identifier, ...] = Field(
        (), description="create the table with this primary key: [order_id]"
    )
    not_null: bool = Field(False, description="create columns that are not nullable with NOT NULL")
    defaults: bool = Field(
        False, description="create columns with a DEFAULT, the one of their setting 'default'"
    )

    partition_by: Partitioning | None = Field(
        None,
        description="create the table in partitions by time: {range: create_date, every: month}",
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
        kinds: dict[str, bool] = {}
        for column in columns:
            if names[column.name] > 1:
                raise ValueError(f"column {shown_name(column.name)} is listed twice")
            if column.name == MESSAGE_ID and column.metadata != MESSAGE_ID:
                raise ValueError(
                    "a column named 'message_id' can only hold the message's id: write "
                    "'metadata: message_id', or choose another name"
                )
            if column.name in SYSTEM_COLUMNS:
                raise ValueError(f"the column name {column.name!r} is reserved for Postgres")
            if column.mask and names[column.plain_name]:
                raise ValueError(f"the column name {column.plain_name!r} is reserved for the job")
            if kinds.setdefault(column.source, bool(column.fields)) != bool(column.fields):
                raise ValueError(
                    f"field {shown_name(column.source)} has the name of another column's source"
                )
        check_first_names(columns)
        _check_names_of_masked(columns)
        check_masked(columns, columns)
        check_parts((column, "") for column in columns)
        check_contexts((column, "") for column in columns)
        return columns

    @model_validator(mode="after")
    def _check_primary_key(self) -> Self:
        self._check_names("primary_key", self.primary_key)
        for column in self.columns:
            if column.name in self.primary_key and column.nullable:
                raise ValueError(
                    f"column {shown_name(column.name)} is in 'primary_key', so it cannot be "
                    "'nullable'"
                )
        return self

    @model_validator(mode="after")
    def _check_partitions(self) -> Self:
        if self.partition_by is None:
            return self
        name = self.partition_by.range
        self._check_names("partition_by.range", (name,))
        types = {column.name: column.type for column in self.columns}
        if types[name] not in ("date", "timestamp"):
            raise ValueError(
                f"partition_by.range: column {shown_name(name)} must have type 'date' or "
                "'timestamp'"
            )
        for setting in ("primary_key", "key"):
            names = getattr(self, setting)
            if names and name not in names:
                raise ValueError(
                    f"'{setting}' must hold {shown_name(name)}, by which the table is partitioned: "
                    "in Postgres a key is unique within a partition only"
                )
        return self

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        if self.on_conflict == "error":
            if self.key:
                raise ValueError("'key' is for 'on_conflict: skip' or 'update'; set that too")
            return self
        by_name = {column.name: column for column in self.columns}
        if not self.key:
            raise ValueError(
                f"'on_conflict: {self.on_conflict}' needs 'key', the columns that identify a row"
            )
        self._check_names("key", self.key)
        for name in self.key:
            if by_name[name].mask == "partial":
                raise ValueError(
                    f"column {shown_name(name)} is in 'key' and shows a part of its value only, so "
                    "different events would be in conflict"
                )
            # In a unique index no null equals another one, so such rows would pile up.
            if by_name[name].nullable:
                raise ValueError(
                    f"column {shown_name(name)} is in 'key', so it cannot be 'nullable': rows "
                    "without a value would never be in conflict"
                )
        if self.on_conflict == "update" and self.sent_column is None:
            raise ValueError(
                "'on_conflict: update' needs a column that says when the row's event was sent, so "
                "that an older event does not replace it; add: {name: sent_at, attribute: "
                "SentTimestamp, type: timestamp, nullable: true}"
            )
        if self.sent_column is not None and self.sent_column.name in self.key:
            raise ValueError(
                f"column {shown_name(self.sent_column.name)} is when an event was sent, so it "
                "cannot be in 'key'"
            )
        return self

    def _check_names(self, setting: str, names: tuple[str, ...]) -> None:
        known = [column.name for column in self.columns]
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{setting}: {shown_name(name)} is not a column of the table"
                    f"{suggestion(name, known)}"
                )
            if names.count(name) > 1:
                raise ValueError(f"{setting}: {shown_name(name)} is listed twice")

    @property
    def sent_column(self) -> Column | None:
        """The column that holds when a row's event was sent, to the millisecond."""
        times = (column for column in self.columns if column.is_sent_time)
        return next((column for column in times if column.type == "timestamp"), None)

    @property
    def masked_fields(self) -> frozenset[str]:
        """The fields of the event that are masked, and never stored as they come."""
        return frozenset(field for column in self.columns if column.mask for field in column.fields)

    @property
    def plain_attributes(self) -> dict[str, str]:
        """The attributes that are stored as they come, each with the column that reads it."""
        return {c.source: c.name for c in self.columns if not c.fields and not c.hides_value}

    @property
    def plain_fields(self) -> dict[str, str]:
        """The fields that are stored as they come, each with the column that reads it."""
        return {
            field: column.name
            for column in self.columns
            if not column.hides_value
            for field in column.fields
        }
