"""Reads a table of tokens from CSV, as spreadsheets and databases of any country write it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import pandas as pd

from etl.config import Column
from etl.crypto.tokens import TOKEN
from etl.errors import UsageError, nearest
from etl.operations.spellings import innermost
from etl.text import counted

# What stands between cells, the most usual first.
SEPARATORS = ",;\t|"
# Excel's own first line, which is not a row.
_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[,;\t]*\r?\n", re.IGNORECASE)


def read_csv(text: str, columns: Sequence[Column], max_rows: int) -> pd.DataFrame:
    """Read CSV with a header line; every cell is a str, or None if it is empty.

    Its cells are separated by what makes columns of tokens of the header. Reading stops at one row
    more than *max_rows*, so that the caller can refuse it.

    :param columns: those that tokens may be of
    :raises UsageError: this is not a table in CSV; names the row, from 1, and never a cell
    """
    named = _SEPARATOR_LINE.match(text)
    body = text[named.end() :] if named else text
    separator = named[1] if named else _separator(body, columns)
    header = _header(body, separator)
    # A file in which each separator of the header has a space after it has them in the rows too.
    spaced = len(header) > 1 and all(name[:1] == " " for name in header[1:])
    reader = csv.reader(
        io.StringIO(body, newline=""), delimiter=separator, strict=True, skipinitialspace=spaced
    )
    rows: list[list[str]] = []
    try:
        for row in reader:
            if rows and row and len(row) != len(rows[0]):
                raise UsageError(
                    f"row {len(rows)} has {counted(len(row), 'cell')}, but the header has "
                    f"{len(rows[0])}"
                )
            if row:
                rows.append(row)
            if len(rows) > max_rows + 1:
                break
    except csv.Error:
        raise UsageError(f"line {reader.line_num + 1} is not CSV in UTF-8") from None
    if not rows or len(set(rows[0])) < len(rows[0]):
        raise UsageError("the header must name every column, and no two columns alike")
    cells = [[cell or None for cell in row] for row in rows[1:]]
    return pd.DataFrame(cells, columns=rows[0], dtype=object)


def token_columns(header: Sequence[str], columns: Sequence[Column]) -> dict[str, Column]:
    """Find the columns of a table that hold tokens: those named like a masked column or its field.

    :raises UsageError: there is none; the names in the header are not shown, since they are values
        if it has none
    """
    found = {name: column for name in header for column in columns if _is_named(name, column)}
    if found:
        return found
    known = [name for column in columns for name in (column.name, *column.fields)]
    if any(re.match(TOKEN, innermost(name)) for name in header):
        raise UsageError(
            f"the first row of the CSV file has a token in it: put a header before it, such as "
            f"{known[0]}, or send the tokens on standard input, one per line"
        )
    names = ", ".join(repr(column.name) for column in columns)
    raise UsageError(
        "no column of the CSV file is named like a masked column; expected one of "
        f"{names}, or its event field{_hint(header, known)}"
    )


def _is_named(name: str, column: Column) -> bool:
    return innermost(name) in (column.name, *column.fields)


def _separator(text: str, columns: Sequence[Column]) -> str:
    """Choose the separator that makes the most columns of tokens, then the most columns."""

    def fit(separator: str) -> tuple[int, int]:
        header = _header(text, separator)
        tokens = sum(_is_named(name, column) for name in header for column in columns)
        return (tokens, len(header) if len(set(header)) == len(header) else 0)

    return max(SEPARATORS, key=fit)


def _header(text: str, separator: str) -> list[str]:
    """The first row that is not empty; none if it is not CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        return next((row for row in reader if row), [])
    except csv.Error:
        return []


def _hint(header: Sequence[str], known: Sequence[str]) -> str:
    parts = re.split(r"([^\w.-])", header[0]) if len(header) == 1 else []
    if set(known) & set(parts):
        return (
            f"; its header is one cell, with {parts[1]!r} in it: separate the names with commas, "
            "semicolons or tabs"
        )
    for number, name in enumerate(header, 1):
        if meant := nearest(innermost(name), known):
            return f"; did you mean {meant!r} by the name of column {number}?"
    return ""
