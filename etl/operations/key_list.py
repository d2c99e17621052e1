"""Lists the keys of the keyring and of the database, and how much needs each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.analysis.key_usage import key_usage, quarantine_usage
from etl.config import Table
from etl.crypto.keyring import Keyring
from etl.schema import masked_columns


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
    """Count the values under each key, by place: for :func:`key_list`."""
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
