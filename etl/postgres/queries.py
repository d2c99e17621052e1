"""The statements of ``etl/sql``, and names quoted for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    import pandas as pd


@cache
def queries() -> dict[str, sa.TextClause]:
    """The queries in ``etl/sql/*.sql`` by name. Text before a file's first name is a comment."""
    named: dict[str, sa.TextClause] = {}
    for file in resources.files("etl").joinpath("sql").iterdir():
        if file.name.endswith(".sql"):
            parts = re.split(r"^-- (\w+) --$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            bodies = zip(parts[1::2], parts[2::2], strict=True)
            named |= {name: sa.text(body.strip()) for name, body in bodies}
    return named


def sql_file(name: str) -> str:
    """Read a file of ``etl/sql``."""
    return resources.files("etl").joinpath("sql", name).read_text(encoding="utf-8")


def quote_name(*names: str, for_driver: bool = False) -> str:
    """Quote the parts of a name, whatever characters they contain, for :func:`sqlalchemy.text`.

    :param for_driver: quote for a statement that goes straight to the driver instead
    """
    quoted = ".".join('"{}"'.format(name.replace('"', '""')) for name in names)
    # In a text, a colon would begin a parameter. SQLAlchemy itself escapes the percent sign.
    return quoted if for_driver else quoted.replace(":", "\\:")


def filled(query: str, fragments: Mapping[str, str]) -> str:
    """Replace each ``{place}`` of a named query by SQL. Places within that SQL stay as they are."""
    text = queries()[query].text
    return re.sub(r"\{(\w+)\}", lambda place: fragments[place[1]], text)


def fetch_frame(
    connection: sa.Connection,
    statement: sa.Executable,
    parameters: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Run a query in the caller's transaction; return its rows as a frame, in order."""
    import pandas as pd

    # Not pandas.read_sql, whose errors carry values in their messages.
    answer = connection.execute(statement, parameters or {})
    return pd.DataFrame(answer.all(), columns=list(answer.keys()))
