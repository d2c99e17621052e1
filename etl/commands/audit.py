"""``audit``: who saw or removed plain values."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options


@click.command(
    epilog="""\b
Example:
  python -m etl audit --limit 50
"""
)
@options.config
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
              help="Show so many rows, newest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def audit(config_path: Path, limit: int, as_json: bool) -> None:
    """Show who recovered or removed plain values: when, why, which columns, how many.

    The fingerprint is of the tokens, under a key derived from the keyring. No value is stored.
    """
    settings = options.load_settings(config_path)
    from etl.operations import audit as rows
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine = open_engine(settings.database)
    output.table(rows.history(engine, limit), "audit", as_json=as_json)
