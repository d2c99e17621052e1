"""Several tables from one queue: which events go to which table."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from etl.config import paths
from etl.config.hidden import check_first_names, check_masked
from etl.config.masked_together import check_contexts, check_parts
from etl.config.section import FIELDS_OF_THE_JOB, Identifier, Section
from etl.config.table import Table
from etl.errors import shown_name

MAX_VALUE_CHARACTERS = 256


class RoutedTable(Table):
    """One of several tables, and which events go to it."""

    section: ClassVar[str] = "routes.tables"

    events: tuple[Annotated[str, Field(max_length=MAX_VALUE_CHARACTERS)], ...] = Field(
        description="values of `by` with which an event goes to this table: [order_placed]",
    )
    # Without a default: two tables would have the same one.
    name: Identifier = Field(description="target table; created if it is missing")

    @field_validator("events")
    @classmethod
    def _check_events(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        if not events:
            raise ValueError("needs at least one value")
        return events


class Routes(Section):
    """Several tables from one queue, in place of one."""

    by: str = Field(
        min_length=1,
        description="field of the event whose value says to which table it goes: a name, or a path "
        "such as `detail.kind`; a number without a fraction, true and false count as their text",
    )
    tables: tuple[RoutedTable, ...] = Field(
        description="tables, each with what the section `table` can have, and with `events`",
    )

    @field_validator("by")
    @classmethod
    def _check_path(cls, by: str) -> str:
        written = paths.written(paths.parse(by), FIELDS_OF_THE_JOB)
        if written == paths.WHOLE:
            raise ValueError("must name a field, not the whole event")
        return written

    @field_validator("tables")
    @classmethod
    def _check_distinct(cls, tables: tuple[RoutedTable, ...]) -> tuple[RoutedTable, ...]:
        if not tables:
            raise ValueError("needs at least one table")
        names: set[str] = set()
        takers: dict[str, str] = {}
        for table in tables:
            if table.full_name in names:
                raise ValueError(
                    f"table {shown_name(table.full_name)} is listed twice; list all of its "
                    "'events' in one place"
                )
            names.add(table.full_name)
            for value in table.events:
                if value in takers:
                    both = dict.fromkeys((takers[value], table.full_name))
                    raise ValueError(
                        f"event {shown_name(value)} is listed twice, for "
                        f"{' and '.join(map(shown_name, both))}"
                    )
                takers[value] = table.full_name
        return tables

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Check of all tables together what is checked of each of them alone."""
        owned = [
            (column, f" of {shown_name(table.full_name)}")
            for table in self.tables
            for column in table.columns
        ]
        check_first_names(column for column, _ in owned)
        check_parts(owned)
        check_contexts(owned)
        for table in self.tables:
            for other in self.tables:
                of_table = f" of {shown_name(other.full_name)}"
                try:
                    check_masked(table.columns, other.columns, of_table)
                except ValueError as error:
                    raise ValueError(f"{shown_name(table.full_name)}: {error}") from None
        return self
