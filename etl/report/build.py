"""The duplicate report: what :mod:`etl.analysis.duplicates` finds, all in one snapshot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from etl.analysis import duplicates
from etl.analysis.at_once import AtOnce, ask_postgres
from etl.analysis.linked import DEFAULT_TOP
from etl.analysis.reader import CannotCount
from etl.analysis.source import Source
from etl.text import counted


@dataclass(frozen=True)
class Choice:
    """The options of a report."""

    by: str | None = None  # a column; None: each masked one
    min_users: int = 2  # of a shared value, and of a linked group
    top: int = DEFAULT_TOP  # rows of each table
    exclude_shared: int | None = None  # a value with this many users or more links nobody
    within_seconds: float | None = None  # longest pause within a repeat; None: see repeats()


@dataclass(frozen=True)
class Section:
    """One table of a report."""

    name: str  # of its file or sheet
    title: str
    about: str  # what a row is
    frame: pd.DataFrame = field(repr=False)
    query: str = field(repr=False)


@dataclass(frozen=True)
class Report:
    """A report: its sections, and the facts about their origin that every format states."""

    table: str
    time: dt.datetime  # UTC
    rows: int
    users: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None
    surplus_rows: int
    key_ids: tuple[str, ...]
    options: dict[str, Any]
    notes: tuple[str, ...]  # what a reader must know to interpret the tables correctly
    sections: dict[str, Section]

    def facts(self) -> dict[str, str]:
        """The origin of the report, in words."""
        return {
            "table": self.table,
            "time": self.time.isoformat(timespec="seconds"),
            "rows": str(self.rows),
            "key ids": ", ".join(self.key_ids),
            **{name.replace("_", " "): str(value) for name, value in self.options.items()},
        }


def build_report(source: Source, choice: Choice) -> Report:
    """Ask all questions in one snapshot.

    :raises UsageError: the table does not have the column
    :raises TableError: the table is missing
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    try:
        with source.snapshot() as snapshot:
            return _report(snapshot, AtOnce(snapshot, choice.by).ask, choice)
    except CannotCount:
        with source.snapshot() as snapshot:
            return _report(snapshot, partial(ask_postgres, snapshot, choice.by), choice)


def _report(source: Source, ask: Callable[..., Any], choice: Choice) -> Report:
    now = dt.datetime.now(dt.UTC)
    sections = _sections(ask, choice)
    headline = ask("headline").iloc[0]
    keys = ask("token_keys")
    notes = (
        _redelivery_note(duplicates.deliveries(source), len(source.settings.tables_of_job)),
        *_key_notes(keys),
        *_option_notes(source, choice),
    )
    return Report(
        table=source.name,
        time=now,
        rows=int(headline["rows"]),
        users=int(headline["users"]),
        first=None if pd.isna(headline["first"]) else headline["first"],
        last=None if pd.isna(headline["last"]) else headline["last"],
        surplus_rows=int(headline["surplus_rows"]),
        key_ids=tuple(sorted(keys["key_id"].dropna().unique())),
        options=_options(source, choice),
        notes=notes,
        sections={section.name: section for section in sections},
    )


def _sections(ask: Callable[..., Any], choice: Choice) -> list[Section]:
    top = choice.top
    min_users = choice.min_users
    linked = ask("linked", exclude_shared=choice.exclude_shared, min_users=min_users, top=top)
    repeats = ask("repeats", within_seconds=choice.within_seconds, top=top)
    return [
        _section("columns", ask("column_totals")),
        _section("exact_rows", ask("exact_rows", top=top)),
        _section("shared_values", ask("shared_values", min_users=min_users, top=top)),
        _section("users_with_many", ask("users_with_many", top=top)),
        _section("repeats", repeats),
        _section("groups", linked.groups),
        _section("ties", linked.ties),
        _section("edges", linked.edges),
        _section("all_groups", linked.total),
        _section("distribution", ask("distribution")),
        _section("over_time", ask("over_time")),
    ]


TITLES = {
    "columns": ("Columns", "How many values each column has, and how many of them are shared."),
    "exact_rows": (
        "Exact duplicate rows",
        "Rows that are equal in every column but those of metadata.",
    ),
    "shared_values": ("Shared values", "Values that several users have."),
    "users_with_many": ("Users with many values", "Users who have several values."),
    "repeats": (
        "Repeats",
        "Rows of one user that agree in every masked column, each shortly after the previous one.",
    ),
    "groups": (
        "Linked groups",
        "Users linked by the values they share, directly or through other users.",
    ),
    "ties": ("What links the groups", "The values shared by the most users of each group."),
    "edges": ("Who shares what", "The users who have those values."),
    "all_groups": ("All linked groups", "Totals of all groups, listed or not."),
    "distribution": ("Users per value", "How many values have one user, two users, and so on."),
    "over_time": (
        "Surplus rows over time",
        "Rows of each UTC day, and how many of them repeat another row in every column.",
    ),
}


def _section(name: str, frame: pd.DataFrame) -> Section:
    title, about = TITLES[name]
    return Section(name, title, about, frame, frame.attrs["query"])


def _redelivery_note(deliveries: pd.DataFrame, tables: int) -> str:
    if deliveries.empty:
        return (
            "A message that SQS delivers twice is loaded once. The number of such redeliveries is "
            "unknown here: etl.runs does not exist, is from an earlier version, or may not be read "
            "by this role."
        )
    counts = deliveries.iloc[0]
    for_all = f" for all {counted(tables, 'table')} of the job" if tables > 1 else ""
    return (
        "A message that SQS delivers twice is loaded once: of "
        f"{counted(counts['received'], 'delivery', 'deliveries')}{for_all} in "
        f"{counted(counts['runs'], 'run')}, {counts['already_handled']:,} had already been "
        "handled. The duplicates in this report were sent by the producer as separate messages."
    )


def _key_notes(keys: pd.DataFrame) -> list[str]:
    """Say which rows cannot be compared because they are under different keys."""
    notes = []
    for column, counts in keys.groupby("column", sort=False):
        tokens = counts.dropna(subset=["key_id"])
        if len(tokens) > 1:
            parts = (
                f"{rows:,} under {key_id!r}"
                for key_id, rows in zip(tokens["key_id"], tokens["rows"], strict=True)
            )
            notes.append(
                "Rows under different keys cannot be compared, because equal values have different "
                f"tokens: {column!r} has {', '.join(parts)}."
            )
        if len(tokens) < len(counts):
            plain = int(counts.loc[counts["key_id"].isna(), "rows"].sum())
            notes.append(f"Values that are not tokens are not shown: {plain:,} of {column!r}.")
    return notes


def _option_notes(source: Source, choice: Choice) -> list[str]:
    notes = []
    if choice.exclude_shared:
        notes.append(
            f"In the linked groups, a value that {choice.exclude_shared:,} or more users share "
            "links nobody."
        )
    if source.time is None:
        notes.append("The table has no time column, so repeats and days are empty.")
    return notes


def _options(source: Source, choice: Choice) -> dict[str, Any]:
    options = {
        "by": choice.by,
        "since": source.since and source.since.isoformat(),
        "until": source.until and source.until.isoformat(),
        "min_users": choice.min_users,
        "top": choice.top,
        "exclude_shared": choice.exclude_shared,
        "within_seconds": choice.within_seconds,
    }
    return {name: value for name, value in options.items() if value is not None}
