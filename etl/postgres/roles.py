"""The database roles of the loader, the analyst and the officer; see ``etl/sql/roles.sql``."""

from __future__ import annotations

import sqlalchemy as sa

from etl.config import Table
from etl.postgres.engine import transaction
from etl.postgres.queries import queries, quote_name, sql_file
from etl.postgres.row_key import needed_rights

ROLES = ("etl_loader", "etl_analyst", "etl_officer")


def create(engine: sa.Engine, table: Table) -> None:
    """Create the roles that are absent, and grant all three what they need and no more.

    The tables must exist. An existing role keeps its members.

    :raises DatabaseRefused: the user does not own the tables, or may not create roles
    :raises DatabaseUnavailable: an outage
    """
    target = quote_name(table.schema_name, table.name)
    # What forget --null sets to null, and rekey masks again.
    masked = ", ".join(
        quote_name(column.name)
        for column in table.columns
        if column.mask or column.network or column.is_container
    )
    names = {"schema": table.schema_name, "name": table.name}
    with transaction(engine) as connection:
        sequences = connection.execute(queries()["target_sequences"], names).scalars().all()
        listed = ", ".join(sequences).replace(":", "\\:")
        statements = sql_file("roles.sql").format(
            target=target,
            target_schema=quote_name(table.schema_name),
            grant_masked=f"grant update ({masked}) on {target} to etl_officer;" if masked else "",
            grant_sequences=(
                f"grant usage on sequence {listed} to etl_loader, etl_officer;" if listed else ""
            ),
            grant_conflicts=_grant_conflicts(table, target),
        )
        connection.execute(sa.text(statements))


def _grant_conflicts(table: Table, target: str) -> str:
    """Grant what it takes to find the rows of a key and to replace them, also in a replay."""
    columns: dict[str, list[str]] = {}
    for right, name in needed_rights(table):
        columns.setdefault(right, []).append(quote_name(name))
    return " ".join(
        f"grant {right} ({', '.join(names)}) on {target} to etl_loader, etl_officer;"
        for right, names in columns.items()
    )
