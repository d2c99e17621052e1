"""Looks up values and rows under every key of a keyring.

After a rotation, equal values have one token for each key that was used for them, until ``rekey``
has brought all rows under the primary key. A search for a value is therefore a search for each of
its tokens.
"""

from __future__ import annotations

import pandas as pd
import sqlalchemy as sa

from etl import mask
from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.errors import UsageError
from etl.postgres.engine import transaction
from etl.postgres.queries import fetch_frame
from etl.postgres.tables import target_table
from etl.schema import column_checks, convert


def tokens_of(value: str, column: Column, keyring: Keyring) -> dict[str, str]:
    """Return the token of a value under every key, by key id, with the primary key first.

    The value is checked and brought into the column's canonical form, as the loader does it.

    :raises UsageError: the loader would have rejected the value; names the check
    """
    for check, answers in column_checks(column):
        if not all(answers([value])):
            raise UsageError(
                f"the value fails the check {check!r} of {column.source!r}, so no row can contain "
                "it"
            )
    (canonical,) = convert(column, [value])
    key_ids = sorted(keyring.key_ids, key=lambda key_id: key_id != keyring.primary)
    return {
        key_id: str(
            mask.tokens([canonical], keyring.with_primary(key_id), column.masking_context)[0]
        )
        for key_id in key_ids
    }


def find_rows(
    engine: sa.Engine, table: Table, column: Column, tokens: dict[str, str], limit: int
) -> pd.DataFrame:
    """Find the rows that have one of the tokens in the column: the table's columns, in any order.

    :param limit: maximum number of rows to return
    :raises DatabaseRefused: the table or a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    statement = sa.select(target).where(target.c[column.name].in_(tokens.values())).limit(limit)
    with transaction(engine) as connection:
        return fetch_frame(connection, statement)
