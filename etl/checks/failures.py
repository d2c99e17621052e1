"""Runs pandera's schemas, and takes from their errors which rows failed, and never a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from etl.checks.searches import Failed
from etl.fieldtypes import Values

TABLE = "table"  # in place of a column, for what is checked of a whole row

Failure = tuple[int, str, str]  # row, column or TABLE, check


def check_of(name: str, failed: Callable[[Any], Failed]) -> pa.Check:
    """A check of pandera's that asks for the positions of the rows that fail it."""

    def passes(checked: Any) -> Any:
        rows = failed(checked)
        if not rows:
            return True  # of all values, and no Series has to be made
        passed = np.ones(len(checked), np.bool_)
        passed[rows] = False
        return pd.Series(passed, index=checked.index)

    return pa.Check(
        passes,
        name=name,
        error=name,
        ignore_na=False,
        # The answers tell which rows failed. pandera would collect the values in frames of its
        # own, and pyarrow, if installed, cannot hold all of them.
        n_failure_cases=0,
    )


def over_series(failed: Callable[[Values], Failed]) -> Callable[[Any], Failed]:
    """The search for failures in a Series of converted values, with None for null."""
    return lambda series: failed(plain_values(series))


def plain_values(series: Any) -> list[Any]:
    """The values of a column of the valid frame, with None for null."""
    values: list[Any] = series.tolist()
    # Only a nullable array has another null than None.
    if isinstance(series.dtype, pd.api.extensions.ExtensionDtype) and series.hasnans:
        return [None if value is pd.NA else value for value in values]
    return values


def failures(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> list[Failure]:
    """The rows of a frame with an index from 0 that fail a check, in order.

    :raises TypeError: the schema cannot be applied to the frame
    """
    found: list[Any] = []
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        found = errors.schema_errors
    return sorted({failure for error in found for failure in _rows(error)})


def _rows(error: Any) -> Iterator[Failure]:
    """Yield the row, the column and the check of each failure in one error of pandera's."""
    column = TABLE if error.schema.name is None else str(error.schema.name)
    check = str(getattr(error.check, "name", error.check))
    answers = error.check_output
    if not isinstance(answers, pd.Series) or answers.all():
        # No row is at fault: a check of ours raised, or the frame is not what read() returns.
        raise TypeError(f"the schema cannot be applied: {column}: {check}")
    for row in answers.index[~answers]:
        yield int(row), column, check
