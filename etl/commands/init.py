"""``init``: make the tables, and the roles."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options


@click.command(
    epilog="""\b
Examples:
  python -m etl init
  DATABASE_URL=postgresql://postgres@localhost/etl python -m etl init --roles
"""
)
@options.config
@click.option(
    "--roles",
    "with_roles",
    is_flag=True,
    help="Make the roles etl_loader, etl_analyst and etl_officer too, each with the least it "
    "needs; wants a user that may create roles and owns the tables.",
)
def init(config_path: Path, with_roles: bool) -> None:
    """Create the tables that are absent: schema etl, and the target table; and table.indexes.

    Tables of an earlier version get what they lack. A target table that is there stays as it is,
    and is checked against the configuration.
    """
    settings = options.load_settings(config_path)
    from etl.postgres import roles
    from etl.postgres.engine import open_engine
    from etl.postgres.tables import check_tables, create_indexes, create_tables

    engine = open_engine(settings.database)
    create_tables(engine, settings.table)
    check_tables(engine, settings.table)
    create_indexes(engine, settings.table)
    click.echo(
        f"ready: {settings.table.schema_name}.{settings.table.name}, etl.ledger, etl.quarantine, "
        "etl.runs, etl.unmask_audit",
        err=True,
    )
    if with_roles:
        roles.create(engine, settings.table)
        click.echo(f"roles: {', '.join(roles.ROLES)}", err=True)
