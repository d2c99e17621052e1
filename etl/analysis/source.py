"""The table that is analysed: which rows of it, and as of which moment."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.config import TIMES, Column, Settings
from etl.crypto.tokens import TOKEN
from etl.errors import DatabaseRefused, TableError, UsageError, nearest
from etl.postgres.engine import transaction
from etl.postgres.queries import filled, quote_name
from etl.postgres.sqlstate import RowRefused

NO_TOKEN = "(not a token)"  # noqa: S105
NO_TIME = "cast(null as timestamptz)"
Moment = dt.date | dt.datetime | str

# The dtypes of a column without and with nulls, by the OID of its Postgres type (see the catalogue
# pg_type). pandas cannot infer them: an empty result has no values to infer from.
_DTYPES = {
    16: ("bool", "boolean"),
    20: ("int64", "Int64"),
    21: ("int64", "Int64"),
    23: ("int64", "Int64"),
    700: ("float64", "float64"),
    701: ("float64", "float64"),
    1082: ("datetime64[us]", "datetime64[us]"),
    1114: ("datetime64[us]", "datetime64[us]"),
    1184: ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}
_JSONB = 3802


@dataclass(frozen=True)
class Source:
    """The configured target table, which the functions of :mod:`etl.analysis.duplicates` query.

    It connects at the first query. Each query runs in a read-only transaction; all queries within
    :meth:`snapshot` share one, so they see the table at the same moment.
    """

    engine: sa.Engine = field(repr=False)
    settings: Settings = field(repr=False)
    since: dt.datetime | None = None  # UTC; the first moment included
    until: dt.datetime | None = None  # UTC; the first moment excluded
    snapshot_connection: sa.Connection | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Schema and name of the table."""
        return f"{self.settings.table.schema_name}.{self.settings.table.name}"

    @cached_property
    def columns(self) -> dict[str, Column]:
        """The table's columns by name."""
        return {column.name: column for column in self.settings.table.columns}

    @property
    def entity(self) -> Column:
        """The column that names the user of a row."""
        return self.columns[self.settings.report.entity or next(iter(self.columns))]

    @property
    def time(self) -> Column | None:
        """The column with the time of a row, if there is one."""
        if self.settings.report.time:
            return self.columns[self.settings.report.time]
        times = (c for c in self.columns.values() if c.type in TIMES and not c.array)
        return next(times, None)

    @property
    def compared(self) -> list[str]:
        """The columns by which rows are equal: two sends of an event differ in metadata."""
        kept = (self.entity, self.time)
        return [c.name for c in self.columns.values() if c.metadata is None or c in kept]

    @property
    def masked(self) -> list[str]:
        """The masked columns, except the entity."""
        return [
            c.name for c in self.columns.values() if c.has_tokens and c.name != self.entity.name
        ]

    def between(self, since: Moment | None = None, until: Moment | None = None) -> Source:
        """Restrict the rows to a period: at or after *since* and before *until*.

        Either bound leaves out the rows without a time.

        :param since: a date, a time, or an ISO text of one; UTC if it has no offset
        :param until: likewise
        :raises UsageError: a bound is not a time, or the table has no time column
        """
        if self.time is None and (since is not None or until is not None):
            raise UsageError(
                f"table {self.name!r} has no 'date', 'timestamp' or 'datetime' column, so it "
                "cannot be restricted to a period; see report.time"
            )
        return replace(self, since=_moment(since), until=_moment(until))

    @contextmanager
    def snapshot(self) -> Iterator[Source]:
        """Give a source whose queries all see the table at one moment.

        Raises what :meth:`reading` raises.
        """
        with self.reading() as connection:
            yield replace(self, snapshot_connection=connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection in a read-only transaction, that of the snapshot if there is one.

        :raises TableError: the table is missing
        :raises DatabaseRefused: a privilege is missing
        :raises DatabaseUnavailable: an outage
        """
        if self.snapshot_connection is not None:
            yield self.snapshot_connection
            return
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:  # works on a read replica too
        engine = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        table = self.settings.table
        try:
            with transaction(engine) as connection:
                if not sa.inspect(connection).has_table(table.name, schema=table.schema_name):
                    raise TableError(f"table {self.name!r} is missing; create it with: etl init")
                yield connection
        except RowRefused as error:
            raise DatabaseRefused(f"the database refused the query: {error.check}") from None

    def value_columns(self, by: str | None = None) -> list[str]:
        """The columns whose values are compared: *by*, or each masked one.

        :raises UsageError: *by* is not a column of the table, or no column is masked
        """
        if by is None:
            if not self.masked:
                raise UsageError(f"table {self.name!r} has no masked column; choose a column")
            return self.masked
        if by not in self.columns or by == self.entity.name:
            others = [name for name in self.columns if name != self.entity.name]
            meant = nearest(by, others)
            way_out = f"did you mean {meant!r}?" if meant else f"choose one of {', '.join(others)}"
            raise UsageError(f"{by!r} is not a column to compare; {way_out}")
        return [by]

    def ask(
        self, query: str, fragments: Mapping[str, str] | None = None, **parameters: Any
    ) -> pd.DataFrame:
        """Run a named query; return its rows, with the SQL in ``attrs["query"]``.

        :param fragments: SQL for the query's ``{places}``, besides :meth:`fragments`

        Raises what :meth:`reading` raises.
        """
        text = sa.text(filled(query, {**self.fragments(), **(fragments or {})}))
        with self.reading() as connection:
            frame = _frame(connection.execute(text, {**self.bounds, **parameters}))
        frame.attrs["query"] = self.text(query, fragments)
        return frame

    def text(self, query: str, fragments: Mapping[str, str] | None = None) -> str:
        """Return a named query of this source for readers."""
        # Only SQLAlchemy needs the backslash before a colon in a name.
        return filled(query, {**self.fragments(), **(fragments or {})}).replace("\\:", ":")

    def without_plain_values(self, column: str, values: pd.Series[Any]) -> pd.Series[Any]:
        """Replace what is not a token, if the column is masked: it may be a plain value."""
        if not self.columns[column].has_tokens:
            return values
        return values.where(values.isna() | values.str.fullmatch(TOKEN), NO_TOKEN)

    @property
    def bounds(self) -> dict[str, dt.datetime]:
        """The parameters that the SQL of :meth:`fragments` needs."""
        period = {"since": self.since, "until": self.until}
        bounds = {name: moment for name, moment in period.items() if moment is not None}
        if self.time is not None and self.time.type != "timestamp":
            # Postgres would take it for a time in the session's time zone to compare it with these.
            return {name: moment.replace(tzinfo=None) for name, moment in bounds.items()}
        return bounds

    def fragments(self) -> dict[str, str]:
        """The SQL that names the table's rows and columns in a query, every name quoted."""
        table = quote_name(self.settings.table.schema_name, self.settings.table.name)
        time = quote_name(self.time.name) if self.time else NO_TIME
        tests = {"since": f"{time} >= :since", "until": f"{time} < :until"}
        period = " and ".join(tests[name] for name in self.bounds)
        rows = f"(select * from {table} where {period})" if period else table  # noqa: S608  (quoted)
        return {
            "table": table,
            "period": period or "true",
            "logins": f"{rows} as logins",
            "user": quote_name(self.entity.name),
            "time": time,
            "columns": ", ".join(map(quote_name, self.columns)),
            "compared": ", ".join(map(quote_name, self.compared)),
        }


def _frame(answer: sa.CursorResult[Any]) -> pd.DataFrame:
    described: Any = answer.cursor.description if answer.cursor else ()
    oids = [column.type_code for column in described]
    columns = list(zip(*answer.all(), strict=True)) or [()] * len(oids)
    series = [_series(values, oid) for values, oid in zip(columns, oids, strict=True)]
    return pd.concat(series, axis=1, keys=list(answer.keys()))


def _series(values: Sequence[Any], oid: int) -> pd.Series[Any]:
    without_nulls, with_nulls = _DTYPES.get(oid, ("str", "str"))
    if without_nulls == "str":
        values = [value if value is None else _shown(value, oid) for value in values]
    return pd.Series(values, dtype=with_nulls if None in values else without_nulls)


def _shown(value: Any, oid: int) -> str:
    """A value of a type that pandas does not have, as text."""
    if isinstance(value, memoryview):
        return f"\\x{value.hex()}"
    if isinstance(value, list) or oid == _JSONB:
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _moment(bound: Moment | None) -> dt.datetime | None:
    if bound is None:
        return None
    try:
        # str() writes a date and a time in ISO format, so all three kinds are parsed alike.
        moment = dt.datetime.fromisoformat(str(bound))
    except ValueError:
        raise UsageError(
            f"{bound!r} is not a time; write it as 2026-01-31 or 2026-01-31T12:00:00"
        ) from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
