"""Values and rows looked up over every key of a keyring.

After a rotation equal values have as many tokens as there are keys, until `rekey` has brought all
rows under the primary one. So whoever looks for a value looks for each of its tokens.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl import mask
from etl.config import Column, Table
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError
from etl.postgres.engine import transaction
from etl.postgres.tables import target_table
from etl.schema import column_checks, convert


def tokens_of(value: str, column: Column, keyring: Keyring) -> dict[str, str]:
    """The token of a value under every key, by key id, the primary key's first.

    The value is checked and brought into the column's one spelling, as the loader does it.

    :raises SettingsError: the loader would have rejected the value; names the check
    """
    for check, answers in column_checks(column):
        if not all(answers([value])):
            raise SettingsError(
                f"the value breaks the check {check!r} of {column.source!r}, so that no row has it"
            )
    (canonical,) = convert(column, [value])
    ids = sorted(keyring.key_ids, key=lambda key_id: key_id != keyring.primary)
    return {
        key_id: str(
            mask.tokens([canonical], keyring.with_primary(key_id), column.masking_context)[0]
        )
        for key_id in ids
    }


def find_rows(
    engine: sa.Engine, table: Table, column: Column, tokens: dict[str, str], limit: int
) -> pd.DataFrame:
    """The rows that have one of the tokens in the column: the table's columns, in no order.

    :param limit: most rows to return
    :raises DatabaseRefused: the table is missing, or a privilege
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    wanted = sa.select(target).where(target.c[column.name].in_(tokens.values())).limit(limit)
    return _frame(engine, wanted)


def _frame(engine: sa.Engine, statement: sa.Select[Any]) -> pd.DataFrame:
    with transaction(engine) as connection:
        answer = connection.execute(statement)
        return pd.DataFrame(answer.all(), columns=list(answer.keys()))
