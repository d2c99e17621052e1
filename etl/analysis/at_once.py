"""The answers of :mod:`etl.analysis.duplicates`, counted in memory from one reading of the table.

What is counted are codes of values; Postgres is asked for the values of the rows that are shown.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from etl.analysis import duplicates
from etl.analysis.counted import Counted
from etl.analysis.digests import NULL, PLAIN
from etl.analysis.groups import group_users
from etl.analysis.key_usage import key_id_text
from etl.analysis.linked import Linked
from etl.analysis.named import TooManyNames, in_bytes, text
from etl.analysis.source import Source
from etl.analysis.tally import (
    Coded,
    Numbers,
    count_pairs,
    largest,
    lengths,
    occurs_again,
    run_starts,
    sums,
)
from etl.postgres.queries import quote_name

_DAY = 86_400_000_000  # microseconds


_BY_COLUMN = ("column_totals", "distribution", "linked", "shared_values", "users_with_many")


def ask_postgres(source: Source, by: str | None, question: str, **options: Any) -> Any:
    """Return the answer to one question: a function of the duplicates, and its parameters."""
    if question in _BY_COLUMN:
        options["by"] = by
    return getattr(duplicates, question)(source, **options)


class AtOnce:
    """Answers questions about a source that was read once."""

    def __init__(self, source: Source, by: str | None) -> None:
        """Read and count the source; see :class:`etl.analysis.counted.Counted`.

        :raises CannotCount: as :func:`etl.analysis.digests.read_digests` does
        """
        self._source = source
        self._by = by
        self._counted = Counted(source, by)

    def ask(self, question: str, **options: Any) -> Any:
        """Return the answer to a question, as :func:`ask_postgres` does."""
        try:
            return getattr(self, f"_{question}")(**options)
        except TooManyNames:
            return ask_postgres(self._source, self._by, question, **options)
        finally:
            self._counted.stay()

    def _headline(self) -> pd.DataFrame:
        known = self._counted.times[self._counted.is_timed]
        span = (
            [known.min(), known.max()] if known.size else [self._counted.time_type.null_number] * 2
        )
        first, last = (self._counted.time_type.series(np.array([time])) for time in span)
        counts = {"rows": self._counted.times.size, "users": self._counted.users.count}
        surplus = int(self._counted.is_surplus.sum())
        frame = pd.DataFrame({**counts, "first": first, "last": last, "surplus_rows": surplus})
        return self._with_query(frame, "headline")

    def _exact_rows(self, top: int | None) -> pd.DataFrame:
        columns = ", ".join(f"logins.{quote_name(name)}" for name in self._source.compared)
        best = largest(self._counted.copies, ["copies"], top)
        frame, counted = self._counted.names.of(best, columns, columns, ["copies"], top)
        copies = duplicates.unused_name("copies", self._source.compared)
        frame.insert(len(frame.columns), copies, counted["copies"])
        origins = {name: name for name in self._source.compared}
        frame = duplicates.without_plain_values(self._source, frame, origins)
        return self._with_query(frame, "exact_rows", {"copies": quote_name(copies)})

    def _over_time(self) -> pd.DataFrame:
        is_known = self._counted.is_timed
        per_day = _DAY // self._counted.time_type.unit
        days = self._counted.times[is_known] // per_day
        day, numbers, rows = np.unique(days, return_inverse=True, return_counts=True)
        surplus = np.bincount(numbers[self._counted.is_surplus[is_known]], minlength=day.size)
        frame = pd.DataFrame(
            {
                "day": self._counted.time_type.series(day * per_day).dt.tz_localize(None),
                "rows": rows.astype(np.int64),
                "surplus_rows": surplus.astype(np.int64),
            }
        )
        return self._with_query(frame, "rows_over_time")

    def _counted_values(self, name: str) -> pd.DataFrame:
        """Return each value of a column with its users and rows."""
        pairs = self._counted.pairs[name]
        starts = pairs.starts
        counts = {"users": lengths(starts, pairs.left.size), "rows": sums(pairs.rows, starts)}
        return pd.DataFrame({"code": pairs.left[starts], **counts})

    def _column_totals(self) -> pd.DataFrame:
        rows = []
        for name in self._counted.columns:
            counted = self._counted_values(name)
            users = counted["users"]
            most = users.max() if len(users) else 0
            rows.append((name, counted["rows"].sum(), len(users), (users > 1).sum(), most))
        names = ["column", "rows", "values", "shared_values", "most_users"]
        frame = pd.DataFrame(rows, columns=names)
        frame = frame.astype({"column": "str", **dict.fromkeys(names[1:], "int64")})
        return self._with_query(frame, "column_totals", *self._each_value())

    def _shared_values(self, min_users: int, top: int | None) -> pd.DataFrame:
        parts = []
        for name in self._counted.columns:
            counted = self._counted_values(name)
            counted = counted[counted["users"] >= min_users]
            coded = self._counted.values[name]
            parts.append(
                self._listed(name, "value", name, coded, self._counted.users, counted, top)
            )
        frame = pd.concat(parts, ignore_index=True)
        return self._with_query(frame, "shared_values", *self._each_value())

    def _users_with_many(self, top: int | None, min_values: int = 2) -> pd.DataFrame:
        parts = []
        user = self._source.entity.name
        for name in self._counted.columns:
            coded = self._counted.values[name]
            pairs = count_pairs(self._counted.users.codes, coded.codes)
            starts = pairs.starts
            values = lengths(starts, pairs.left.size)
            counts = {"values": values, "rows": sums(pairs.rows, starts)}
            counted = pd.DataFrame({"code": pairs.left[starts], **counts})[values >= min_values]
            parts.append(self._listed(name, "user", user, self._counted.users, coded, counted, top))
            self._counted.stay()
        frame = pd.concat(parts, ignore_index=True)
        return self._with_query(frame, "users_with_many", *self._each_value())

    def _listed(
        self,
        column: str,
        label: str,
        origin: str,
        coded: Coded,
        other: Coded,
        counted: pd.DataFrame,
        top: int | None,
    ) -> pd.DataFrame:
        """Name the values of the column *origin* that have the largest counts."""
        counts = list(counted.columns[1:])
        best = largest(counted, counts, top)
        best = best.assign(row=coded.rows[best["code"]])
        names, best = self._counted.names.of(best, text(origin), in_bytes(origin), counts, top)
        first, last = self._counted.spans(coded, best["code"].to_numpy(), other)
        columns = {
            "column": pd.Series(column, index=best.index, dtype="str"),
            label: self._source.without_plain_values(origin, names.iloc[:, 0]),
            **{name: best[name].astype("int64") for name in counts},
        }
        return pd.DataFrame({**columns, "first": first, "last": last})

    def _distribution(self) -> pd.DataFrame:
        parts = []
        for name in self._counted.columns:
            users, values = np.unique(self._counted_values(name)["users"], return_counts=True)
            part = pd.DataFrame({"column": name, "users": users, "values": values})
            parts.append(part.astype({"column": "str", "users": "int64", "values": "int64"}))
        frame = pd.concat(parts, ignore_index=True)
        return self._with_query(frame, "distribution", *self._each_value())

    def _repeats(self, within_seconds: float | None, top: int | None) -> pd.DataFrame:
        within, fragments, aliases = duplicates.repeat_options(self._source, within_seconds)
        limit = int(Decimal(str(within)) * 1_000_000) // self._counted.time_type.unit
        columns = [self._counted.values[name].codes for name in aliases.values()]
        is_timed = self._counted.is_timed & (self._counted.users.codes != 0)
        rows: Numbers = np.flatnonzero(is_timed).astype(np.int32)
        by_place = [self._counted.users.codes, *columns]
        rows = occurs_again(by_place, rows)
        rows = rows[np.lexsort([self._counted.times[rows], *(codes[rows] for codes in by_place)])]
        times = self._counted.times[rows].astype(np.int64)
        is_start = np.zeros(rows.size, dtype=bool)
        is_start[run_starts(*(codes[rows] for codes in by_place))] = True
        is_start[1:] |= np.diff(times) > limit
        starts = np.flatnonzero(is_start)
        size = lengths(starts, rows.size)
        starts, size = starts[size > 1], size[size > 1]
        first, last = times[starts], times[starts + size - 1]
        counted = pd.DataFrame(
            {"row": rows[starts], "rows": size, "early": -first, "first": first, "last": last}
        )
        counts = ["rows", "early"]
        user = self._source.entity.name
        masked = [f"logins.{quote_name(name)}" for name in aliases.values()]
        shown = ", ".join([text(user), *masked])
        order = ", ".join([in_bytes(user), *masked])
        names, best = self._counted.names.of(
            largest(counted, counts, top), shown, order, counts, top
        )
        names.columns = ["user", *aliases]
        seconds = (best["last"] - best["first"]) * self._counted.time_type.unit / 1_000_000
        frame = names.assign(
            rows=best["rows"],
            first=self._counted.time_type.series(best["first"].to_numpy()),
            last=self._counted.time_type.series(best["last"].to_numpy()),
            seconds=seconds.astype("float64"),
        )
        frame = duplicates.finished_repeats(self._source, frame, aliases)
        return self._with_query(frame, "repeats", fragments)

    def _linked(self, **options: Any) -> Linked:
        return group_users(self._counted, **options)

    def _token_keys(self) -> pd.DataFrame:
        if self._source.bounds:  # the keys of the whole table were not read
            return duplicates.token_keys(self._source)
        rows: list[tuple[str, str | None, int]] = []
        for name, keys in self._counted.keys.groupby("column"):
            plain = keys.loc[keys["state"] == PLAIN, "rows"]
            of_keys = keys[~keys["state"].isin([NULL, PLAIN])]
            key_id = key_id_text(f"logins.{quote_name(str(name))}")
            places = of_keys["place"].to_numpy()
            answer = self._counted.names.at(places, f"{key_id} as key_id", "2")
            counts = of_keys["rows"].to_numpy()[answer["nth"].to_numpy()].tolist()
            rows += zip(repeat(str(name)), answer["key_id"], counts, strict=False)
            rows += [(str(name), None, int(plain.sum()))] if len(plain) else []
        return pd.DataFrame(rows, columns=["column", "key_id", "rows"])

    def _each_value(self) -> list[dict[str, str]]:
        return [{"value": quote_name(name)} for name in self._counted.columns]

    def _with_query(
        self, frame: pd.DataFrame, query: str, *fragments: dict[str, str]
    ) -> pd.DataFrame:
        """Add the SQL that gives the same answer."""
        texts = [self._source.text(query, part) for part in fragments or [{}]]
        frame.attrs["query"] = ";\n\n".join(texts)
        return frame
