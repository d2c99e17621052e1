"""Summaries and tables on standard output, without styles where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from etl.frames import time_text
from etl.logs import visible
from etl.runs import Summary
from etl.terminal import lines

# A table that leaves its columns less than this cannot be read, and no token copied from it.
MIN_COLUMN_CHARACTERS = 8
_PADDING = 3  # characters between two columns


class _SafeConsole(Console):
    """A console that shows as escapes what a terminal would obey in a text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Read the markup of a text; its control characters become visible first."""
        return super().render_str(visible(text, keep="\n"), **options)


def console() -> Console:
    """Make a console on standard output; it is wide where no terminal sets a width."""
    # Without emoji, because ":x:" in a value is no picture.
    width = None if sys.stdout.isatty() else 200
    return _SafeConsole(width=width, highlight=False, emoji=False)


def summary(result: Summary) -> None:
    """Print how a run ended: its counts, the reasons for rejects and the cause."""
    out = console()
    counts = result.counts
    # A dry run has no id, since it has no row in etl.runs.
    what = "[bold]dry run[/]" if result.would else f"[bold]run[/] {result.run_id}"
    out.print(f"{what} stopped: {result.stop_reason}, {result.seconds:.1f} s")
    if result.problem:
        out.print(Text.assemble(("problem", "bold red"), " ", visible(result.problem)))
    if result.would:
        out.print(
            f"  would load {result.would.loaded:,} and quarantine {result.would.quarantined:,}"
        )
    sign = "=" if counts.adds_up else "[bold red]!=[/]"
    out.print(
        f"  received {counts.received:,} {sign} loaded {counts.loaded:,} + already handled "
        f"{counts.already_handled:,} + quarantined {counts.quarantined:,} + released "
        f"{counts.released:,}"
    )
    if result.not_acknowledged:
        out.print(
            f"  {result.not_acknowledged:,} handled messages could not be deleted from the queue; "
            "SQS will deliver them again"
        )
    if result.receive_count and result.max_receive_count:
        out.print(
            f"  this look is receive {result.receive_count} of {result.max_receive_count} for "
            "these messages; after the last one SQS moves them to the dead-letter queue"
        )
    dead = result.dead_letters
    if dead and dead.messages:
        noun = "message" if dead.messages == 1 else "messages"
        out.print(_text(f"  dead-letter queue {dead.queue} holds {dead.messages:,} {noun}"))
    left = result.left
    if left is not None and left.visible + left.in_flight + left.delayed:
        out.print(
            f"  left in the queue: {left.visible:,} visible, {left.in_flight:,} in flight "
            f"elsewhere, {left.delayed:,} delayed"
        )
    if result.reasons:
        reasons = pd.DataFrame(
            {
                "reason": pd.Series(list(result.reasons), dtype=object),
                "messages": list(result.reasons.values()),
            }
        )
        frame(reasons, "failed checks")


def table(rows: pd.DataFrame, title: str, *, as_json: bool) -> None:
    """Print a frame as a table, or as JSON lines with ISO times."""
    if as_json:
        for row in rows.to_dict(orient="records"):
            lines.json_line({str(k): None if _is_null(v) else v for k, v in row.items()})
    else:
        frame(rows, title)


def frame(rows: pd.DataFrame, title: str) -> None:
    """Print a frame as a table, or each row as lines if the terminal is too narrow for a table."""
    out = console()
    if _least_width(rows) > out.width and not rows.empty:
        out.print(_text(title))
        for row in rows.itertuples(index=False):
            lines_of_row = Table.grid(padding=(0, _PADDING, 0, 0))
            for name, value in zip(rows.columns, row, strict=True):
                lines_of_row.add_row(_text(f"  {name}"), _cell(value))
            out.print()
            out.print(lines_of_row)
        return
    printed = Table(title=_text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for name in rows.columns:
        numeric = pd.api.types.is_numeric_dtype(rows[name])
        printed.add_column(
            _text(str(name)), justify="right" if numeric else "left", overflow="fold"
        )
    for row in rows.itertuples(index=False):
        printed.add_row(*map(_cell, row))
    out.print(printed)
    if rows.empty:
        out.print("  (none)")


def _least_width(rows: pd.DataFrame) -> int:
    """The characters that a table of the frame needs to be readable."""
    widths = [max(len(_cell(value)) for value in [str(name), *rows[name]]) for name in rows.columns]
    return sum(min(width, MIN_COLUMN_CHARACTERS) + _PADDING for width in widths)


def _cell(value: Any) -> Text:
    if _is_null(value):
        return Text()
    return _text(time_text(value) if isinstance(value, pd.Timestamp) else str(value))


def _is_null(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def _text(text: str) -> Text:
    # Not a str, in which Rich would obey markup.
    return Text(visible(text))


def track(items: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """Pass the items on; show a progress bar if standard error is a terminal."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        yield from bar.track(items, total=total, description=what)
