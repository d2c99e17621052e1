"""Finds misspelt names of checks, before they select nothing in silence."""

from __future__ import annotations

import re

import sqlalchemy as sa

from etl.config import Settings
from etl.errors import UsageError, nearest
from etl.extract import CHECKS
from etl.postgres.tables import query_frame
from etl.reading.routing import CHECK as NO_ROUTE
from etl.schema import column_checks

# The database refuses rows by checks that cannot be listed in advance.
_OF_THE_DATABASE = re.compile(r"SQLSTATE|not stored")


def check_is_known(engine: sa.Engine, settings: Settings, check: str) -> bool:
    """Whether an entry can have failed this check, under this configuration or an earlier one.

    :param check: a check, or "column: check"
    :raises UsageError: it is not known, and is nearly one that is, which is named
    :raises DatabaseUnavailable: an outage
    """
    columns = [column for table in settings.tables for column in table.columns]
    pairs = [(column.source, name) for column in columns for name, _ in column_checks(column)]
    pairs += [(column.source, name) for column in columns for name in column.check_names]
    pairs += [("table", check.name) for table in settings.tables for check in table.checks]
    pairs += [("message", name) for name in CHECKS]
    if settings.routes is not None:
        pairs.append((settings.routes.by, NO_ROUTE))
    pairs += [(field, "two values") for column in columns for field in column.fields[:1]]
    if check in _names(pairs):
        return True
    met = query_frame(engine, "broken_checks", {})
    pairs += zip(met["column"], met["check"], strict=True)
    names = _names(pairs)
    if check in names or _OF_THE_DATABASE.search(check):
        return True
    if meant := nearest(check, names):
        raise UsageError(f"no entry has failed a check {check!r}; did you mean {meant!r}?")
    return False


def _names(pairs: list[tuple[str, str]]) -> list[str]:
    names = [name for column, check in pairs for name in (check, f"{column}: {check}")]
    return list(dict.fromkeys(names))
