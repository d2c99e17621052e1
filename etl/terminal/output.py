"""Tables on standard output, made for a person at a terminal or for a pipe; a progress bar."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from etl.logs import visible
from etl.terminal import cells, lines
from etl.terminal.table import ASCII, Layout, Marks, layout

if TYPE_CHECKING:
    import pandas as pd

MAX_WIDTH = 10_000  # of a line that is not for a terminal


class _SafeConsole(Console):
    """A console that shows as escapes what a terminal would obey in a text."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Read the markup of a text; its control characters become visible first."""
        return super().render_str(visible(text, keep="\n"), **options)


def console() -> Console:
    """Make a console on standard output; lines break where a terminal does, and only there."""
    # Not Rich's own size, which is 80 columns on every terminal without cursor movements. Without
    # emoji, because ":x:" in a value is no picture.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else MAX_WIDTH
    return _SafeConsole(width=width, height=25, highlight=False, emoji=False)


def table(
    rows: pd.DataFrame,
    title: str,
    *,
    as_json: bool,
    wide: bool = False,
    importance: Sequence[str] = (),
) -> None:
    """Print a frame as a table, or as JSON lines with ISO times.

    What a table leaves out for lack of room is named on standard error.

    :param wide: print everything in full, however wide it is
    :param importance: as of :func:`etl.terminal.table.layout`
    """
    if as_json:
        for row in rows.to_dict(orient="records"):
            lines.json_line({str(k): None if cells.is_null(v) else v for k, v in row.items()})
    else:
        say_what_is_missing([frame(rows, title, wide=wide, importance=importance)])


def frame(
    rows: pd.DataFrame, title: str, *, wide: bool = False, importance: Sequence[str] = ()
) -> Layout:
    """Print a frame as a table, or each row as lines if the terminal is too narrow for a table.

    Through a pipe, and with *wide*, everything is printed in full, one line for each row.
    """
    out = console()
    is_limited = sys.stdout.isatty() and not wide
    printed = layout(rows, out.width if is_limited else None, _marks(), importance)
    zone = any(cells.is_time(list(rows.iloc[:, i])) for i in range(len(rows.columns)))
    style = "italic" if printed.heads else "bold"
    heading = Text(visible(title) + " (times in UTC)" * zone, style)
    out.print(heading, soft_wrap=not is_limited)
    for number, line in enumerate(printed.lines):
        out.print(Text(line, "bold" if number in printed.heads else ""), soft_wrap=True)
    if rows.empty:
        out.print("  (none)")
    return printed


def say_what_is_missing(printed: Iterable[Layout]) -> None:
    """Say on standard error how to see in full what these tables shorten or leave out."""
    tables = list(printed)
    left_out = list(dict.fromkeys(name for each in tables for name in each.left_out))
    if left_out:
        what = f"left out: {', '.join(left_out)}"
    elif any(each.is_cut for each in tables):
        what = "ids, times or tokens are shortened"
    else:
        return
    for line in textwrap.wrap(f"{what}; --wide shows every column in full", console().width):
        lines.say(line)


def _marks() -> Marks:
    """The characters that standard output can write."""
    try:
        (Marks.rule + Marks.ellipsis).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return Marks()


def track(items: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """Pass the items on; show a progress bar if standard error is a terminal."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        yield from bar.track(items, total=total, description=what)
