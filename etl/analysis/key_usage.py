"""Which keys the stored tokens and sealed bodies need.

After a rotation, equal values have a different token under each key until ``rekey`` has moved all
rows to the primary key. So check before comparing rows that their tokens are all of one key.
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

# The same as etl.crypto.tokens.TOKEN, in parts: Postgres takes 56 us a value for the counted
# repetitions of that pattern, and 1.5 us without them.
_SHAPE = r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$"
_MAX_ID_CHARACTERS = 16
_MIN_SEALED_CHARACTERS = 43


def key_usage(engine: sa.Engine, table: Table) -> pd.DataFrame:
    """Count the tokens of each masked column by key: ``column``, ``key_id``, ``rows``.

    Reads the whole table once. Nulls are not counted; values that are not tokens count under the
    key id None. Tokens of a column can be compared only if they are under the same key.

    :raises DatabaseRefused: the table is missing, or a privilege
    :raises DatabaseUnavailable: an outage
    """
    masked = masked_columns(table)
    if not masked:
        return pd.DataFrame(columns=["column", "key_id", "rows"])
    target = target_table(table)
    names = (sa.column("column", sa.Text), sa.column("token", sa.Text))
    pairs = [(column.name, target.c[column.name]) for column in masked]
    cells = sa.values(*names, name="cells").data(pairs).lateral()
    query = (
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
        answer = connection.execute(query)
        return pd.DataFrame(answer.all(), columns=list(answer.keys()))


def incomparable(usage: pd.DataFrame, column: Column, key_ids: Collection[str]) -> int:
    """Count the rows with a value in the column that is not a token of any of these keys.

    Columns in: ``column``, ``key_id``, ``rows``, as :func:`key_usage` returns them.
    """
    is_other = (usage["column"] == column.name) & ~usage["key_id"].isin(key_ids)
    return int(usage.loc[is_other, "rows"].sum())


def _key_id(value: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    dot = sa.func.strpos(value, ".")
    is_token = sa.and_(
        value.collate("C").regexp_match(_SHAPE),
        dot <= _MAX_ID_CHARACTERS + 1,
        sa.func.length(value) - dot >= _MIN_SEALED_CHARACTERS,
    )
    return sa.case((is_token, sa.func.split_part(value, ".", 1)))


def quarantine_usage(engine: sa.Engine) -> pd.DataFrame:
    """Count the quarantined bodies by the key that sealed them: ``key_id``, ``entries``.

    :raises TableError: the job's tables do not exist
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    return query_frame(engine, "quarantine_keys")


def key_list(keyring: Keyring, usage: Mapping[str, Mapping[Any, int]]) -> pd.DataFrame:
    """List the keys of the keyring and of the database: ``key_id``, ``status``, then each place.

    :param usage: by place, the number of values under each key id; the key id of values that are
        not tokens is None
    """
    used = {key_id for counts in usage.values() for key_id in counts}
    unknown = sorted(used - {*keyring.key_ids, None})
    ids = [*keyring.key_ids, *unknown, *([None] if None in used else [])]
    status = {
        **dict.fromkeys(keyring.key_ids, "older key"),
        **dict.fromkeys(unknown, "not in the keyring"),
        None: "not a token",
        keyring.primary: "primary",
    }
    numbers = {place: [counts.get(key_id, 0) for key_id in ids] for place, counts in usage.items()}
    return pd.DataFrame({"key_id": ids, "status": [status[key_id] for key_id in ids], **numbers})


def usage_by_place(engine: sa.Engine, table: Table) -> dict[str, dict[Any, int]]:
    """Combine :func:`key_usage` and :func:`quarantine_usage` for :func:`key_list`."""
    places: dict[str, dict[Any, int]] = {
        f"{table.name}.{column.name}": {} for column in masked_columns(table)
    }
    for column, key_id, count in key_usage(engine, table).itertuples(index=False):
        places[f"{table.name}.{column}"][_none_for_null(key_id)] = count
    entries = quarantine_usage(engine).itertuples(index=False)
    places["etl.quarantine"] = {_none_for_null(key_id): count for key_id, count in entries}
    return places


def _none_for_null(key_id: Any) -> str | None:
    return None if pd.isna(key_id) else str(key_id)
