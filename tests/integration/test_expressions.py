"""Conditions between columns mean what the same conditions mean in a CHECK of Postgres."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.checks.expressions import parse
from etl.config import Column

TYPES = {
    "a": ("integer", "bigint"),
    "b": ("bigint", "bigint"),
    "x": ("number", "double precision"),
    "d": ("decimal", "numeric"),
    "t": ("text", "text"),
    "f": ("boolean", "boolean"),
    "s": ("date", "date"),
    "e": ("date", "date"),
}
COLUMNS = [Column(name=n, field=n, type=kind, nullable=True) for n, (kind, _) in TYPES.items()]
DAYS = [dt.date(2026, 1, day) for day in (1, 2, 9)]
ROWS: list[tuple[Any, ...]] = [
    (1, 2, 0.1, Decimal("0.1"), "RU", True, DAYS[0], DAYS[1]),
    (0, 0, 0.0, Decimal(0), "", False, DAYS[1], DAYS[1]),
    (-3, 2, -2.5, Decimal("-2.50"), "US", False, DAYS[2], DAYS[0]),
    (None, 7, None, Decimal(7), None, True, None, DAYS[2]),
    (7, None, 7.0, None, "'", None, DAYS[0], None),
    (None,) * 8,
]


class Text(NamedTuple):
    """One condition, or a part of one, as it is written here and in SQL."""

    here: str
    sql: str
    kind: str


def column(*names: str) -> st.SearchStrategy[Text]:
    """One of these columns."""
    kinds = {"a": "int", "b": "int", "x": "double", "d": "decimal"}
    return st.sampled_from([Text(name, name, kinds.get(name, TYPES[name][0])) for name in names])


def joined(left: Text, sign: str, right: Text) -> Text:
    """Two numbers; a quotient of decimals has another number of digits in Postgres."""
    kinds = {left.kind, right.kind}
    kind = "double" if "double" in kinds else "decimal" if "decimal" in kinds else "int"
    if kind == "decimal" and sign == "/":
        sign = "*"
    here, sql = f"({left.here} {sign} {right.here})", f"({left.sql} {sign} {right.sql})"
    return Text(here, sql, kind)


LITERALS = st.sampled_from(
    [Text(n, n, "decimal" if "." in n else "int") for n in ("0", "1", "2", "9", "0.1", "2.5")]
)
# A division of literals is computed by Postgres before the first row.
NUMBERS = st.recursive(
    column("a", "b", "x", "d"),
    lambda inner: (
        st.builds(
            joined,
            inner,
            st.sampled_from("+-*/"),
            column("a", "b", "x", "d") | LITERALS.filter(lambda literal: literal.here != "0"),
        )
        | inner.map(lambda part: Text(f"(-{part.here})", f"(-{part.sql})", part.kind))
    ),
    max_leaves=4,
)
SIGNS = st.sampled_from(
    [("==", "="), ("!=", "<>"), ("<", "<"), ("<=", "<="), (">", ">"), (">=", ">=")]
)


def compared(left: Text, sign: tuple[str, str], right: Text) -> Text:
    """A comparison."""
    return Text(f"{left.here} {sign[0]} {right.here}", f"{left.sql} {sign[1]} {right.sql}", "bool")


def null_test(part: Text, word: str) -> Text:
    """Whether a column is null."""
    return Text(f"{part.here} {word}", f"{part.sql} {word}", "bool")


def membership(part: Text, word: str, choices: list[str]) -> Text:
    """Whether a value is one of several."""
    listed = ", ".join(choices)
    return Text(f"{part.here} {word} [{listed}]", f"{part.sql} {word} ({listed})", "bool")


def logical(left: Text, word: str, right: Text) -> Text:
    """Two conditions together."""
    return Text(f"({left.here} {word} {right.here})", f"({left.sql} {word} {right.sql})", "bool")


DATES = column("s", "e") | st.sampled_from([Text("'2026-01-02'", "date '2026-01-02'", "date")])
CONDITIONS = st.recursive(
    st.builds(compared, NUMBERS, SIGNS, NUMBERS | LITERALS)
    | st.builds(compared, column("s", "e"), SIGNS, DATES)
    | st.builds(compared, st.just(Text("e - s", "e - s", "int")), SIGNS, column("a", "b"))
    | st.builds(compared, column("t"), SIGNS.filter(lambda sign: sign[0] in ("==", "!=")),
                st.sampled_from([Text("'RU'", "'RU'", "text"), Text('"\'"', "''''", "text")]))
    | column("f")
    | st.builds(null_test, column(*TYPES), st.sampled_from(["is null", "is not null"]))
    | st.builds(membership, column("t"), st.sampled_from(["in", "not in"]), st.just(["'RU'", "''"]))
    | st.builds(membership, NUMBERS, st.sampled_from(["in", "not in"]), st.just(["0", "2", "0.1"])),
    lambda inner: st.builds(logical, inner, st.sampled_from(["and", "or"]), inner)
    | inner.map(lambda part: Text(f"(not {part.here})", f"(not {part.sql})", "bool")),
    max_leaves=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def connection(postgres: Any) -> Any:
    """A table of the rows, which a planner cannot compute with before it reads them."""
    url = postgres.new_database()
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.connect() as opened:
        listed = ", ".join(f"{name} {sql}" for name, (_, sql) in TYPES.items())
        opened.exec_driver_sql(f"create table rows (place integer, {listed})")
        for place, row in enumerate(ROWS):
            opened.exec_driver_sql(
                f"insert into rows values ({', '.join(['%s'] * 9)})", (place, *row)
            )
        opened.commit()
        yield opened
    engine.dispose()
    postgres.drop_database(url)


def refused_by_postgres(connection: sa.Connection, sql: str) -> list[int]:
    """The rows that Postgres would not let into a table with this CHECK."""
    refused = []
    for place in range(len(ROWS)):
        query = f"select ({sql}) is false from rows where place = {place}"
        try:
            is_false = connection.exec_driver_sql(query.replace("%", "%%")).scalar_one()
        except sa.exc.DataError:  # a division by zero, a number out of range
            connection.rollback()
            is_false = True
        if is_false:
            refused.append(place)
    return refused


def check_condition(connection: sa.Connection, condition: Text) -> None:
    """Check that the same rows fail."""
    values = {name: [row[place] for row in ROWS] for place, name in enumerate(TYPES)}
    failed = parse(condition.here, COLUMNS).failed(values, len(ROWS))
    assert failed == refused_by_postgres(connection, condition.sql), condition


EXAMPLES = settings(suppress_health_check=list(HealthCheck), deadline=None, print_blob=False)


@settings(EXAMPLES, max_examples=60)
@given(CONDITIONS)
def test_postgres_refuses_the_same_rows(connection: sa.Connection, condition: Text) -> None:
    """Nulls, divisions by zero, and the kinds of numbers included."""
    check_condition(connection, condition)


@pytest.mark.long
@settings(EXAMPLES, max_examples=5000)
@given(CONDITIONS)
def test_postgres_refuses_the_same_rows_at_length(
    connection: sa.Connection, condition: Text
) -> None:
    """As above, with more conditions."""
    check_condition(connection, condition)
