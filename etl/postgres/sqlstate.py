"""What a database error means: a row at fault, an outage, or a refusal.

What psycopg2 and SQLAlchemy say about a failed statement never leaves this module, because their
messages, DETAIL lines and parameters carry values of rows. Only the SQLSTATE and names from the
catalogue leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2

from etl.errors import DatabaseRefused, DatabaseUnavailable, EtlError

# SQLSTATE classes and codes: see appendix A of PostgreSQL's documentation. These are about a value:
# data exception, integrity constraint violation, check option of a view, program limit exceeded.
ROW_CLASSES = ("22", "23", "44", "54")
# Here the server is away or overloaded, or asks to try again: connection exception, insufficient
# resources, operator intervention, transaction rollback (serialization, deadlock), system error,
# read-only after a failover, lock not available, and the time limits for an idle and a whole
# transaction.
OUTAGE_CLASSES = ("08", "53", "57", "40", "58")
OUTAGE_CODES = ("25006", "55P03", "25P03", "25P04")
# The transaction itself is not in a state for the statement, so no part of it would do better.
_TRANSACTION_CLASSES = ("0B", "25", "2D", "3B")
# A row that is in the table already is in the way of the new one.
_CONFLICTS = ("23505", "23P01")
_NAMED = ("constraint", "column", "table")
# No privilege; no such schema, table or column.
NO_PRIVILEGE, NO_SCHEMA, NO_TABLE, NO_COLUMN = "42501", "3F000", "42P01", "42703"
NAMES_ONLY = (NO_PRIVILEGE, NO_SCHEMA, NO_TABLE, NO_COLUMN)

# What may be behind those that do not end by themselves, or whose name says too little.
CAUSES = {
    "25006": "the database is read-only: a replica, a failover, or default_transaction_read_only",
    "25P03": "the transaction was idle for longer than idle_in_transaction_session_timeout",
    "25P04": "the transaction took longer than database.answer_seconds, or its transaction_timeout",
    "53100": "the server's disk is full",
    "53300": "the server has no connection left: see max_connections, or the limit of the role",
    "55P03": "another session holds a lock: see pg_blocking_pids",
    "57014": "cancelled: by an administrator, or by a time limit (database.answer_seconds, the "
    "statement_timeout of a report's role, a connection pooler's; one that is too short even for "
    "the statement that sets another: alter role ... reset statement_timeout, or see PGOPTIONS)",
}


@dataclass(frozen=True)
class Refusal:
    """How the database refused rows: a SQLSTATE and names from the catalogue, never a value.

    Two refusals are alike if they are equal.
    """

    sqlstate: str
    kind: str  # the driver's name of the error
    names: tuple[tuple[str, str], ...] = ()  # what is named, and its name: ("column", "region")
    of_function: bool = False  # a function raised it, such as a trigger's: it may be about anything
    schema: str = ""  # of the table that is named
    is_of_no_value: bool = False  # no value of a row has led to it, see etl/postgres/conflicts.py

    @property
    def check(self) -> str:
        """The check that a row has failed, as the quarantine shows it."""
        if not self.sqlstate:
            return self.kind
        return " ".join([f"SQLSTATE {self.sqlstate}", *(f"{k} {n!r}" for k, n in self.names)])

    @property
    def is_conflict(self) -> bool:
        """Whether another row is in the way, so that the table does take rows."""
        return self.sqlstate in _CONFLICTS and not self.is_of_no_value

    @property
    def is_about_a_value(self) -> bool:
        """Whether it is about one row's values, or else whatever may refuse every row."""
        if self.is_of_no_value:
            return False
        if self.sqlstate.startswith("23"):
            # Without a name, it is a partition that is missing, or a trigger's own error.
            return any(what in ("constraint", "column") for what, _ in self.names)
        return not self.sqlstate or self.sqlstate.startswith(ROW_CLASSES)


# The statement succeeded and inserted fewer rows than it was given.
NOT_STORED = Refusal("", "not stored by the table")


class RowRefused(DatabaseRefused):
    """A row cannot be stored. Names the SQLSTATE and the constraint or column, never the value."""

    def __init__(self, check: str) -> None:
        super().__init__(f"the database refused a row or a value: {check}")
        self.check = check


