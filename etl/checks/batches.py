"""The checks of a batch as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.checks.values import frame_name
from etl.config import BatchCheck, Table

if TYPE_CHECKING:
    import pandas as pd


BATCH = "batch"  # in place of a column, for what is checked of a whole batch


def broken(table: Table, valid: pd.DataFrame, messages: int) -> list[BatchCheck]:
    """Which of the table's checks of a batch this one fails.

    :param valid: the rows that pass all other checks
    :param messages: of the batch, those that were rejected included
    """
    if not table.batch_checks:
        return []
    names = {column.name: frame_name(column) for column in table.columns}
    return [
        check
        for check in table.batch_checks
        if messages >= check.min_messages and not _is_met(check, valid, names)
    ]


def _is_met(check: BatchCheck, valid: pd.DataFrame, names: dict[str, str]) -> bool:
    rows = len(valid)
    if check.rows is not None:
        low, high = check.rows.minimum, check.rows.maximum
        return (low is None or rows >= low) and (high is None or rows <= high)
    if check.null_share is None or not rows:
        return True
    nulls = int(valid[names[check.null_share.column]].isna().sum())
    return nulls <= rows * check.null_share.maximum
