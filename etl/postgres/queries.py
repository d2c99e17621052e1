"""The statements of ``etl/sql``, and names quoted for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

import sqlalchemy as sa


@cache
def queries() -> dict[str, sa.TextClause]:
    """Queries of ``etl/sql/*.sql`` by name; what precedes the first name is for readers."""
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
    """Quote the parts of a name, whatever they hold, for :func:`sqlalchemy.text`.

    :param for_driver: for a statement that goes to the driver as it is
    """
    quoted = ".".join('"{}"'.format(name.replace('"', '""')) for name in names)
    # A colon would begin a parameter of a text; the percent sign is SQLAlchemy's to escape.
    return quoted if for_driver else quoted.replace(":", "\\:")


def filled(query: str, fragments: Mapping[str, str]) -> str:
    """Put SQL into the ``{places}`` of a named query, once: what is put in is not looked at."""
    text = queries()[query].text
    return re.sub(r"\{(\w+)\}", lambda place: fragments[place[1]], text)
