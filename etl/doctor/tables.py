"""Checks of the tables: the job's own, the target, and the rights of the role to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import sqlalchemy as sa

from etl.config import Settings
from etl.doctor.result import Result, asked_each, result_of
from etl.errors import DatabaseRefused, TableError
from etl.postgres.engine import read_only, transaction
from etl.postgres.own_rights import problems_of_own_rights
from etl.postgres.queries import queries
from etl.postgres.storage import check_crash_leaves_rows
from etl.postgres.tables import check_own_tables, check_target_exists, tables_of_others
from etl.postgres.target import problems_of_load, problems_of_target

CREATED_LATER = "the next run creates what is missing, or now: etl init"


def results(engine: sa.Engine, settings: Settings) -> Iterator[Result]:
    """Make the checks. Only the last one writes: a temporary table, which is rolled back."""
    reader = read_only(engine)
    found: list[Result] = []
    for check, ask in CHECKS.items():
        found += _of_each_table(check, partial(ask, reader), settings)
    yield from found
    if all(result.status == "ok" for result in found if result.check in BEFORE_LOAD):
        yield from _of_each_table("database.load", partial(load, engine), settings)
    else:
        yield Result("database.load", "unknown", "not asked before the tables are as they must be")


def _of_each_table(
    check: str, ask: Callable[[Settings], list[Result]], settings: Settings
) -> list[Result]:
    """Make a check of each table. What is the same for all of them is said once."""
    found = (
        result
        for view in settings.of_each_table()
        for result in asked_each(check, partial(ask, view))
    )
    return list(dict.fromkeys(found))


def own_tables(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Whether the job's own tables are there, and of this version."""
    check = "database.own_tables"
    with transaction(engine) as connection:
        try:
            check_own_tables(connection)
        except TableError as error:
            return [_missing(connection, settings, check, "etl", error)]
    return [Result(check, "ok", "all tables of schema 'etl' are there, and of this version")]


def _missing(
    connection: sa.Connection, settings: Settings, check: str, schema: str, error: TableError
) -> Result:
    """Whether a run can create what is missing."""
    if not settings.database.create_tables:
        return result_of(check, "fail", str(error))
    if schema == "etl" and tables_of_others(connection):
        found = f"{str(error).partition(';')[0]}, and this role is not the owner of the tables"
        return Result(check, "fail", found, "let the owner of the tables run: etl init")
    closed = connection.execute(queries()["closed_to_creation"], {"schema": schema}).first()
    if closed is not None:
        advice = f"let the owner grant create on {closed[0]} {closed[1]}, or run: etl init"
        found = f"{str(error).partition(';')[0]}, and this role may not create in {closed[0]}"
        return Result(check, "fail", f"{found} {closed[1]!r}", advice)
    return Result(check, "warn", str(error).partition(";")[0], CREATED_LATER)


def rights(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Each right to the job's own tables that the role lacks."""
    with transaction(engine) as connection:
        _check_presence(connection)
        problems = list(problems_of_own_rights(connection, settings.table, is_run=True))
    found = "the role has every right to the job's own tables"
    return _each("database.rights", problems, found)


def target(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Whether the target takes the configured columns from this role."""
    check, table = "database.target", settings.table
    with transaction(engine) as connection:
        try:
            check_target_exists(connection, table)
        except TableError as error:
            if not sa.inspect(connection).has_schema(table.schema_name):
                raise  # no run creates it
            return [_missing(connection, settings, check, table.schema_name, error)]
        problems = list(problems_of_target(connection, table))
    return _each(check, problems, f"{table.full_name} has the configured columns")


def storage(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Whether a crash of the server leaves the rows of every table."""
    table = settings.table
    with transaction(engine) as connection:
        check_crash_leaves_rows(connection, table.schema_name, table.name)
    return [Result("database.storage", "ok", "no table is unlogged")]


def triggers(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Which triggers and rules of the target may change, refuse or redirect a row."""
    check, table = "database.triggers", settings.table
    names = {"schema": table.schema_name, "name": table.name}
    with transaction(engine) as connection:
        found = connection.execute(queries()["role_and_triggers"], names).one().triggers
    if found:
        listed = ", ".join(map(repr, found))
        advice = "make sure that they take every row as it comes, and what they cost"
        return [Result(check, "warn", f"{table.full_name} has {listed}", advice)]
    return [Result(check, "ok", f"{table.full_name} has no trigger and no rule")]


def load(engine: sa.Engine, settings: Settings) -> list[Result]:
    """Whether the server plans the statement that loads a batch."""
    try:
        with transaction(engine) as connection:
            problems = list(problems_of_load(connection, settings.table))
            connection.rollback()
    except DatabaseRefused as error:  # what a run ends with before it receives anything
        problems = [str(error)]
    return _each("database.load", problems, "the server plans the statement of a load")


def _check_presence(connection: sa.Connection) -> None:
    """Check that the job's own tables are there, for a question about them.

    :raises DatabaseRefused: they are not
    """
    try:
        check_own_tables(connection)
    except TableError as error:
        raise DatabaseRefused(str(error)) from None


def _each(check: str, problems: list[str], found: str) -> list[Result]:
    """A result for each problem, or one that says that there is none."""
    return [result_of(check, "fail", text) for text in problems] or [Result(check, "ok", found)]


CHECKS: dict[str, Callable[[sa.Engine, Settings], list[Result]]] = {
    "database.own_tables": own_tables,
    "database.rights": rights,
    "database.target": target,
    "database.storage": storage,
    "database.triggers": triggers,
}
BEFORE_LOAD = ("database.own_tables", "database.rights", "database.target")
OF_THE_TABLES = (*CHECKS, "database.load")
