"""Raw frame -> valid frame and rejects, by the pandera schema of the configured columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from etl.checks.searches import Failed
from etl.config import Column
from etl.fieldtypes import Values
from etl.frames import Note, rejects
from etl.reading.cleaning import cleaned
from etl.schema import column_checks, convert


def frame_schema(columns: tuple[Column, ...]) -> pa.DataFrameSchema:
    """The checks of a raw frame, named as they appear in the quarantine.

    :raises SettingsError: as :func:`etl.checks.configured.check_columns`
    """
    schema = pa.DataFrameSchema(
        {
            column.name: pa.Column(
                object,
                # Our own checks report absence and null by name; pandera's would stop there.
                nullable=True,
                checks=[
                    pa.Check(
                        _over_series(failed),
                        name=name,
                        error=name,
                        ignore_na=False,
                        # The answers tell which rows failed. pandera would collect the values in
                        # frames of its own, and pyarrow, if installed, cannot hold all of them.
                        n_failure_cases=0,
                    )
                    for name, failed in column_checks(column)
                ],
            )
            for column in columns
        }
    )
    # pandera imports most of itself when it validates for the first time. What fails there should
    # fail now, and not when messages have been received.
    schema.validate(pd.DataFrame(columns=list(schema.columns), dtype=object))
    return schema


def _over_series(failed: Callable[[Values], Failed]) -> Callable[[Any], Any]:
    def check(series: Any) -> Any:
        rows = failed(series.tolist())
        if not rows:
            return True  # of all values, and no Series has to be made
        passed = np.ones(len(series), np.bool_)
        passed[rows] = False
        return pd.Series(passed, index=series.index)

    return check


def split(
    raw: pd.DataFrame,
    schema: pa.DataFrameSchema,
    columns: tuple[Column, ...],
    notes: Counter[Note] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separate the rows that pass every check from those that do not.

    Columns in: ``message_id`` and every column's source, as :func:`etl.extract.read` returns them.

    Columns out: ``message_id``, then the configured columns in order, converted. Columns to be
    masked have their ``plain_name``, the others their name in the table. Text is object, with None
    for null; numbers have pandas' nullable types.

    Rows: each row is either in the valid frame, or has one or more rows in the rejects
    (``message_id``, ``column``, ``check``; the column is the source). Both keep the order.

    Errors: none for a bad value. pandera's errors carry values, so they do not leave this module.

    :param notes: gets what was changed or warned of without a reject, by source and note
    :raises TypeError: the schema cannot be applied to the frame
    """
    message_ids = raw["message_id"].tolist()
    values: dict[str, list[Any]] = {}
    changes = Counter[Note]()
    for column in columns:
        counts = Counter[str]()
        values[column.name] = cleaned(column, raw[column.source].tolist(), counts)
        # Two columns of one source change the same values, so these are not added up.
        if counts:
            changes |= Counter({(column.source, note): count for note, count in counts.items()})
    if notes is not None:
        notes.update(changes)
    failures = _failures(_objects(values), schema)
    if bad := {row for row, _, _ in failures}:
        good = [row for row in range(len(raw)) if row not in bad]
        values = {name: [column[row] for row in good] for name, column in values.items()}
        valid_ids = [message_ids[row] for row in good]
    else:
        valid_ids = message_ids
    sources = {column.name: column.source for column in columns}
    # Two columns of one source may fail the same check.
    named = dict.fromkeys((message_ids[row], sources[name], why) for row, name, why in failures)
    return _converted(valid_ids, values, columns), rejects(named)


def _failures(raw: pd.DataFrame, schema: pa.DataFrameSchema) -> list[tuple[int, str, str]]:
    found: list[Any] = []
    try:
        schema.validate(raw, lazy=True)
    except pa.errors.SchemaErrors as errors:
        found = errors.schema_errors
    return sorted({failure for error in found for failure in _rows(error)})


def _rows(error: Any) -> Iterator[tuple[int, str, str]]:
    """Yield the row, the column and the check of each failure in one error of pandera's."""
    column, check = str(error.schema.name), str(getattr(error.check, "name", error.check))
    answers = error.check_output
    if not isinstance(answers, pd.Series) or answers.all():
        # No row is at fault: a check of ours raised, or the frame is not what read() returns.
        raise TypeError(f"the schema cannot be applied: {column}: {check}")
    for row in answers.index[~answers]:
        yield int(row), column, check


def _objects(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A frame of object columns, in which pandas infers nothing: "NA" is a country, not a null."""
    return pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in columns.items()})


def _converted(
    ids: list[str], values: dict[str, list[Any]], columns: tuple[Column, ...]
) -> pd.DataFrame:
    data: dict[str, Any] = {"message_id": pd.Series(ids, dtype=object)}
    for column in columns:
        if column.metadata == "message_id":
            data[column.name] = data["message_id"]
            continue
        converted = convert(column, values[column.name])
        name = column.plain_name if column.mask else column.name
        is_list = isinstance(converted, list)
        data[name] = pd.Series(converted, dtype=object) if is_list else converted
    return pd.DataFrame(data)
