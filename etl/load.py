"""Masked frame -> staging -> target, through DataFrame.to_sql.

Staging is a temporary table of the transaction. The rows wait there until the ledger has told which
of them are new, so the ledger's locks are held only for the short last part of the transaction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.config import LoadSettings, Table
from etl.frames import rejects
from etl.postgres import bisection, enums
from etl.postgres.bisection import Trial
from etl.postgres.columns import staged_values
from etl.postgres.insertion import copy_rows, insert_rows
from etl.postgres.upsert import Mover, Outcome
from etl.schema import STAGING, staging_table, target_table


def stage(
    connection: sa.Connection,
    masked: pd.DataFrame,
    table: Table,
    settings: LoadSettings,
    max_rejects: int,
    staging: str = STAGING,
) -> pd.DataFrame:
    """Put the masked rows into a new staging table, in the caller's transaction.

    Columns in: ``message_id``, then the table's columns, as :func:`etl.mask.columns` leaves them.

    :param staging: name of the staging table

    Rows: all are staged except those that the database refuses, which come back as rejects
    (``message_id``, ``column``, ``check``).

    :raises QuarantineBudget: more than *max_rejects* rows are refused
    :raises DatabaseUnavailable: an outage
    :raises NoRowTaken: all of many rows are refused
    :raises DatabaseRefused: the statement itself is refused
    """
    created = staging_table(table, staging)
    created.create(connection)
    types: Any = {column.name: column.type for column in created.columns}
    method: Any = copy_rows if settings.method == "copy" else insert_rows
    # One COPY takes all rows; copy_rows feeds it in pieces.
    chunk = None if settings.method == "copy" else settings.statement_rows

    def insert(start: int, stop: int) -> Outcome:
        stored = masked.iloc[start:stop].to_sql(
            staging,
            connection,
            if_exists="append",
            index=False,
            dtype=types,
            method=method,
            chunksize=chunk,
        )
        return Outcome(stored or 0)

    # The staging table is the job's own, so the rows alone can be at fault.
    return _insert_rows(connection, masked["message_id"].tolist(), insert, max_rejects, Trial())


def merge(
    connection: sa.Connection,
    message_ids: Sequence[str],
    table: Table,
    staged: int,
    max_rejects: int,
    trial: Trial | None = None,
    staging: str = STAGING,
) -> pd.DataFrame:
    """Move the staged rows of these messages to the target, in the caller's transaction.

    With ``table.on_conflict``, a row may replace another one of its key, or be skipped for it.

    :param staged: rows in the staging table
    :param staging: name of the staging table
    :param trial: gets what the target did with each row, for :func:`etl.postgres.verdict.doubt`

    Rows: all are moved except those that the target refuses or does not store, for whatever reason.
    These come back as rejects (``message_id``, ``column``, ``check``).

    :raises QuarantineBudget: more than *max_rejects* rows are refused
    :raises DatabaseUnavailable: an outage
    :raises NoRowTaken: all of many rows are refused
    :raises DatabaseRefused: the transaction as such is refused
    """
    ids = list(message_ids)
    names = [column.name for column in table.columns]
    # The target is asked once for each connection, whose info is a dict of its own.
    known, key = connection.info, ("staged values", table.full_name, table.columns)
    if key not in known:
        known[key] = staged_values(connection, table)
    values: list[sa.ColumnElement[Any]] = [sa.literal_column(value) for value in known[key]]
    wanted = sa.select(*values).select_from(sa.table(staging))
    # One JSON text, since an array of thousands of parameters would be parsed one by one.
    listed = sa.text("select jsonb_array_elements_text(cast(:ids as jsonb))")

    mover = None if table.on_conflict == "error" else Mover(connection, table, staging)

    def insert(start: int, stop: int) -> Outcome:
        part = ids[start:stop]
        # Nearly always all staged rows are new, and then no id needs to be looked up.
        is_all = len(part) == staged
        if mover is not None:
            return mover.move(part, is_all=is_all)
        rows = wanted
        if not is_all:
            # In the order of their arrival, which a hash join would lose.
            rows = wanted.where(sa.column("message_id").in_(listed)).order_by(sa.column("ctid"))
        statement = sa.insert(target_table(table)).from_select(names, rows)
        inserted = connection.execute(statement, {} if is_all else {"ids": json.dumps(part)})
        return Outcome(inserted.rowcount)

    named = partial(enums.named, connection, table)
    return _insert_rows(connection, ids, insert, max_rejects, trial or Trial(), named)


def _insert_rows(
    connection: sa.Connection,
    message_ids: list[str],
    insert: bisection.Insert,
    max_rejects: int,
    trial: Trial,
    named: bisection.Named = lambda _, refusal: refusal,
) -> pd.DataFrame:
    refused_before = len(trial.refused)
    bisection.insert_rows(connection, message_ids, insert, max_rejects, trial, named)
    refused = list(trial.refused.items())[refused_before:]
    return rejects((message_id, "row", refusal.check) for message_id, refusal in refused)
