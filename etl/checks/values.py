"""The checks of the valid frame: of its columns, between them, and those written in Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import pandera.pandas as pa

from etl.checks import functions
from etl.checks.column_values import UNIQUE, repeated, value_checks
from etl.checks.expressions import Expression, row_checks
from etl.checks.failures import (
    TABLE,
    Failure,
    check_of,
    failures,
    over_series,
    plain_values,
)
from etl.checks.searches import Failed
from etl.config import Column, TableChecks
from etl.frames import Note
from etl.schema import convert

Reason = tuple[str, str]  # column of the table or TABLE, check


@dataclass(frozen=True)
class ValueChecks:
    """What is checked of the rows whose values could be read."""

    columns: tuple[Column, ...]
    schema: pa.DataFrameSchema | None  # of the valid frame
    unique: pa.DataFrameSchema | None  # of the rows that pass it
    python: pa.DataFrameSchema | None  # of a frame whose masked columns have the table's names
    warned: frozenset[Reason]

    def failed(self, valid: pd.DataFrame, notes: Counter[Note]) -> list[Failure]:
        """The rows that fail a check, with the source of the column; those that warn are notes.

        :param valid: the frame, with an index from 0; it is not changed
        :param notes: gets the messages that fail a check that warns, by source and check
        """
        found = failures(valid, self.schema) if self.schema else []
        names = {frame_name(column): column.name for column in self.columns}
        found = [(row, names.get(name, TABLE), check) for row, name, check in found]
        warned = {failure for failure in found if failure[1:] in self.warned}
        broken = {*found} - warned
        if self.python is not None:
            renamed = valid.rename(columns=names)[list(names.values())]
            for row, name, check, only_warns in functions.failures(self.python, renamed):
                (warned if only_warns else broken).add((row, name, check))
        if self.unique:
            # The first of equal rows is one that is loaded.
            good = valid.index.difference([row for row, _, _ in broken])
            for place, name, check in failures(valid.loc[good].reset_index(drop=True), self.unique):
                failure = (int(good[place]), names[name], check)
                (warned if failure[1:] in self.warned else broken).add(failure)
        sources = {column.name: column.source for column in self.columns}
        # Two columns of one source may fail the same check.
        for _, name, check in {(row, sources.get(n, TABLE), check) for row, n, check in warned}:
            notes[name, check] += 1
        return sorted((row, sources.get(name, TABLE), check) for row, name, check in broken)


def frame_name(column: Column) -> str:
    """The name of a column in the valid frame."""
    return column.plain_name if column.mask else column.name


def all_value_checks(columns: tuple[Column, ...], rules: TableChecks) -> ValueChecks | None:
    """The checks that are configured; None if there are none.

    :raises SettingsError: one of them cannot be made
    """
    names = {column.name: frame_name(column) for column in columns}
    of_rows = [
        check_of(name, partial(_rows_failing, expression, names))
        for name, expression in row_checks(rules, columns)
    ]
    of_columns = {
        names[column.name]: pa.Column(
            nullable=True, checks=[check_of(name, over_series(f)) for name, f in checks]
        )
        for column in columns
        if (checks := value_checks(column))
    }
    unique = {
        names[column.name]: pa.Column(nullable=True, checks=check_of(UNIQUE, over_series(repeated)))
        for column in columns
        if column.unique
    }
    python = functions.load_schema(rules.python_checks) if rules.python_checks else None
    if not (of_rows or of_columns or unique or python):
        return None
    made = ValueChecks(
        columns,
        pa.DataFrameSchema(of_columns, checks=of_rows) if of_rows or of_columns else None,
        pa.DataFrameSchema(unique) if unique else None,
        python,
        frozenset(
            [
                *((column.name, name) for column in columns for name in column.warn),
                *((TABLE, check.name) for check in rules.checks if check.severity == "warn"),
            ]
        ),
    )
    if python is not None:
        functions.check_fit(python, pd.DataFrame(_no_values(columns)))
    empty = pd.DataFrame(_no_values(columns)).rename(columns=names)
    # As in validate.py: pandera imports what it needs when it validates for the first time.
    for schema in (made.schema, made.unique):
        if schema is not None:
            schema.validate(empty)
    return made


def _no_values(columns: tuple[Column, ...]) -> dict[str, Any]:
    return {column.name: as_series(convert(column, [])) for column in columns}


def as_series(converted: Any) -> Any:
    """Converted values for a frame: a nullable array, or objects with None for null."""
    return pd.Series(converted, dtype=object) if isinstance(converted, list) else converted


def _rows_failing(expression: Expression, names: Mapping[str, str], frame: Any) -> Failed:
    values = {name: plain_values(frame[names[name]]) for name in expression.columns}
    return expression.failed(values, len(frame))
