"""``quarantine``: messages that broke a check."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import click

from etl.commands import options


@click.group()
def quarantine() -> None:
    """Look at messages that broke a check."""


@quarantine.command(
    "list",
    epilog="""\b
Example:
  python -m etl quarantine list
""",
)
@options.config
@click.option("--run", "run_id", type=click.UUID, help="Of this run only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def quarantine_list(config_path: Path, run_id: UUID | None, as_json: bool) -> None:
    """Count the quarantined messages by reason. Bodies are never shown."""
    settings = options.load_settings(config_path)
    from etl import postgres, present
    from etl import quarantine as stored

    reasons = stored.reasons(postgres.engine(settings.database), str(run_id) if run_id else None)
    present.table(reasons, "quarantine by reason", as_json=as_json)
