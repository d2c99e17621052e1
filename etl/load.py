"""Masked frame -> staging -> target, through DataFrame.to_sql.

Staging is a temporary table of the transaction. The rows wait there until the ledger has told which
of them are new, so the ledger's locks are held only for the short last part of the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import psycopg2
import sqlalchemy as sa

from etl.config import LoadSettings, Table
from etl.errors import QuarantineBudget
from etl.frames import Reject, rejects
from etl.postgres.insertion import copy_rows, insert_rows
from etl.postgres.sqlstate import RowRefused, translate
from etl.postgres.tables import target_table
from etl.schema import table_columns

STAGING = "etl_staging"


def stage(
    connection: sa.Connection,
    masked: pd.DataFrame,
    table: Table,
    settings: LoadSettings,
    max_rejects: int,
) -> pd.DataFrame:
    """Put the masked rows into a new staging table, in the caller's transaction.

    Columns in: ``message_id``, then the table's columns, as :func:`etl.mask.columns` leaves them.

    Rows: all are staged except those that the database refuses, which come back as rejects
    (``message_id``, ``column``, ``check``).

    :raises QuarantineBudget: more than *max_rejects* rows are refused
    :raises DatabaseUnavailable: an outage
    :raises DatabaseRefused: the statement itself is refused
    """
    staging = sa.Table(
        STAGING,
        sa.MetaData(),
        sa.Column("message_id", sa.Text),
        *table_columns(table.columns),
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    staging.create(connection)
    types: Any = {column.name: column.type for column in staging.columns}
    method: Any = copy_rows if settings.method == "copy" else insert_rows
    # One COPY takes all rows; copy_rows feeds it in pieces.
    chunk = None if settings.method == "copy" else settings.statement_rows

    def insert(start: int, stop: int) -> None:
        masked.iloc[start:stop].to_sql(
            STAGING,
            connection,
            if_exists="append",
            index=False,
            dtype=types,
            method=method,
            chunksize=chunk,
        )

    refusals = _bisect(connection, masked["message_id"].tolist(), insert, max_rejects)
    return rejects(refusals)


def merge(
    connection: sa.Connection,
    message_ids: Sequence[str],
    table: Table,
    staged: int,
    max_rejects: int,
) -> pd.DataFrame:
    """Move the staged rows of these messages to the target, in the caller's transaction.

    :param staged: rows in the staging table

    Rows: all are moved except those that a constraint or a trigger of the target refuses, which
    come back as rejects (``message_id``, ``column``, ``check``).

    :raises QuarantineBudget: more than *max_rejects* rows are refused
    :raises DatabaseUnavailable: an outage
    :raises DatabaseRefused: the statement itself is refused
    """
    ids = list(message_ids)
    names = [column.name for column in table.columns]
    staging = sa.table(STAGING, sa.column("message_id"), *map(sa.column, names))
    wanted = sa.select(*(staging.c[name] for name in names))
    # One JSON text, since an array of thousands of parameters would be parsed one by one.
    listed = sa.text("select jsonb_array_elements_text(cast(:ids as jsonb))")

    def insert(start: int, stop: int) -> None:
        part = ids[start:stop]
        # Nearly always all staged rows are new, and then no id needs to be looked up.
        is_all = len(part) == staged
        rows = wanted
        if not is_all:
            # In the order of their arrival, which a hash join would lose.
            rows = wanted.where(sa.column("message_id").in_(listed)).order_by(sa.column("ctid"))
        statement = sa.insert(target_table(table)).from_select(names, rows)
        connection.execute(statement, {} if is_all else {"ids": json.dumps(part)})

    refusals = _bisect(connection, ids, insert, max_rejects)
    return rejects(refusals)


def _bisect(
    connection: sa.Connection,
    message_ids: Sequence[str],
    insert: Callable[[int, int], None],
    max_rejects: int,
) -> list[Reject]:
    """Insert all rows; where the database refuses, halve until the rows at fault are found."""
    refusals: list[Reject] = []
    # A stack instead of recursion: rows stay in order, and the budget can end it at once.
    parts = [(0, len(message_ids))]
    while parts:
        start, stop = parts.pop()
        if start == stop:
            continue
        refusal = _attempt(connection, insert, start, stop)
        if refusal is None:
            continue
        if stop - start > 1:
            middle = (start + stop) // 2
            parts += [(middle, stop), (start, middle)]
            continue
        refusals.append((message_ids[start], "row", refusal))
        if len(refusals) > max_rejects:
            raise QuarantineBudget(
                f"the database refused more than {max_rejects} rows of a batch, the last one with "
                f"{refusal}; look at the constraints and triggers of the target table"
            )
    return refusals


def _attempt(
    connection: sa.Connection, insert: Callable[[int, int], None], start: int, stop: int
) -> str | None:
    savepoint = connection.begin_nested()
    try:
        insert(start, stop)
    except (sa.exc.SQLAlchemyError, psycopg2.Error, pd.errors.DatabaseError) as error:
        translated = translate(error)
        if not isinstance(translated, RowRefused):
            raise translated from None
        savepoint.rollback()
        return translated.check
    savepoint.commit()
    return None
