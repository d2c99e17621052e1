"""Which keys the stored tokens and sealed bodies need.

After a rotation equal values have as many tokens as there are keys, until `rekey` has brought all
rows under the primary one. So whoever compares rows first asks whether they are all of one key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.postgres.engine import transaction
from etl.postgres.tables import query_frame, target_table
from etl.schema import masked_columns

# The same in parts, for whole tables: Postgres takes 56 us a value for the counted repetitions
# above, and 1.5 us without them.
_CHARACTERS = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
_LONGEST_ID, _SHORTEST_REST = 16, 43


def key_usage(engine: sa.Engine, table: Table) -> pd.DataFrame:
    """How many rows have a token of which key: ``column``, ``key_id``, ``rows``.

    Reads the whole table once. Null values count nowhere; what is no token counts under the key id
    None. Rows that cannot be compared with each other are those of different key ids of a column.

    :raises DatabaseRefused: the table is missing, or a privilege
    :raises DatabaseUnavailable: an outage
    """
    masked = masked_columns(table)
    if not masked:
        return pd.DataFrame(columns=["column", "key_id", "rows"])
    target = target_table(table)
    cells = sa.values(
        sa.column("column", sa.Text), sa.column("token", sa.Text), name="cells"
    ).data([(column.name, target.c[column.name]) for column in masked]).lateral()  # fmt: skip
    counted = (
        sa.select(
            cells.c.column,
            _key_id(cells.c.token).label("key_id"),
            sa.func.count().label("rows"),
        )
        .select_from(target.join(cells, sa.true()))
        .where(cells.c.token.is_not(None))
        .group_by(sa.text("1"), sa.text("2"))
        .order_by(sa.text("1"), sa.text("2"))
    )
    with transaction(engine) as connection:
        answer = connection.execute(counted)
        return pd.DataFrame(answer.all(), columns=list(answer.keys()))


def incomparable(usage: pd.DataFrame, column: Column, key_ids: Collection[str]) -> int:
    """How many rows have a value in the column that none of these keys made.

    Columns in: ``column``, ``key_id``, ``rows``, as :func:`key_usage` gives them.
    """
    others = (usage["column"] == column.name) & ~usage["key_id"].isin(key_ids)
    return int(usage.loc[others, "rows"].sum())


def _key_id(value: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    dot = sa.func.strpos(value, ".")
    shaped = sa.and_(
        value.collate("C").regexp_match(_CHARACTERS),
        dot <= _LONGEST_ID + 1,
        sa.func.length(value) - dot >= _SHORTEST_REST,
    )
    return sa.case((shaped, sa.func.split_part(value, ".", 1)))


def quarantine_usage(engine: sa.Engine) -> pd.DataFrame:
    """How many quarantined bodies are sealed under which key: ``key_id``, ``entries``.

    :raises TableError: the tables are not there
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    return query_frame(engine, "quarantine_keys")


def key_list(keyring: Keyring, usage: Mapping[str, Mapping[Any, int]]) -> pd.DataFrame:
    """The keys, and those that only the database names: ``key_id``, ``status``, then the places.

    :param usage: by place, how many values there are of each key id; None for what is no token
    """
    found = dict.fromkeys(key_id for counts in usage.values() for key_id in counts)
    unknown = sorted(set(found) - {*keyring.key_ids, None})
    ids = [*keyring.key_ids, *unknown, *([None] if None in found else [])]
    status = {
        **dict.fromkeys(keyring.key_ids, "kept"),
        **dict.fromkeys(unknown, "not in the keyring"),
        None: "no token",
        keyring.primary: "primary",
    }
    counted = {place: [counts.get(key_id, 0) for key_id in ids] for place, counts in usage.items()}
    return pd.DataFrame({"key_id": ids, "status": [status[key_id] for key_id in ids], **counted})


def usage_by_place(engine: sa.Engine, table: Table) -> dict[str, dict[Any, int]]:
    """What :func:`key_usage` and :func:`quarantine_usage` count, for :func:`key_list`."""
    places: dict[str, dict[Any, int]] = {
        f"{table.name}.{c.name}": {} for c in masked_columns(table)
    }
    for column, key_id, count in key_usage(engine, table).itertuples(index=False):
        places[f"{table.name}.{column}"][_none(key_id)] = count
    entries = quarantine_usage(engine).itertuples(index=False)
    return {**places, "etl.quarantine": {_none(key_id): count for key_id, count in entries}}


def _none(key_id: Any) -> str | None:
    return None if pd.isna(key_id) else str(key_id)
