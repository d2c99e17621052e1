"""A condition on the target table in a person's own SQL: one boolean expression, read only.

Whoever states it has the database's rights anyway, and could ask with psql. What is checked here
keeps an accident from being more than a question, and what the database says of it from quoting
rows.
"""

from __future__ import annotations

import re

import pandas as pd
import sqlalchemy as sa

from etl.config import Table, UnmaskSettings
from etl.errors import SettingsError
from etl.postgres.engine import transaction
from etl.postgres.queries import quote_name
from etl.postgres.sqlstate import RowRefused

# Possessive: two quotes in a row are one in the text, and never an end and a beginning.
_QUOTED = r"""'(?:[^']|'')*+'|"(?:[^"]|"")*+\""""
_PARTS = re.compile(rf"(?:{_QUOTED}|[^'\"])*+")
_FORBIDDEN = {
    # A backslash may end a string early, a dollar begins another kind of one.
    "\\": "a backslash",
    "$": "a dollar sign outside quotes",
    ";": "a semicolon outside quotes",
    "--": "a comment",
    "/*": "a comment",
    "\0": "a NUL character",
}
_SUBQUERY = re.compile(r"\b(select|table|values|with)\b", re.IGNORECASE)
_QUERY_CANCELED = "57014"


def rows_where(
    engine: sa.Engine, table: Table, condition: str, unmask: UnmaskSettings
) -> pd.DataFrame:
    """The rows of the target that meet the condition: the table's columns, all object.

    :raises SettingsError: it is no single expression, more rows meet it than may be shown, it takes
        too long, or a value breaks it
    :raises DatabaseRefused: it names what is not there, or a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    check_condition(condition)
    names = [column.name for column in table.columns]
    # As it stands: neither : nor % is special in it. The line's end would end a comment.
    statement = (
        f"select {', '.join(quote_name(name, for_driver=True) for name in names)} "  # noqa: S608
        f"from {quote_name(table.schema_name, table.name, for_driver=True)} "
        f"where ({condition}\n) limit {unmask.max_rows + 1}"
    )
    try:
        with transaction(engine) as connection:
            connection.exec_driver_sql("set transaction read only")
            milliseconds = int(unmask.statement_seconds * 1000)
            connection.exec_driver_sql(f"set local statement_timeout = {milliseconds}")
            found = _answers(connection, statement)
    except RowRefused as refused:
        raise SettingsError(f"the condition cannot be computed: {refused.check}") from None
    if len(found) > unmask.max_rows:
        raise SettingsError(
            f"more than {unmask.max_rows} rows meet the condition; narrow it, or raise --limit"
        )
    return pd.DataFrame(found, columns=names, dtype=object)


def _answers(connection: sa.Connection, statement: str) -> list[tuple[object, ...]]:
    try:
        answer = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        return [tuple(row) for row in answer]
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _QUERY_CANCELED:
            raise
    raise SettingsError("the condition takes longer than 'unmask.statement_seconds'; narrow it")


def check_condition(condition: str) -> None:
    """See that a text is one expression between parentheses, whatever stands in its quotes.

    :raises SettingsError: names what must not be in it
    """
    if not condition.strip():
        raise SettingsError("the condition is empty")
    if _PARTS.fullmatch(condition) is None:
        raise SettingsError("the condition has a quote that does not end")
    outside = re.sub(_QUOTED, " ' ", condition)
    for sign, what in _FORBIDDEN.items():
        if sign in (condition if sign in "\\\0" else outside):
            raise SettingsError(f"the condition has {what}; give one boolean expression")
    if _SUBQUERY.search(outside):
        raise SettingsError("the condition has a query in it; give one boolean expression")
    depth = 0
    for character in outside:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        raise SettingsError("the condition's parentheses do not match")
