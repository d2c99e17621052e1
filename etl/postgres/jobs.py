"""Registers a job in its database, ``etl.jobs``: its number for the ledger, its masked columns."""

from __future__ import annotations

import sqlalchemy as sa

from etl.config import Settings, quoted_if_needed
from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.schema import masked_columns


def register(connection: sa.Connection, settings: Settings) -> None:
    """Register the job and its masked columns where they are new, in the caller's transaction.

    What was registered stays: a column that is no longer masked may still hold tokens.
    """
    job = {"job": settings.job_name}
    if not connection.execute(queries()["is_known_job"], job).scalar_one():
        connection.execute(queries()["lock_jobs"])
        connection.execute(queries()["register_job"], job)
    for table in settings.tables:
        pairs = [
            (column.name, field) for column in masked_columns(table) for field in column.fields
        ]
        columns = {
            "schema": table.schema_name,
            "table": table.name,
            "columns": [name for name, _ in pairs],
            "fields": [field for _, field in pairs],
        }
        connection.execute(queries()["register_columns"], {**job, **columns})


def masked_fields(connection: sa.Connection, job: str) -> set[str]:
    """The fields of the event that the job masks, or has masked earlier."""
    return set(connection.execute(queries()["registered_fields"], {"job": job}).scalars())


def earlier_columns(engine: sa.Engine, settings: Settings) -> list[str]:
    """The columns that hold tokens of this job, but are not masked in the settings' tables.

    Another table, because the job has had several; or a column that it masked earlier. Raises as
    ``transaction`` does.
    """
    found: list[list[str]] = []
    with transaction(engine) as connection:
        for table in settings.tables:
            parameters = {
                "job": settings.job_name,
                "schema": table.schema_name,
                "table": table.name,
                "columns": [column.name for column in masked_columns(table)],
            }
            rows = connection.execute(queries()["columns_of_earlier_configurations"], parameters)
            found.append([".".join(map(quoted_if_needed, row)) for row in rows])
    first, *others = found
    return [name for name in first if all(name in other for other in others)]


def other_jobs(engine: sa.Engine, job: str) -> list[str]:
    """The names of the other jobs of this database. Raises as ``transaction`` does."""
    with transaction(engine) as connection:
        return list(connection.execute(queries()["other_jobs"], {"job": job}).scalars())
