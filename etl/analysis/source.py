"""The table that is analysed, of one moment and of a stretch of time."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl import config
from etl.config import Column, Settings
from etl.crypto.tokens import TOKEN
from etl.errors import DatabaseRefused, SettingsError, TableError
from etl.postgres.engine import open_engine, transaction
from etl.postgres.queries import filled, quote_name
from etl.postgres.sqlstate import RowRefused

FILE = "config.yaml"
NO_TOKEN = "(no token)"  # noqa: S105
NO_TIME = "cast(null as timestamptz)"
Moment = dt.date | dt.datetime | str

# By the OIDs of the server's types (its catalogue pg_type): what a frame holds, and holds if there
# are nulls. Not left to pandas, which would know nothing about an empty answer.
_DTYPES = {
    16: ("bool", "boolean"),
    20: ("int64", "Int64"),
    21: ("int64", "Int64"),
    23: ("int64", "Int64"),
    701: ("float64", "float64"),
    1082: ("datetime64[us]", "datetime64[us]"),
    1114: ("datetime64[us]", "datetime64[us]"),
    1184: ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}


@dataclass(frozen=True)
class Source:
    """The target table of some settings; makes frames with :mod:`etl.analysis.duplicates`.

    Nothing is connected before the first question. Every question is asked in a read-only
    transaction; within :meth:`snapshot` all are asked of one moment.
    """

    engine: sa.Engine = field(repr=False)
    settings: Settings = field(repr=False)
    since: dt.datetime | None = None  # from here on, UTC
    until: dt.datetime | None = None  # before this, UTC
    held: sa.Connection | None = field(default=None, repr=False)

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
        """The column that says whose row it is."""
        return self.columns[self.settings.report.entity or next(iter(self.columns))]

    @property
    def time(self) -> Column | None:
        """The column that says when, if there is one."""
        if self.settings.report.time:
            return self.columns[self.settings.report.time]
        timed = (c for c in self.columns.values() if c.type in ("date", "timestamp"))
        return next(timed, None)

    @property
    def masked(self) -> list[str]:
        """The masked columns but the entity."""
        return [c.name for c in self.columns.values() if c.mask and c.name != self.entity.name]

    def between(self, since: Moment | None = None, until: Moment | None = None) -> Source:
        """Take the rows of a stretch of time only: from *since* on and before *until*.

        Rows without a time are left out then.

        :param since: a date, a time or an ISO text of one; without an offset it is UTC
        :raises SettingsError: not a time, or the table has no time
        """
        if self.time is None and (since is not None or until is not None):
            raise SettingsError(
                f"table {self.name!r} has no 'date' or 'timestamp' column to go by; see report.time"
            )
        return replace(self, since=_moment(since), until=_moment(until))

    @contextmanager
    def snapshot(self) -> Iterator[Source]:
        """Ask several questions of one moment; raises as ``transaction`` does."""
        with self.reading() as connection:
            yield replace(self, held=connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Hold a read-only connection that sees the table.

        :raises TableError: the table is missing
        :raises DatabaseRefused: a privilege is missing
        :raises DatabaseUnavailable: an outage
        """
        if self.held is not None:
            yield self.held
            return
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        # A read replica takes this too, as it would no temporary table.
        engine = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        table = self.settings.table
        try:
            with transaction(engine) as connection:
                if not sa.inspect(connection).has_table(table.name, schema=table.schema_name):
                    raise TableError(f"table {self.name!r} is missing; python -m etl init makes it")
                yield connection
        except RowRefused as error:
            raise DatabaseRefused(f"the database refuses the question: {error.check}") from None

    def asked(self, by: str | None = None) -> list[str]:
        """The columns that a question is about: *by*, or else all masked ones.

        :raises SettingsError: *by* is no column of the table, or nothing is masked
        """
        if by is None:
            if not self.masked:
                raise SettingsError(f"table {self.name!r} has no masked column; name one to go by")
            return self.masked
        if by not in self.columns or by == self.entity.name:
            others = ", ".join(name for name in self.columns if name != self.entity.name)
            raise SettingsError(f"{by!r} is no column to go by; there are {others}")
        return [by]

    def ask(
        self, query: str, places: Mapping[str, str] | None = None, **parameters: Any
    ) -> pd.DataFrame:
        """Ask a named query about the table; its columns, a row a row.

        :param places: SQL for the query's ``{places}``, beside those that the table itself fills
        :raises TableError: the table is missing
        :raises DatabaseRefused: a privilege is missing
        :raises DatabaseUnavailable: an outage
        """
        text = filled(query, {**self.places(), **(places or {})})
        with self.reading() as connection:
            answer = connection.execute(sa.text(text), {**self.bounds, **parameters})
            frame = _frame(answer)
        # As a person would send it: only there is a colon of a name set apart by a backslash.
        frame.attrs["query"] = text.replace("\\:", ":")
        return frame

    def shown(self, column: str, values: pd.Series[Any]) -> pd.Series[Any]:
        """What may be shown of a column: of a masked one, tokens only; all else may be plain."""
        if not self.columns[column].mask:
            return values
        return values.where(values.isna() | values.str.fullmatch(TOKEN), NO_TOKEN)

    @property
    def bounds(self) -> dict[str, dt.datetime]:
        """The parameters that :meth:`places` brings along."""
        given = {"since": self.since, "until": self.until}
        dated = self.time is not None and self.time.type == "date"
        # A date becomes midnight in the session's zone if what it is compared with has a zone.
        return {n: t.replace(tzinfo=None) if dated else t for n, t in given.items() if t}

    def places(self) -> dict[str, str]:
        """SQL for the places of a query that the table itself fills, every name quoted."""
        table = quote_name(self.settings.table.schema_name, self.settings.table.name)
        time = quote_name(self.time.name) if self.time else NO_TIME
        tests = {"since": f"{time} >= :since", "until": f"{time} < :until"}
        asked = " and ".join(tests[name] for name in self.bounds)
        rows = f"(select * from {table} where {asked})" if asked else table  # noqa: S608  (quoted)
        return {
            "logins": f"{rows} as logins",
            "user": quote_name(self.entity.name),
            "time": time,
            "columns": ", ".join(map(quote_name, self.columns)),
        }


