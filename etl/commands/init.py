"""``init``: make the tables."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options


@click.command(
    epilog="""\b
Example:
  python -m etl init
"""
)
@options.config
def init(config_path: Path) -> None:
    """Create the tables that are absent: schema etl, and the target table.

    A target table that is there stays as it is, and is checked against the configuration.
    """
    settings = options.load_settings(config_path)
    from etl import postgres

    engine = postgres.engine(settings.database)
    postgres.create_tables(engine, settings.table)
    postgres.check_tables(engine, settings.table)
    click.echo(
        f"ready: {settings.table.schema_name}.{settings.table.name}, etl.ledger, etl.quarantine, "
        "etl.runs",
        err=True,
    )
