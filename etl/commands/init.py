"""``init``: create the tables and the roles."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options
from etl.terminal import lines


@click.command(
    epilog="""\b
Examples:
  etl init
  DATABASE_URL=postgresql://postgres@localhost/etl etl init --roles
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
def init(config_path: Path, with_roles: bool) -> None:
    """Create the tables that are missing: those of schema etl, and the target table.

    Also create the indexes in table.indexes. Tables of schema etl from an earlier version are
    brought up to date. A target table that exists is checked against the configuration; it gets
    missing indexes, but is not changed otherwise.
    """
    settings = options.load_settings(config_path)
    from etl.postgres import jobs, roles
    from etl.postgres.creation import create_indexes, create_tables
    from etl.postgres.engine import open_engine, transaction
    from etl.postgres.target import check_target
    from etl.schema import check_columns

    # What a run would refuse about the columns, such as a token that does not fit.
    check_columns(settings.table.columns)
    engine = open_engine(settings.database)
    create_tables(engine, settings.table, settings.job_name, settings.masked_fields)
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
