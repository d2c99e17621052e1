"""The lines of a table, made to fit a width without a break inside a word, a number or a token.

A table that is too wide is shown with short ids, times and tokens. If that does not suffice,
columns are left out where the caller says which matter least; else each row is shown as lines, one
for each column.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from etl.logs import visible
from etl.terminal import cells

if TYPE_CHECKING:
    import pandas as pd

# A column of text is not made narrower than this, or than its longest word.
MIN_TEXT = 20
MIN_COLUMNS = 4  # of a table from which columns may be left out; with fewer, rows are lines
# In a terminal that is narrower than this, no attempt is made.
MIN_WIDTH = 20
_BELOW = 4  # indent of a value below its name

_WIDE_GAP = 3  # spaces between two columns
_GAP = 2
_INDENT = 2
_MARGIN = 1  # of the rule, beyond the last column


@dataclass(frozen=True)
class Marks:
    """The characters that are drawn and are in no value."""

    rule: str = "─"
    ellipsis: str = "…"


ASCII = Marks("-", "~")


@dataclass(frozen=True)
class Layout:
    """A table as lines."""

    lines: list[str]
    heads: range = range(0)  # the lines that hold the names of the columns
    is_cut: bool = False  # something in it is shortened
    left_out: list[str] = field(default_factory=list)  # columns


@dataclass(frozen=True)
class _Column:
    name: str
    texts: list[str]
    is_right: bool  # aligned
    is_cut: bool = False

    @property
    def least(self) -> int:
        """The characters without which a word would break."""
        words = [*_name_parts(self.name), *(word for text in self.texts for word in text.split())]
        return max(_widest(words), min(_widest(self.texts), MIN_TEXT))

    @property
    def most(self) -> int:
        """The characters with which nothing is broken."""
        return _widest([self.name, *self.texts])


def layout(
    rows: pd.DataFrame, width: int | None, marks: Marks, importance: Sequence[str] = ()
) -> Layout:
    """Lay out a table.

    :param width: in characters; None for a table as wide as it is
    :param importance: the columns, the most important first, if others may be left out for lack of
        room; empty if none may
    """
    full = [_full_column(rows, position) for position in range(len(rows.columns))]
    if width is None or _grid_width([column.most for column in full], _WIDE_GAP) <= width:
        return _grid(full, [column.most for column in full], _WIDE_GAP, marks)
    now = dt.datetime.now(dt.UTC)
    short = [_short_column(rows, position, now, marks) for position in range(len(full))]
    rank = {name: position for position, name in enumerate(importance)}
    order = sorted(range(len(short)), key=lambda i: rank.get(short[i].name, len(rank)))
    least = min(MIN_COLUMNS, len(short)) if importance else len(short)
    for count in range(len(short), least - 1, -1):
        kept = [short[i] for i in sorted(order[:count])]
        if widths := _widths(kept, width):
            grid = _grid(kept, widths, _GAP, marks)
            is_cut = any(column.is_cut for column in kept)
            left_out = [short[i].name for i in sorted(order[count:])]
            return Layout(grid.lines, grid.heads, is_cut, left_out)
    return _by_rows(full, short, max(width, MIN_WIDTH), marks)


def _full_column(rows: pd.DataFrame, position: int) -> _Column:
    import pandas as pd

    values = rows.iloc[:, position]
    name = visible(str(rows.columns[position]))
    is_number = pd.api.types.is_numeric_dtype(values)
    return _Column(name, [cells.full(value) for value in values], bool(is_number))


def _short_column(rows: pd.DataFrame, position: int, now: dt.datetime, marks: Marks) -> _Column:
    full = _full_column(rows, position)
    values = list(rows.iloc[:, position])
    if cells.is_time(values):
        texts = cells.short_times(values, now)
    else:
        texts = [cells.short(full.name, value, marks.ellipsis) for value in values]
    return _Column(full.name, texts, full.is_right, texts != full.texts)


def _widths(columns: Sequence[_Column], width: int) -> list[int] | None:
    """The width of each column in a table that fits, or None."""
    widths = [column.least for column in columns]
    spare = width - _grid_width(widths, _GAP)
    if spare < 0:
        return None
    # First to the values, and to those that need little: a short text is then not broken.
    for wanted in ([_widest(column.texts) for column in columns], [c.most for c in columns]):
        more = {i: max(most - widths[i], 0) for i, most in enumerate(wanted)}
        for position in sorted(more, key=lambda i: more[i]):
            given = min(more[position], spare)
            widths[position] += given
            spare -= given
    return widths


def _grid_width(widths: Sequence[int], gap: int) -> int:
    return _INDENT + sum(widths) + gap * (len(widths) - 1) + _MARGIN


def _grid(columns: Sequence[_Column], widths: Sequence[int], gap: int, marks: Marks) -> Layout:
    names = [_wrapped_name(column.name, w) for column, w in zip(columns, widths, strict=True)]
    height = max(map(len, names), default=0)
    # Names that take fewer lines are next to the rule.
    head = [[""] * (height - len(name)) + name for name in names]
    lines = _row(columns, head, widths, gap)
    lines.append(" " + marks.rule * (_grid_width(widths, gap) - 1))
    for texts in zip(*(column.texts for column in columns), strict=True):
        wrapped = [_wrapped(text, w) for text, w in zip(texts, widths, strict=True)]
        lines += _row(columns, wrapped, widths, gap)
    return Layout(["", *lines, ""], range(1, 1 + height))


def _row(
    columns: Sequence[_Column], wrapped: Sequence[list[str]], widths: Sequence[int], gap: int
) -> list[str]:
    lines = []
    for number in range(max(map(len, wrapped), default=0)):
        parts = []
        for column, texts, width in zip(columns, wrapped, widths, strict=True):
            text = texts[number] if number < len(texts) else ""
            blanks = " " * (width - cell_len(text))
            parts.append(blanks + text if column.is_right else text + blanks)
        lines.append((" " * _INDENT + (" " * gap).join(parts)).rstrip())
    return lines


def _by_rows(full: Sequence[_Column], short: Sequence[_Column], width: int, marks: Marks) -> Layout:
    """Show each row as lines, one for each column, with its value in full where it fits."""
    widest = _widest(column.name for column in full)
    lines = []
    is_cut = False
    for number in range(len(full[0].texts) if full else 0):
        lines.append("")
        for long, brief in zip(full, short, strict=True):
            beside = set_cell_size(" " * _INDENT + long.name, _INDENT + widest + _WIDE_GAP)
            above = _cut(" " * _INDENT + long.name, width, marks)
            text = long.texts[number]
            is_too_long = not _fits(text, width - _BELOW)
            if is_too_long:
                text = " ".join(_cut(w, width - _BELOW, marks) for w in brief.texts[number].split())
            room = width - cell_len(beside)
            if room >= MIN_TEXT and _fits(text, room):
                lines += _indented(_wrapped(text, room), beside, " " * cell_len(beside))
            else:
                lines.append(above)
                lines += _indented(_wrapped(text, width - _BELOW), " " * _BELOW, " " * _BELOW)
            is_cut = is_cut or is_too_long
    return Layout([*lines, ""], is_cut=is_cut)


def _fits(text: str, width: int) -> bool:
    """Whether no word of a text is longer than this."""
    return _widest(text.split()) <= width


def _indented(texts: Sequence[str], first: str, others: str) -> list[str]:
    return [
        (indent + text).rstrip()
        for indent, text in zip([first, *[others] * (len(texts) - 1)], texts, strict=True)
    ]


def _wrapped(text: str, width: int) -> list[str]:
    """Break a text at blanks; a word that is longer than *width* is a line of its own."""
    if cell_len(text) <= width:
        return [text]
    return _filled([f"{word} " for word in text.split()], width)


def _wrapped_name(name: str, width: int) -> list[str]:
    return [name] if cell_len(name) <= width else _filled(_name_parts(name), width)


def _filled(parts: Iterable[str], width: int) -> list[str]:
    lines = [""]
    for part in parts:
        if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _name_parts(name: str) -> list[str]:
    """The words of a name: after an underscore, a dot or a blank it may go on in a new line."""
    return re.findall(r"[^_. ]*[_. ]*", name)[:-1] or [name]


def _cut(text: str, width: int, marks: Marks) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - len(marks.ellipsis)).rstrip() + marks.ellipsis


def _widest(texts: Iterable[str]) -> int:
    return max(map(cell_len, texts), default=0)
