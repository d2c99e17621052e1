"""A condition on the target table in the user's own SQL: one boolean expression, read only.

The user runs it with their own rights in the database and could ask the same with psql. The checks
stop a typing error from doing more than read, and keep row values out of the database's error
messages.
"""

from __future__ import annotations

import re

import pandas as pd
import sqlalchemy as sa

from etl.config import Column, Table, UnmaskSettings
from etl.errors import UsageError
from etl.postgres.engine import transaction
from etl.postgres.queries import quote_name
from etl.postgres.sqlstate import NO_COLUMN, RowRefused, sqlstate_of
from etl.postgres.tables import check_target_exists

# SQL writes a quote within quotes twice. Here that ends one quoted part and begins the next, with
# nothing between them, so it hides the same text. The pattern has no repeat within a repeat, and
# searching with it takes time in proportion to the text.
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_FORBIDDEN_ANYWHERE = {
    "\\": "a backslash",  # may end a string early
    "\0": "a NUL character",
}
_FORBIDDEN_OUTSIDE_QUOTES = {
    "$": "a dollar sign outside quotes",  # begins a string of another kind
    ";": "a semicolon outside quotes",
    "--": "a comment",
    "/*": "a comment",
}
_SUBQUERY = re.compile(r"\b(select|table|values|with)\b", re.IGNORECASE)
_QUERY_CANCELED = "57014"


def rows_where(
    engine: sa.Engine, table: Table, condition: str, settings: UnmaskSettings
) -> pd.DataFrame:
    """Read the rows of the target that meet the condition: the table's columns, all object.

    :raises UsageError: the condition is not a single expression, matches more rows than may be
        shown, takes too long, or fails on a value
    :raises TableError: the target is missing
    :raises DatabaseRefused: it names something that does not exist, or a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    check_condition(condition)
    names = [column.name for column in table.columns]
    shown = [_as_shown(column) for column in table.columns]
    # The driver gets the statement verbatim: neither : nor % is special in it. The newline after
    # the condition would end a comment.
    statement = (
        f"select {', '.join(shown)} "  # noqa: S608
        f"from {quote_name(table.schema_name, table.name, for_driver=True)} "
        f"where ({condition}\n) limit {settings.max_rows + 1}"
    )
    try:
        with transaction(engine) as connection:
            connection.exec_driver_sql("set transaction read only")
            check_target_exists(connection, table)
            milliseconds = int(settings.statement_seconds * 1000)
            connection.exec_driver_sql(f"set local statement_timeout = {milliseconds}")
            rows = _fetch(connection, statement)
    except RowRefused as refused:
        raise UsageError(f"the condition cannot be computed: {refused.check}") from None
    if len(rows) > settings.max_rows:
        meet = "row meets" if settings.max_rows == 1 else "rows meet"
        raise UsageError(
            f"more than {settings.max_rows} {meet} the condition; narrow it, or raise --limit"
        )
    return pd.DataFrame(rows, columns=names, dtype=object)


def _as_shown(column: Column) -> str:
    """The SQL of a column, as text where Python would show another text or fewer digits."""
    name = quote_name(column.name, for_driver=True)
    return f"cast({name} as text)" if column.type in ("json", "bytes") else name


def _fetch(connection: sa.Connection, statement: str) -> list[tuple[object, ...]]:
    try:
        result = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        return [tuple(row) for row in result]
    except sa.exc.DBAPIError as error:
        sqlstate = sqlstate_of(error)
        if sqlstate == NO_COLUMN:
            # The server's text would quote what may be a value in the wrong quotes.
            raise UsageError(
                f"the condition names a column that does not exist (SQLSTATE {NO_COLUMN}); a text "
                "belongs in single quotes"
            ) from None
        if sqlstate != _QUERY_CANCELED:
            raise
    raise UsageError("the condition takes longer than 'unmask.statement_seconds'; narrow it")


def check_condition(condition: str) -> None:
    """Check that a text is one expression that stays within its parentheses.

    :raises UsageError: names what must not be in it
    """
    if not condition.strip():
        raise UsageError("the condition is empty")
    outside_quotes = _QUOTED.sub(" ", condition)
    if "'" in outside_quotes or '"' in outside_quotes:
        raise UsageError("the condition has an unclosed quote")
    for forbidden, text in (
        (_FORBIDDEN_ANYWHERE, condition),
        (_FORBIDDEN_OUTSIDE_QUOTES, outside_quotes),
    ):
        for sign, name in forbidden.items():
            if sign in text:
                raise UsageError(f"the condition has {name}; give one boolean expression")
    if _SUBQUERY.search(outside_quotes):
        raise UsageError(
            "the condition contains a subquery (select, table, values or with); give one boolean "
            "expression"
        )
    _check_parentheses(outside_quotes)


def _check_parentheses(outside_quotes: str) -> None:
    depth = 0
    for character in outside_quotes:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        raise UsageError("the condition's parentheses do not match")
