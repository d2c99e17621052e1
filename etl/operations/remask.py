"""Masks a table's tokens of other keys under the primary key, one range of blocks at a time.

The tokens are copied out with the places of their rows (``ctid``), masked again, copied into a
temporary table, and then replace exactly the tokens that they were made from. A place only says
where to look, so it does no harm if rows have moved or changed meanwhile.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from psycopg2 import sql

from etl import mask
from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.crypto.recoverable import Texts
from etl.errors import TableError
from etl.postgres.insertion import COPY_NULL
from etl.postgres.queries import queries
from etl.schema import recoverable_columns

# 4 MiB: some 18,000 rows of the default table, 50,000 of the smallest.
BLOCKS = 512

_BATCH = "etl_rekey"


@dataclass(frozen=True)
class Part:
    """A table that holds rows: the target, or a partition of it."""

    schema: str
    name: str
    blocks: int
    widths: dict[str, int | None]  # maximum characters by masked column; None means no limit

    @property
    def identifier(self) -> sql.Identifier:
        """The name, quoted for a statement."""
        return sql.Identifier(self.schema, self.name)


def table_parts(connection: sa.Connection, table: Table) -> list[Part]:
    """List the tables that hold the rows, with their current sizes; none without such columns.

    :raises TableError: one of them is not an ordinary table
    """
    columns = recoverable_columns(table)
    if not columns:
        return []
    parameters = {"schema": table.schema_name, "name": table.name}
    inspector = sa.inspect(connection)
    parts = []
    for part in connection.execute(queries()["table_parts"], parameters).all():
        if part.kind != "r":
            raise TableError(
                f"{part.name!r} is a view or a foreign table; to rekey it, name the table behind "
                f"it in '{table.section}.name'"
            )
        types = {
            column["name"]: column["type"]
            for column in inspector.get_columns(part.name, part.schema)
        }
        widths = {column.name: getattr(types[column.name], "length", None) for column in columns}
        parts.append(Part(part.schema, part.name, part.blocks, widths))
    return parts


def remask_blocks(
    connection: sa.Connection, table: Table, part: Part, first: int, keyring: Keyring
) -> tuple[int, Counter[str]]:
    """Bring the rows of BLOCKS blocks under the primary key, in the caller's transaction.

    :param first: number of the first block, from 0
    :returns: the number of rows changed, and for each column the number of values that no key opens
    :raises TableError: a column is too narrow for the primary key's tokens
    """
    columns = recoverable_columns(table)
    places, *stored = _copy_out(
        connection, _select(part, columns, keyring.primary, first), 1 + len(columns)
    )
    unopened: Counter[str] = Counter()
    cells: list[Texts] = []
    changed = np.zeros(len(places), np.bool_)
    for column, old in zip(columns, stored, strict=True):
        new = mask.remask(old, keyring, column.masking_context)
        _check_width(part, column, new)
        opened = pd.notna(new)
        unopened[column.name] = int((pd.notna(old) & ~opened).sum())
        old[~opened] = None
        cells += [old, new]
        changed |= opened
    if not changed.any():
        return 0, +unopened
    _copy_in(connection, places[changed], [column_cells[changed] for column_cells in cells])
    with _cursor(connection) as cursor:
        # Otherwise the planner, which expects a few rows, may look each of them up separately.
        cursor.execute("set local enable_nestloop = off; set local enable_mergejoin = off")
        cursor.execute(_update(part, columns, first))
        return int(cursor.rowcount), +unopened


def count_tokens_of_other_keys(connection: sa.Connection, table: Table, keyring: Keyring) -> int:
    """Count the values in recoverable columns that are not tokens of the primary key."""
    target = sa.table(
        table.name,
        *(sa.column(column.name) for column in table.columns),
        schema=table.schema_name,
    )
    counts = [
        sa.func.count().filter(~sa.func.starts_with(target.c[column.name], f"{keyring.primary}."))
        for column in recoverable_columns(table)
    ]
    if not counts:
        return 0
    return sum(connection.execute(sa.select(*counts).select_from(target)).one())


def _cursor(connection: sa.Connection) -> Any:
    # The driver's own cursor, because SQLAlchemy has no COPY.
    return connection.connection.cursor()


def _check_width(part: Part, column: Column, tokens: Texts) -> None:
    width = part.widths[column.name]
    needed = max((len(token) for token in tokens if token is not None), default=0)
    if width is not None and needed > width:
        raise TableError(
            f"column {column.name!r} holds {width} characters, but tokens of the primary key need "
            f"{needed}: widen the column, or rotate to a key with a shorter id"
        )


def _copy_out(connection: sa.Connection, statement: sql.Composable, columns: int) -> list[Texts]:
    out = io.BytesIO()
    with _cursor(connection) as cursor:
        cursor.copy_expert(statement, out)
    # COPY escapes tabs, newlines and backslashes. They stay escaped, since no token has one.
    text = out.getvalue().decode("utf-8", "replace")
    cells = np.array(text.replace("\n", "\t").split("\t")[:-1], dtype=object)
    cells[cells == COPY_NULL] = None
    return list(cells.reshape(-1, columns).T)


def _copy_in(connection: sa.Connection, places: Texts, cells: Sequence[Texts]) -> None:
    definitions = ", ".join(f"v{position} text" for position in range(len(cells)))
    # Tokens need no escapes.
    columns = [places, *(np.where(pd.isna(texts), COPY_NULL, texts) for texts in cells)]
    lines = "\n".join(map("\t".join, zip(*columns, strict=True)))
    with _cursor(connection) as cursor:
        cursor.execute(f"create temporary table {_BATCH} (place tid, {definitions}) on commit drop")
        cursor.copy_expert(f"copy {_BATCH} from stdin", io.BytesIO(lines.encode()))


def _select(part: Part, columns: Sequence[Column], primary: str, first: int) -> sql.Composable:
    """Make a COPY of the rows with tokens of other keys: place, and per column token or null."""
    prefix = sql.Literal(f"{primary}.")
    others = [
        sql.SQL("not starts_with({}, {})").format(_stored(column), prefix) for column in columns
    ]
    cells = [
        sql.SQL("case when {} then {} end").format(other, _stored(column))
        for other, column in zip(others, columns, strict=True)
    ]
    return sql.SQL("copy (select t.ctid, {} from only {} as t where {} and ({})) to stdout").format(
        sql.SQL(", ").join(cells), part.identifier, _within(first), sql.SQL(" or ").join(others)
    )


def _update(part: Part, columns: Sequence[Column], first: int) -> sql.Composable:
    """Make an UPDATE that replaces the old tokens with the new ones if they are still there."""
    sets = []
    unchanged = []
    for position, column in enumerate(columns):
        old = sql.Identifier("b", f"v{2 * position}")
        new = sql.Identifier("b", f"v{2 * position + 1}")
        name = sql.Identifier(column.name)
        stored = _stored(column)
        sets.append(sql.SQL("{} = coalesce({}, {})").format(name, new, stored))
        unchanged.append(sql.SQL("({} is null or {} = {})").format(old, stored, old))
    return sql.SQL(
        "update only {} as t set {} from {} as b where t.ctid = b.place and {} and {}"
    ).format(
        part.identifier,
        sql.SQL(", ").join(sets),
        sql.Identifier(_BATCH),
        _within(first),
        sql.SQL(" and ").join(unchanged),
    )


def _within(first: int) -> sql.Composable:
    ends = (sql.Literal(f"({block},0)") for block in (first, first + BLOCKS))
    return sql.SQL("t.ctid >= {}::tid and t.ctid < {}::tid").format(*ends)


def _stored(column: Column) -> sql.Identifier:
    return sql.Identifier("t", column.name)
