"""``audit``: who saw or removed plain values."""

from __future__ import annotations

from pathlib import Path

import click

from etl.commands import options

# In a narrow terminal the last of them are left out.
IMPORTANCE = ("asked_at", "db_user", "action", "reason", "count", "columns", "os_user", "scope")


@click.command(
    epilog="""\b
Example:
  etl audit --limit 50
"""
)
@options.config
@options.limit(20, "Show at most N rows, newest first.")
@options.wide
@options.json_lines
def audit(config_path: Path, limit: int, wide: bool, as_json: bool) -> None:
    """Show who recovered or removed plain values.

    Each row has the time, the users, the command, the reason, the columns and the count. No value
    is stored, only a fingerprint of the tokens, made with a key derived from the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.operations.audit import newest_rows
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine = open_engine(settings.database)
    rows = newest_rows(engine, limit)
    output.table(rows, "audit", as_json=as_json, wide=wide, importance=IMPORTANCE)
