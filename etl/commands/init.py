"""``init``: create the tables and the roles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.terminal import lines

if TYPE_CHECKING:
    import sqlalchemy as sa

    from etl.config import Table


@click.command(
    epilog="""\b
Examples:
  etl init
  DATABASE_URL=postgresql://postgres@localhost/etl etl init --roles
  etl init --alter
"""
)
@options.config
@click.option(
    "--roles",
    "with_roles",
    is_flag=True,
    help="Also create the roles etl_loader, etl_analyst and etl_officer, each with only the rights "
    "it needs. The database user must own the tables and be allowed to create roles.",
)
@click.option(
    "--alter",
    is_flag=True,
    help="Also add the columns to the target that are configured and missing in it. The statements "
    "are shown first. Nothing is dropped or narrowed.",
)
@click.option("--yes", is_flag=True, help="Do not ask before the table is altered.")
def init(config_path: Path, with_roles: bool, alter: bool, yes: bool) -> None:
    """Create the tables that are missing: those of schema etl, and the target table.

    Also create the indexes in table.indexes. Tables of schema etl from an earlier version are
    brought up to date. A target table that exists is checked against the configuration; it gets
    missing indexes, and with --alter missing columns, but is not changed otherwise.
    """
    settings = options.load_settings(config_path)
    from etl.checks.configured import check_table
    from etl.postgres import jobs, roles
    from etl.postgres.creation import create_indexes, create_tables
    from etl.postgres.engine import open_engine, transaction
    from etl.postgres.target import check_target

    # What a run would refuse about the columns, such as a token that does not fit.
    check_table(settings.table)
    engine = open_engine(settings.database)
    create_tables(engine, settings.table, settings.job_name, settings.masked_fields)
    if alter:
        _alter(engine, settings.table, yes=yes)
    check_target(engine, settings.table)
    create_indexes(engine, settings.table)
    with transaction(engine) as connection:
        jobs.register(connection, settings)
    lines.say(
        f"ready: {settings.table.schema_name}.{settings.table.name}, etl.ledger, etl.quarantine, "
        f"etl.runs, etl.unmask_audit, for the job {settings.job_name!r}"
    )
    if with_roles:
        roles.create(engine, settings.table)
        lines.say(f"roles: {', '.join(roles.ROLES)}")


def _alter(engine: sa.Engine, table: Table, *, yes: bool) -> None:
    """Show what would be added to the target, ask, and add it."""
    from etl.postgres.alteration import add_columns, missing_columns

    statements = missing_columns(engine, table)
    if not statements:
        lines.say("no column is missing")
        return
    for statement in statements:
        lines.line(f"{statement};")
    if not yes:
        click.confirm("Alter the table?", abort=True, err=True)
    add_columns(engine, statements)
