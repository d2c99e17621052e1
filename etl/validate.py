"""Raw frame -> valid frame and rejects, by the pandera schema of the configured columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pandera.pandas as pa

from etl.checks.failures import check_of, failures
from etl.checks.searches import Failed
from etl.checks.values import ValueChecks, all_value_checks, as_series, frame_name
from etl.config import Column, Settings, TableChecks
from etl.fieldtypes import Values
from etl.frames import Note, rejects
from etl.reading.cleaning import cleaned
from etl.schema import column_checks, convert


@dataclass(frozen=True)
class FrameSchema:
    """The checks of a batch, named as they appear in the quarantine."""

    raw: pa.DataFrameSchema  # of the values as an event has them
    values: ValueChecks | None  # of the values that are stored, if any are configured


def frame_schema(columns: tuple[Column, ...], rules: TableChecks | None = None) -> FrameSchema:
    """The checks of the columns, and those that the table adds.

    :param rules: the table, or None for no checks but those of the columns
    :raises SettingsError: as :func:`etl.checks.configured.check_table`
    """
    schema = pa.DataFrameSchema(
        {
            column.name: pa.Column(
                object,
                # Our own checks report absence and null by name; pandera's would stop there.
                nullable=True,
                checks=[
                    check_of(name, partial(_of_values, failed))
                    for name, failed in column_checks(column)
                ],
            )
            for column in columns
        }
    )
    # pandera imports most of itself when it validates for the first time. What fails there should
    # fail now, and not when messages have been received.
    schema.validate(pd.DataFrame(columns=list(schema.columns), dtype=object))
    return FrameSchema(schema, all_value_checks(columns, rules or TableChecks()))


def frame_schemas(settings: Settings) -> list[FrameSchema]:
    """The checks of each table of a job.

    :raises SettingsError: as :func:`frame_schema`
    """
    return [frame_schema(table.columns, table) for table in settings.tables]


def _of_values(failed: Callable[[Values], Failed], series: Any) -> Failed:
    return failed(series.tolist())


def split(
    raw: pd.DataFrame,
    schema: FrameSchema,
    columns: tuple[Column, ...],
    notes: Counter[Note] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separate the rows that pass every check from those that do not.

    Columns in: ``message_id`` and every column's source, as :func:`etl.extract.read` returns them.

    Columns out: ``message_id``, then the configured columns in order, converted. Columns to be
    masked have their ``plain_name``, the others their name in the table. Text is object, with None
    for null; numbers have pandas' nullable types.

    Rows: each row is either in the valid frame, or has one or more rows in the rejects
    (``message_id``, ``column``, ``check``; the column is the source, or ``table`` for a check of
    the whole row). Both keep the order; rejects whose values could not be read come first.

    Errors: none for a bad value. pandera's errors carry values, so they do not leave this module.

    :param notes: gets what was changed or warned of without a reject, by source and note
    :raises TypeError: the schema cannot be applied to the frame
    :raises CheckRaised: a check written in Python cannot be applied
    """
    message_ids = raw["message_id"].tolist()
    values: dict[str, list[Any]] = {}
    checked: dict[str, Any] = {}
    changes = Counter[Note]()
    for column in columns:
        counts = Counter[str]()
        source = raw[column.source]
        as_sent = source.tolist()
        values[column.name] = cleaned(column, as_sent, counts)
        # What cleaning has not touched need not become a column again.
        is_clean = values[column.name] is as_sent
        checked[column.name] = source.to_numpy() if is_clean else values[column.name]
        # Two columns of one source change the same values, so these are not added up.
        if counts:
            changes |= Counter({(column.source, note): count for note, count in counts.items()})
    if notes is not None:
        notes.update(changes)
    # Of dtype object, so that pandas infers nothing: "NA" is a country, not a null.
    failed = failures(pd.DataFrame(checked, dtype=object), schema.raw)
    if bad := {row for row, _, _ in failed}:
        good = [row for row in range(len(raw)) if row not in bad]
        values = {name: [column[row] for row in good] for name, column in values.items()}
        valid_ids = [message_ids[row] for row in good]
    else:
        valid_ids = message_ids
    sources = {column.name: column.source for column in columns}
    # Two columns of one source may fail the same check.
    named = dict.fromkeys((message_ids[row], sources[name], why) for row, name, why in failed)
    valid = _converted(valid_ids, values, columns)
    if schema.values is None:
        return valid, rejects(named)
    failed = schema.values.failed(valid, Counter() if notes is None else notes)
    found = dict.fromkeys((valid_ids[row], source, why) for row, source, why in failed)
    valid = valid.drop(index=sorted({row for row, _, _ in failed})).reset_index(drop=True)
    return valid, rejects([*named, *found])


def _converted(
    ids: list[str], values: dict[str, list[Any]], columns: tuple[Column, ...]
) -> pd.DataFrame:
    data: dict[str, Any] = {"message_id": pd.Series(ids, dtype=object)}
    for column in columns:
        if column.metadata == "message_id":
            data[column.name] = data["message_id"]
            continue
        data[frame_name(column)] = as_series(convert(column, values[column.name]))
    return pd.DataFrame(data)
