"""Insertion methods for ``DataFrame.to_sql``: one INSERT of many rows, and COPY."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import sqlalchemy as sa

from etl.postgres.queries import quote_name

# COPY's text format (PostgreSQL documentation, COPY): what must be escaped in a value.
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
COPY_NULL = "\\N"
PIECE_ROWS = 1000  # rows of a COPY that are written at a time
READ_BYTES = 65_536  # how much of them the driver takes at a time


def insert_rows(
    table: Any, connection: sa.Connection, names: list[str], rows: Iterable[tuple[Any, ...]]
) -> int:
    """Insertion method for ``to_sql``: one INSERT of many rows, like pandas' own method "multi".

    pandas compiles a bind parameter for every value of every statement, which takes ten times as
    long as everything else. Here the values are written into the statement.

    :returns: rows inserted
    """
    values = list(rows)
    cursor: Any = connection.connection.cursor()
    with cursor:
        columns = [
            _literals(cursor, column, place)
            for column, place in zip(zip(*values, strict=True), _places(table, names), strict=True)
        ]
        lines = "),(".join(map(",".join, zip(*columns, strict=True)))
        statement = f"insert into {_insert_target(table.name, names)} values ({lines})"  # noqa: S608
        cursor.execute(statement.encode())
        return int(cursor.rowcount)


def _places(table: Any, names: Sequence[str]) -> list[str]:
    """Return the place of each value of a row.

    Without its type, -0.0 would be a numeric constant, which has no negative zero.
    """
    columns = table.table.columns
    return ["%s::float8" if isinstance(columns[n].type, sa.Double) else "%s" for n in names]


def _literals(cursor: Any, values: Sequence[Any], place: str) -> list[str]:
    """Write the values of a column as the driver does, which takes 0.8 us for each of them."""
    kinds = {*map(type, values)} - {type(None)}
    if kinds == {list}:
        values = [None if value is None else array_text(value) for value in values]
        kinds = {str}
    if kinds == {str}:
        joined = "".join(filter(None, values))
        # The driver knows how the server reads a backslash, and refuses NUL.
        if not any(map(joined.__contains__, "'\\\0")):
            return ["NULL" if value is None else f"'{value}'" for value in values]
    if kinds == {dt.date}:  # nearly all are the same
        texts = {value: cursor.mogrify(place, (value,)).decode() for value in set(values)}
        return [texts[value] for value in values]
    if kinds in ({int}, {Decimal}):
        return ["NULL" if value is None else str(value) for value in values]
    return [cursor.mogrify(place, (value,)).decode() for value in values]


def copy_rows(
    table: Any, connection: sa.Connection, names: list[str], rows: Iterable[tuple[Any, ...]]
) -> int:
    """Insertion method for ``to_sql``: one COPY in text format, fed in pieces.

    The database reads one piece while the next one is being written.

    :returns: rows copied
    """
    cursor: Any = connection.connection.cursor()
    with cursor:
        statement = f"copy {_insert_target(table.name, names)} from stdin"
        cursor.copy_expert(statement, _Pieces(_copy_pieces(rows)), READ_BYTES)
        return int(cursor.rowcount)


def _insert_target(table: str, columns: Sequence[str]) -> str:
    """Return a table and its columns, quoted, as INSERT and COPY want them."""
    quoted = (quote_name(column, for_driver=True) for column in columns)
    return f"{quote_name(table, for_driver=True)} ({', '.join(quoted)})"


def _copy_pieces(rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    """Write rows as lines of COPY's text format, column by column."""
    waiting = iter(rows)
    while part := list(islice(waiting, PIECE_ROWS)):
        columns = [_column_text(values) for values in zip(*part, strict=True)]
        text = "".join(["\n".join(map("\t".join, zip(*columns, strict=True))), "\n"])
        # Text that UTF-8 cannot encode was rejected before. An error raised here would appear in
        # the server's log, together with the text; the server's own refusal names a row at fault.
        yield text.encode("utf-8", "surrogatepass")


def _column_text(values: Sequence[Any]) -> Sequence[str]:
    if isinstance(next((v for v in values if v is not None), None), list):
        values = [None if value is None else array_text(value) for value in values]
    texts, nulls = values, 0
    try:
        joined = "".join(values)
    except TypeError:  # there are nulls, or values of other types
        texts = [COPY_NULL if value is None else str(value) for value in values]
        nulls = values.count(None)
        joined = "".join(texts)
    # One search of the whole column: values that need escaping are rare, and tokens never do.
    if not any(map(joined.__contains__, "\t\n\r")) and joined.count("\\") == nulls:
        return texts
    return [COPY_NULL if value is None else str(value).translate(_ESCAPES) for value in values]


def array_text(values: Sequence[Any]) -> str:
    """Write a list as the text of an array (PostgreSQL documentation, 8.15.6)."""
    return f"{{{','.join(map(_element_text, values))}}}"


def _element_text(value: Any) -> str:
    if value is None:
        return "NULL"
    return '"{}"'.format(str(value).replace("\\", "\\\\").replace('"', '\\"'))


class _Pieces:
    """What copy_expert reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        end = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:end], self._rest[end:]
        return bytes(piece)
