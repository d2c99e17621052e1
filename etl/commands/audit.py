"""``audit``: who saw or removed plain values."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options


@click.command(
    epilog="""\b
Example:
  etl audit --limit 50
"""
)
@options.config
@options.limit(20, "Show at most N rows, newest first.")
@options.json_lines
def audit(config_path: Path, limit: int, as_json: bool) -> None:
    """Show who recovered or removed plain values.

    Each row has the time, the users, the command, the reason, the columns and the count. No value
    is stored, only a fingerprint of the tokens, made with a key derived from the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.operations.audit import newest_rows
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine = open_engine(settings.database)
    output.table(newest_rows(engine, limit), "audit", as_json=as_json)
