"""The duplicate report: the answers of :mod:`etl.analysis.duplicates`, all of one moment."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from etl.analysis import duplicates
from etl.analysis.source import Source

TOP = 20


@dataclass(frozen=True)
class Choice:
    """What a report is to show."""

    by: str | None = None  # a column; None: every masked one
    min_users: int = 2  # of a shared value, and of a linked group
    top: int = TOP  # rows of each table
    exclude_shared: int | None = None  # a value of so many users or more ties nobody
    within_seconds: float | None = None  # longest pause within a repeat; None: as repeats() has it


@dataclass(frozen=True)
class Section:
    """One table of a report."""

    name: str  # of a file or a sheet
    title: str
    about: str  # what a row is
    frame: pd.DataFrame = field(repr=False)
    query: str = field(repr=False)


@dataclass(frozen=True)
class Report:
    """A report: its sections, and what each format says of where they come from."""

    table: str
    time: dt.datetime  # UTC
    rows: int
    users: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None
    surplus_rows: int
    key_ids: tuple[str, ...]
    options: dict[str, Any]
    notes: tuple[str, ...]  # what a reader must know to read the tables right
    sections: dict[str, Section]

    def facts(self) -> dict[str, str]:
        """Where the report comes from, in words."""
        return {
            "table": self.table,
            "time": self.time.isoformat(timespec="seconds"),
            "rows": str(self.rows),
            "key ids": ", ".join(self.key_ids),
            **{name.replace("_", " "): str(value) for name, value in self.options.items()},
        }


def build_report(source: Source, choice: Choice) -> Report:
    """Ask everything, in one snapshot.

    :raises SettingsError: a column is not there
    :raises TableError: the table is missing
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    now = dt.datetime.now(dt.UTC)
    with source.snapshot() as still:
        sections = _sections(still, choice)
        head = duplicates.headline(still).iloc[0]
        keys = duplicates.token_keys(still)
        notes = (_origin(duplicates.deliveries(still)), *_apart(keys), *_left_out(still, choice))
    return Report(
        table=source.name,
        time=now,
        rows=int(head["rows"]),
        users=int(head["users"]),
        first=None if pd.isna(head["first"]) else head["first"],
        last=None if pd.isna(head["last"]) else head["last"],
        surplus_rows=int(head["surplus_rows"]),
        key_ids=tuple(sorted(keys["key_id"].dropna().unique())),
        options=_options(source, choice),
        notes=notes,
        sections={section.name: section for section in sections},
    )


def _sections(source: Source, choice: Choice) -> list[Section]:
    by, top = choice.by, choice.top
    linked = duplicates.linked(
        source, by, exclude_shared=choice.exclude_shared, min_users=choice.min_users, top=top
    )
    repeats = duplicates.repeats(source, within_seconds=choice.within_seconds, top=top)
    return [
        _section("columns", duplicates.column_totals(source, by)),
        _section("exact_rows", duplicates.exact_rows(source, top=top)),
        _section(
            "shared_values",
            duplicates.shared_values(source, by, min_users=choice.min_users, top=top),
        ),
        _section("users_with_many", duplicates.users_with_many(source, by, top=top)),
        _section("repeats", repeats),
        _section("groups", linked.groups),
        _section("ties", linked.ties),
        _section("edges", linked.edges),
        _section("all_groups", linked.total),
        _section("distribution", duplicates.distribution(source, by)),
        _section("over_time", duplicates.over_time(source)),
    ]


TITLES = {
    "columns": ("Columns", "What each column holds, and how many of its values users share."),
    "exact_rows": ("Exact duplicate rows", "Rows that are equal in every column."),
    "shared_values": ("Values that users share", "One value, several users."),
    "users_with_many": ("Users with many values", "One user, several values."),
    "repeats": (
        "Repeats",
        "Rows of one user that agree in every masked column and follow one another closely.",
    ),
    "groups": (
        "Linked groups",
        "Users that share a value, directly or through others, and what ties them.",
    ),
    "ties": ("What ties the groups", "The values that most users of a group share."),
    "edges": ("Who is tied by what", "The users that have those values."),
    "all_groups": ("All linked groups", "Those that are listed and those that are not."),
    "distribution": ("Users of a value", "How many values have so many users."),
    "over_time": (
        "Surplus rows over time",
        "Rows of each UTC day, and those of them that repeat another one in every column.",
    ),
}


def _section(name: str, frame: pd.DataFrame) -> Section:
    title, about = TITLES[name]
    return Section(name, title, about, frame, frame.attrs["query"])


def _origin(deliveries: pd.DataFrame) -> str:
    if deliveries.empty:
        return (
            "A message that SQS delivers again never becomes a second row. How often that was so "
            "cannot be told here: etl.runs is not there, or not to be read by this role."
        )
    counts = deliveries.iloc[0]
    return (
        f"A message that SQS delivers again never becomes a second row: of {counts['received']:,} "
        f"deliveries in {counts['runs']:,} runs, {counts['already_handled']:,} were handled "
        "already and kept out. What is left here came from the producer, in messages of their own."
    )


def _apart(keys: pd.DataFrame) -> list[str]:
    """Which rows cannot be compared, being under different keys."""
    notes = []
    for column, own in keys.groupby("column", sort=False):
        tokens = own.dropna(subset=["key_id"])
        if len(tokens) > 1:
            parts = (
                f"{n:,} under {key!r}"
                for key, n in zip(tokens["key_id"], tokens["rows"], strict=True)
            )
            notes.append(
                f"Rows under different keys cannot be joined, for equal values have other tokens "
                f"there: {column!r} has {', '.join(parts)}."
            )
        if len(tokens) < len(own):
            plain = int(own.loc[own["key_id"].isna(), "rows"].sum())
            notes.append(f"{plain:,} values of {column!r} are no tokens, and are not shown.")
    return notes


def _left_out(source: Source, choice: Choice) -> list[str]:
    notes = []
    if choice.exclude_shared:
        notes.append(
            f"A value that {choice.exclude_shared:,} users or more share ties nobody in the linked "
            "groups."
        )
    if source.time is None:
        notes.append("The table has no time, so there are no repeats and no days.")
    return notes


def _options(source: Source, choice: Choice) -> dict[str, Any]:
    given = {
        "by": choice.by,
        "since": source.since and source.since.isoformat(),
        "until": source.until and source.until.isoformat(),
        "min_users": choice.min_users,
        "top": choice.top,
        "exclude_shared": choice.exclude_shared,
        "within_seconds": choice.within_seconds,
    }
    return {name: value for name, value in given.items() if value is not None}
