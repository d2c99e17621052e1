"""``init``: create the tables and the roles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options
from etl.terminal import lines

if TYPE_CHECKING:
    import sqlalchemy as sa

    from etl.config import Settings


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
@click.option("--yes", is_flag=True, help="Do not ask before a table is altered.")
def init(config_path: Path, with_roles: bool, alter: bool, yes: bool) -> None:
    """Create the tables that are missing: those of schema etl, and the target tables.

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
    for table in settings.tables:
        check_table(table)
    engine = open_engine(settings.database)
    for table in settings.tables:
        create_tables(engine, table, settings.job_name, settings.masked_fields)
    if alter:
        _alter(engine, settings, yes=yes)
    for table in settings.tables:
        check_target(engine, table)
        create_indexes(engine, table)
    with transaction(engine) as connection:
        jobs.register(connection, settings)
    targets = ", ".join(f"{table.schema_name}.{table.name}" for table in settings.tables)
    lines.say(
        f"ready: {targets}, etl.ledger, etl.quarantine, etl.runs, etl.unmask_audit, for the job "
        f"{settings.job_name!r}"
    )
    if with_roles:
        for table in settings.tables:
            roles.create(engine, table)
        lines.say(f"roles: {', '.join(roles.ROLES)}")


def _alter(engine: sa.Engine, settings: Settings, *, yes: bool) -> None:
    """Show what would be added to the targets, ask, and add it."""
    from etl.postgres.alteration import add_columns, missing_columns

    statements = [text for table in settings.tables for text in missing_columns(engine, table)]
    if not statements:
        lines.say("no column is missing")
        return
    for statement in statements:
        lines.line(f"{statement};")
    if not yes:
        what = "the table" if len(settings.tables) == 1 else "the tables"
        click.confirm(f"Alter {what}?", abort=True, err=True)
    add_columns(engine, statements)
