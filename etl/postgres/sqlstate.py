"""What a database error means: a row at fault, an outage, or a refusal.

Nothing that psycopg2 or SQLAlchemy says about a failed statement leaves this module: messages,
DETAIL lines and parameters all carry the values of rows. What leaves is the SQLSTATE and names
from the catalogue.
"""

from __future__ import annotations

import re
from typing import Any

import psycopg2

from etl.errors import DatabaseRefused, DatabaseUnavailable, EtlError

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A). A row is at fault: data
# exception, integrity constraint violation, program limit exceeded.
ROW_CLASSES = ("22", "23", "54")
# The server is away or overloaded, or asks to try again: connection exception, insufficient
# resources, operator intervention, transaction rollback (serialization, deadlock), system error,
# read-only after a failover, lock not available, idle-in-transaction timeout.
OUTAGE_CLASSES = ("08", "53", "57", "40", "58")
OUTAGE_CODES = ("25006", "55P03", "25P03")
# Refusals at connecting come without a SQLSTATE (libpq gives text only). These will not mend
# themselves; anything else may.
_REFUSED = re.compile(
    r"password authentication failed|no pg_hba\.conf entry|no password supplied"
    r'|database ".*" does not exist|role ".*" does not exist|permission denied for database'
)


class RowRefused(Exception):  # noqa: N818  (caught by the loader, which finds the row)
    """A row cannot be stored; says the SQLSTATE and the constraint or column, never the value."""

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


def translate(error: BaseException) -> EtlError | RowRefused:
    """Say what a database error means, without a word of its own text once a statement has run.

    pandas and SQLAlchemy wrap what psycopg2 raised, so the chain of causes is walked.
    """
    cause = _psycopg2_error(error)
    sqlstate = getattr(cause, "pgcode", None)
    if sqlstate is None:
        if isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            return _without_sqlstate(cause)
        kind = type(cause or error).__name__
        return DatabaseRefused(f"the database driver failed with {kind!r}")
    if sqlstate.startswith(ROW_CLASSES):
        return RowRefused(" ".join([f"SQLSTATE {sqlstate}", *_names(cause)]))
    if sqlstate.startswith(OUTAGE_CLASSES) or sqlstate in OUTAGE_CODES:
        return DatabaseUnavailable(f"the database answered SQLSTATE {sqlstate} ({_kind(cause)})")
    names = " ".join(_names(cause))
    return DatabaseRefused(
        f"the database refuses the statement: SQLSTATE {sqlstate} ({_kind(cause)}) {names}".strip()
    )


def _psycopg2_error(error: BaseException | None) -> psycopg2.Error | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, psycopg2.Error):
            return error
        seen.add(id(error))
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None


def _without_sqlstate(error: psycopg2.Error) -> EtlError:
    # No statement has run, or the server is gone; libpq's own words then name hosts and roles,
    # never rows. The first line is enough.
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if _REFUSED.search(line):
        return DatabaseRefused(f"the database refuses the connection: {line}; check DATABASE_URL")
    return DatabaseUnavailable(line)


def _kind(error: Any) -> str:
    return type(error).__name__


def _names(error: Any) -> list[str]:
    # Names of the catalogue, as the server reports them apart from its message.
    named = []
    for what in ("constraint", "column", "table"):
        name = getattr(error.diag, f"{what}_name", None)
        if name:
            named.append(f"{what} {name!r}")
    return named
