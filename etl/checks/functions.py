"""Checks written in Python: a function that returns a schema of pandera's for the rows.

It is code of the job's owner, and it sees plain values. pandera's errors and the exceptions of its
checks may hold them, so only names and types leave this module.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import CheckRaised, SettingsError

if TYPE_CHECKING:
    import pandas as pd

MAX_NAME_CHARACTERS = 63
# Of an error that says that the schema does not fit the table, whatever its rows.
_OF_ROWS = {"DATAFRAME_CHECK", "CHECK_ERROR"}


def load_schema(name: str) -> Any:
    """Call ``module:function``, which returns a DataFrameSchema of pandera's.

    The module is one that is installed, or is in the working folder.

    :raises SettingsError: there is no such function, or it does not return a schema
    """
    import pandera.pandas as pa

    module, _, function = name.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing there takes the place of a library
    try:
        made = getattr(importlib.import_module(module), function)()
    except ImportError as error:
        raise SettingsError(
            f"python_checks: cannot import {module!r} ({error}); it is looked for in the "
            "working folder and among the installed packages"
        ) from None
    except AttributeError:
        raise SettingsError(
            f"python_checks: {module!r} has no function {function!r}, or it raises AttributeError"
        ) from None
    except Exception as error:  # noqa: BLE001  (code of somebody else)
        raise SettingsError(f"python_checks: {name!r} raises {_type(error)}") from None
    if not isinstance(made, pa.DataFrameSchema):
        raise SettingsError(
            f"python_checks: {name!r} returns {_type(made)}, and not a DataFrameSchema of "
            "pandera.pandas"
        )
    for part in (made, *made.columns.values()):
        for check in part.checks or ():
            # A warning of pandera's would print values, so these are counted instead.
            check.etl_only_warns = check.raise_warning
            check.raise_warning = False
    return made


def check_fit(schema: Any, empty: pd.DataFrame) -> None:
    """Check that the schema fits the table, by a frame of its columns without a row.

    :raises SettingsError: the schema has a column that the table does not have, or the like
    """
    for error in _errors(schema, empty):
        if error.reason_code.name not in _OF_ROWS:
            # Without a row there are no values, so this names columns and types only.
            raise SettingsError(
                f"python_checks: the schema does not fit the table: "
                f"{error.reason_code.value.replace('_', ' ')}: {error.failure_cases}"
            )


def failures(schema: Any, frame: pd.DataFrame) -> Iterator[tuple[int, str, str, bool]]:
    """Yield the row, the column or ``table``, the check, and whether it only warns.

    :param frame: the table's columns with an index from 0, converted, not masked; what
        a check does to it stays there, since pandas copies on write
    :raises CheckRaised: a check raised an exception, or did not say which rows fail it
    """
    for error in _errors(schema, frame):
        only_warns = getattr(error.check, "etl_only_warns", False)
        for row in _rows(error, len(frame)):
            yield row, _column(error), _check(error), only_warns


def _errors(schema: Any, frame: pd.DataFrame) -> list[Any]:
    import pandera.pandas as pa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they may show values
        try:
            schema.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as errors:
            return list(errors.schema_errors)
        # Python prints what a program exits with.
        except (Exception, SystemExit) as error:  # noqa: BLE001  (code of somebody else)
            raise CheckRaised(
                f"python_checks: the schema raised {_type(error)}; this batch was released"
            ) from None
    return []


def _rows(error: Any, rows: int) -> list[int]:
    import pandas as pd

    if error.reason_code.name == "CHECK_ERROR":
        kind = str(error.failure_cases).partition("(")[0]
        raise CheckRaised(
            f"python_checks: the check {_check(error)!r} of {_column(error)!r} raised "
            f"{kind if kind.isidentifier() else 'an exception'}; this batch was released"
        )
    answers, cases = error.check_output, error.failure_cases
    if isinstance(answers, pd.DataFrame):
        answers = answers.all(axis=1)
    if isinstance(answers, pd.Series) and len(answers) == rows and not answers.all():
        return [row for row, passed in enumerate(answers.tolist()) if passed is not True]
    # What pandera itself checks, such as nulls, comes with the index of each row.
    index = cases["index"].tolist() if isinstance(cases, pd.DataFrame) else []
    if index and all(type(row) is int and 0 <= row < rows for row in index):
        return sorted(set(index))
    raise CheckRaised(
        f"python_checks: the check {_check(error)!r} of {_column(error)!r} does not say "
        "which rows fail it; this batch was released"
    )


def _column(error: Any) -> str:
    return "table" if error.schema.name is None else str(error.schema.name)


def _check(error: Any) -> str:
    return str(getattr(error.check, "name", error.check))[:MAX_NAME_CHARACTERS]


def _type(value: object) -> str:
    return type(value).__name__