def open_source(
    path: str | Path | None = None, environment: Mapping[str, str] | None = None
) -> Source:
    """Do what :func:`etl.connect` says."""
    variables = os.environ if environment is None else environment
    settings = config.load(Path(path or variables.get("ETL_CONFIG") or _nearest()), variables)
    return Source(open_engine(settings.database), settings)


def _nearest() -> Path:
    # A notebook's working directory is its own folder.
    here = Path.cwd()
    return next((f for d in (here, *here.parents) if (f := d / FILE).is_file()), Path(FILE))


def _frame(answer: sa.CursorResult[Any]) -> pd.DataFrame:
    described: Any = answer.cursor.description if answer.cursor else ()
    names, oids = list(answer.keys()), [column.type_code for column in described]
    columns = list(zip(*answer.all(), strict=True)) or [()] * len(oids)
    series = [_series(values, oid) for values, oid in zip(columns, oids, strict=True)]
    return pd.concat(series, axis=1, keys=names)


def _series(values: Sequence[Any], oid: int) -> pd.Series[Any]:
    whole, gapped = _DTYPES.get(oid, ("str", "str"))
    return pd.Series(values, dtype=gapped if None in values else whole)


def _moment(given: Moment | None) -> dt.datetime | None:
    if given is None:
        return None
    try:
        # A text, a date and a time have this spelling in common.
        moment = dt.datetime.fromisoformat(str(given))
    except ValueError:
        raise SettingsError(
            f"{given!r} is no time; write it as 2026-01-31 or 2026-01-31T12:00:00"
        ) from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
