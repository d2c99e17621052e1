"""Which keys the stored tokens and sealed bodies need.

After a rotation, equal values have a different token under each key until ``rekey`` has moved all
rows to the primary key. So check before comparing rows that their tokens are all of one key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from etl.config import Column, Table
from etl.crypto.key_ids import MAX_KEY_ID_CHARACTERS
from etl.crypto.tokens import MARK, MIN_SEALED_CHARACTERS, ONE_WAY_MARK
from etl.postgres.engine import transaction
from etl.postgres.queries import fetch_frame
from etl.postgres.tables import query_frame
from etl.schema import masked_columns

# The same as etl.crypto.tokens.TOKEN, in parts: Postgres takes 56 us a value for the counted
# repetitions of that pattern, and 1.5 us without them.
_SHAPE = r"^[A-Za-z0-9_-]+[.:][A-Za-z0-9_-]+$"


def key_usage(engine: sa.Engine, table: Table) -> pd.DataFrame:
    """Count the tokens of each masked column by key: ``column``, ``key_id``, ``rows``, ``one_way``.

    ``one_way`` says how many of the rows hold one-way tokens, which no rekey can change. Reads the
    whole table once. Nulls are not counted; values that are not tokens count under the key id None.
    Tokens of a column can be compared only if they are under the same key.

    :raises DatabaseRefused: the table is missing, or a privilege
    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        return key_usage_in(connection, table)


def key_usage_in(connection: sa.Connection, table: Table) -> pd.DataFrame:
    """Count as :func:`key_usage` does, in the caller's transaction."""
    masked = [column.name for column in masked_columns(table)]
    return _usage_of(connection, table.schema_name, table.name, masked)


def usage_of(engine: sa.Engine, schema: str, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Count the tokens of any table's columns by key, as :func:`key_usage` does."""
    with transaction(engine) as connection:
        return _usage_of(connection, schema, name, columns)


def _usage_of(
    connection: sa.Connection, schema: str, name: str, columns: Sequence[str]
) -> pd.DataFrame:
    if not columns:
        return pd.DataFrame(columns=["column", "key_id", "rows", "one_way"])
    target = sa.table(name, *(sa.column(column, sa.Text) for column in columns), schema=schema)
    names = (sa.column("column", sa.Text), sa.column("token", sa.Text))
    pairs = [(column, target.c[column]) for column in columns]
    cells = sa.values(*names, name="cells").data(pairs).lateral()
    key_id = _key_id(cells.c.token)
    has_mark = _mark_place(cells.c.token, ONE_WAY_MARK) > 0
    query = (
        sa.select(
            cells.c.column,
            key_id.label("key_id"),
            sa.func.count().label("rows"),
            # A plain value may have the mark too.
            sa.func.count().filter(has_mark, key_id.is_not(None)).label("one_way"),
        )
        .select_from(target.join(cells, sa.true()))
        .where(cells.c.token.is_not(None))
        .group_by(sa.text("1"), sa.text("2"))
        .order_by(sa.text("1"), sa.text("2"))
    )
    return fetch_frame(connection, query)


def incomparable(usage: pd.DataFrame, column: Column, key_ids: Collection[str]) -> int:
    """Count the rows with a value in the column that is not a token of any of these keys.

    Columns in: ``column``, ``key_id``, ``rows``, as :func:`key_usage` returns them.
    """
    is_other = (usage["column"] == column.name) & ~usage["key_id"].isin(key_ids)
    return int(usage.loc[is_other, "rows"].sum())


def key_id_text(column: str) -> str:
    """Return SQL for the key id of a value; null if the value is not a token.

    :param column: quoted, for :func:`sqlalchemy.text`; as is what this returns
    """
    key_id = _key_id(sa.literal_column(column, sa.Text))
    # This dialect leaves percent signs in the name as they are.
    dialect: Any = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return str(key_id.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


def _key_id(value: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    # A token has one of the marks, and strpos is 0 for the other.
    mark = _mark_place(value, MARK) + _mark_place(value, ONE_WAY_MARK)
    is_token = sa.and_(
        value.collate("C").regexp_match(_SHAPE),
        mark <= MAX_KEY_ID_CHARACTERS + 1,
        sa.func.length(value) - mark >= MIN_SEALED_CHARACTERS,
    )
    return sa.case((is_token, sa.func.left(value, mark - 1)))


def _mark_place(value: sa.ColumnElement[str], mark: str) -> sa.ColumnElement[int]:
    return sa.func.strpos(value, mark, type_=sa.Integer)


def quarantine_usage(engine: sa.Engine) -> pd.DataFrame:
    """Count the quarantined bodies of all jobs by key: ``job``, ``key_id``, ``entries``.

    :raises TableError: the job's tables do not exist
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    return query_frame(engine, "quarantine_keys")