@contextmanager
def no_row_refused_at_commit() -> Iterator[None]:
    """Raise an error that stops the run if the database refused a row only at COMMIT.

    :raises DatabaseRefused: a constraint is deferred, so the row at fault cannot be found
    """
    try:
        yield
    except RowRefused as error:
        raise DatabaseRefused(
            f"the database refused a row only at COMMIT ({error.check}); "
            "make the constraint immediate"
        ) from None


def translate(error: BaseException) -> EtlError:
    """Return our error for a database error, without its text if a statement has run.

    pandas and SQLAlchemy wrap psycopg2's errors, so this follows the chain of causes.
    """
    cause = _psycopg2_error(error)
    sqlstate = getattr(cause, "pgcode", None)
    if sqlstate is None:
        if isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            return _without_sqlstate(cause)
        kind = type(cause or error).__name__
        return DatabaseRefused(f"the database driver failed with {kind!r}")
    if sqlstate.startswith(ROW_CLASSES):
        return RowRefused(_refusal(cause).check)
    if is_outage(sqlstate):
        why = f": {CAUSES[sqlstate]}" if sqlstate in CAUSES else ""
        return DatabaseUnavailable(
            f"the database answered SQLSTATE {sqlstate} ({_kind(cause)}){why}"
        )
    named = "".join(f" {what} {name!r}" for what, name in _names(cause)) or _named_in_text(cause)
    return DatabaseRefused(
        f"the database refused the statement: SQLSTATE {sqlstate} ({_kind(cause)}){named}"
    )


def refusal(error: BaseException) -> Refusal | None:
    """How the database, or its driver, refused rows of the statement.

    None if the error is an outage, or about the whole transaction: then a part of the rows would
    fare no better.
    """
    cause = _psycopg2_error(error)
    if cause is None:
        # The driver could not write a value: UnicodeEncodeError is a ValueError.
        return Refusal("", f"driver {_kind(error)}") if isinstance(error, ValueError) else None
    if cause.pgcode is None:
        if isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            return None
        return Refusal("", f"driver {_kind(cause)}")
    if is_outage(cause.pgcode):
        return None
    found = _refusal(cause)
    # A function, such as a trigger's, may raise for one row what else is about the transaction.
    is_about_all = cause.pgcode.startswith(_TRANSACTION_CLASSES) and not found.of_function
    return None if is_about_all else found


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, however deep it is in the chain of causes."""
    return getattr(_psycopg2_error(error), "pgcode", None)


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a statement has waited for a lock as long as it may."""
    return sqlstate_of(error) == "55P03"


def _refusal(error: Any) -> Refusal:
    of_function = bool(error.diag.context)
    schema = error.diag.schema_name or ""
    return Refusal(error.pgcode, _kind(error), tuple(_names(error)), of_function, schema)


def _named_in_text(error: Any) -> str:
    # Such a text has only names in it, unless a function has raised it with a text of its own.
    is_plain = error.pgcode in NAMES_ONLY and not error.diag.context
    return f": {error.diag.message_primary}" if is_plain else ""


def is_outage(sqlstate: str) -> bool:
    """Whether what a SQLSTATE says may pass."""
    return sqlstate.startswith(OUTAGE_CLASSES) or sqlstate in OUTAGE_CODES


def _psycopg2_error(error: BaseException | None) -> psycopg2.Error | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, psycopg2.Error):
            return error
        seen.add(id(error))
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None


def _without_sqlstate(error: psycopg2.Error) -> EtlError:
    # The server is gone. libpq's text then names hosts, and nothing from a row. Its first line is
    # enough.
    return DatabaseUnavailable((str(error).strip().splitlines() or [_kind(error)])[0])


def _kind(error: Any) -> str:
    return type(error).__name__


def _names(error: Any) -> list[tuple[str, str]]:
    # The server reports names from its catalogue separately from its message.
    named = ((kind, getattr(error.diag, f"{kind}_name", None)) for kind in _NAMED)
    return [(kind, name) for kind, name in named if name]
