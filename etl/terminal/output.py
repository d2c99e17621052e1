"""Summaries and tables for a terminal: on standard output, plain where it is not one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from etl.report.build import Report
from etl.runs import Summary

# What of a report is printed: the rest is for pictures and further work.
REPORTED = (
    "columns", "exact_rows", "shared_values", "users_with_many", "repeats", "groups", "ties",
)  # fmt: skip
TIES_A_GROUP = 3


def console() -> Console:
    """Make a console on standard output; wide where no terminal sets a width."""
    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def summary(result: Summary) -> None:
    """Print how a run ended: the reconciliation, the reasons, the cause."""
    out, counts = console(), result.counts
    what = "dry run" if result.would else "run"
    out.print(
        f"[bold]{what}[/] {result.run_id} stopped: {result.stop_reason}, {result.seconds:.1f} s"
    )
    if result.problem:
        out.print(f"[bold red]problem[/] {escape(result.problem)}")
    if result.would:
        out.print(
            f"  would load {result.would.loaded:,} and quarantine {result.would.quarantined:,}"
        )
    sign = "=" if counts.adds_up else "[bold red]≠[/]"
    out.print(
        f"  received {counts.received:,} {sign} loaded {counts.loaded:,} + already handled "
        f"{counts.already_handled:,} + quarantined {counts.quarantined:,} + released "
        f"{counts.released:,}"
    )
    if result.not_acknowledged:
        out.print(f"  {result.not_acknowledged:,} handled messages are still in the queue")
    if result.reasons:
        reasons = pd.DataFrame(result.reasons.items(), columns=["reason", "messages"])
        frame(reasons, "broken checks")


def report(made: Report) -> None:
    """Print a duplicate report: the headline, what to know, and the tables."""
    out = console()
    out.print(f"[bold]duplicates[/] in {escape(made.table)}, {made.time:%Y-%m-%d %H:%M:%S} UTC")
    out.print(f"  rows {made.rows:,}, users {made.users:,}, surplus rows {made.surplus_rows:,}")
    for note in made.notes:
        out.print(f"  {escape(note)}")
    for name in REPORTED:
        section = made.sections[name]
        rows = section.frame
        if name == "ties":
            rows = rows.groupby("group").head(TIES_A_GROUP)
        frame(rows, section.title.lower())


def table(rows: pd.DataFrame, title: str, *, as_json: bool) -> None:
    """Print a frame as a table, or as JSON lines with ISO times."""
    if as_json:
        for row in rows.to_dict(orient="records"):
            line = {str(key): None if pd.isna(value) else value for key, value in row.items()}
            sys.stdout.write(json.dumps(line, default=str) + "\n")
    else:
        frame(rows, title)


def frame(rows: pd.DataFrame, title: str) -> None:
    """Print a frame as a table."""
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in rows.columns:
        number = pd.api.types.is_numeric_dtype(rows[name])
        shown.add_column(str(name), justify="right" if number else "left", overflow="fold")
    for row in rows.itertuples(index=False):
        shown.add_row(*map(_cell, row))
    console().print(shown)
    if rows.empty:
        console().print("  (none)")


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        # What the server has without a zone are days.
        return value.strftime("%Y-%m-%d" if value.tzinfo is None else "%Y-%m-%d %H:%M:%S")
    # Markup in a value from the database would be obeyed.
    return escape(str(value))


def visible(text: str) -> str:
    """Spell out the control characters that a terminal would obey; no change elsewhere."""
    if not sys.stdout.isatty():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t" else one.encode("unicode_escape").decode()
        for one in text
    )


def track(items: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """Pass the items on, under a progress bar on standard error if that is a terminal."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        yield from bar.track(items, total=total, description=what)
