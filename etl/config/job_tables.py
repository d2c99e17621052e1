"""The tables of a job: one, or several to which its routes lead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from etl.config.program import JobSettings
from etl.config.routes import Routes
from etl.config.section import Section
from etl.config.table import Table
from etl.errors import SettingsError, nearest, shown_name, suggestion


class JobTables(Section):
    """A job's name, and what it loads into.

    A job with ``routes`` has no ``table``: each of :meth:`of_each_table` has one.
    """

    job: JobSettings = JobSettings()
    routes: Routes | None = None
    table: Table = Field(None, validate_default=True)

    @field_validator("table", mode="wrap")
    @classmethod
    def _check_one_table(
        cls, table: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        routes = info.data.get("routes", ...)
        if table is not None and routes is not None:
            raise ValueError(
                "cannot be given with 'routes'; a job has one table, or routes to several"
            )
        if table is not None:
            return check(table)
        if routes is None:
            raise PydanticCustomError("missing", "is missing")
        return None

    @model_validator(mode="after")
    def _check_tables(self) -> Self:
        if self.routes is None:
            return self
        self.__dict__.pop("table")
        if self.job.name is None:
            raise ValueError(
                "'job.name' is missing; a job with 'routes' has several tables, so it needs a name "
                "of its own"
            )
        return self

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "table":
                raise RuntimeError(
                    "a job with routes has no one table; go through settings.of_each_table()"
                )
            return super().__getattr__(name)

    @model_validator(mode="after")
    def _check_indexes(self) -> Self:
        for table in self.tables:
            known = [column.name for column in table.columns]
            for index in table.indexes:
                for name in index:
                    if name not in known:
                        raise ValueError(
                            f"{self._named(table)}.indexes: {shown_name(name)} is not a column of "
                            f"the table{suggestion(name, known)}"
                        )
                if not index or len(set(index)) < len(index):
                    raise ValueError(
                        f"{self._named(table)}.indexes: each index must list columns of the "
                        "table, none of them twice"
                    )
        return self

    def _named(self, table: Table) -> str:
        name = "" if self.routes is None else f" ({shown_name(table.full_name)})"
        return f"{table.section}{name}"

    def of_each_table(self) -> tuple[Self, ...]:
        """The settings of the job, once for each of its tables, which is then ``table``.

        All else is as for the whole job: its name, its queue, its ledger, and what its tables mask.
        """
        if "table" in self.__dict__:
            return (self,)
        return tuple(self._with_table(table) for table in self.tables)

    def _with_table(self, table: Table) -> Self:
        return self.model_copy(update={"table": table})

    def of_table(self, name: str) -> Self:
        """The settings of the job for one of its tables.

        :param name: ``schema.name``, or the name alone if only one table has it
        :raises SettingsError: there is no such table, or there are several; names the tables
        """
        each = self.of_each_table()
        found = [one for one in each if one.table.full_name == name]
        found = found or [one for one in each if one.table.name == name]
        if len(found) == 1:
            return found[0]
        known = [one.table.full_name for one in found or each]
        listed = ", ".join(map(repr, known))
        if found:
            raise SettingsError(f"several tables are named {name!r}; name one of them: {listed}")
        meant = nearest(name, [*known, *(one.table.name for one in each)])
        raise SettingsError(
            f"{shown_name(name)} is not a table of job {self.job_name!r}; "
            + (f"did you mean {meant!r}?" if meant else f"its tables: {listed}")
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of these settings: all of the job, or the one of :meth:`of_each_table`."""
        return (self.table,) if "table" in self.__dict__ else self.tables_of_job

    @property
    def tables_of_job(self) -> tuple[Table, ...]:
        """All tables of the job, also if these are the settings of one of them."""
        return self.routes.tables if self.routes is not None else (self.table,)

    @property
    def target(self) -> str:
        """What the job loads into, as a label: its table, or the job itself if it has several."""
        return self.job_name if self.routes is not None else self.table.full_name

    @property
    def job_name(self) -> str:
        """The name under which the database knows this job."""
        return self.job.name or self.tables[0].full_name
