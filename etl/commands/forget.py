"""``forget``: take away a person's rows and quarantined messages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options

if TYPE_CHECKING:
    from etl.operations.forget import Found, Search


@click.command(
    epilog="""\b
Examples:
  python -m etl forget --column ip
  python -m etl forget - --column ip --yes --reason "request 4711" < value.txt
  python -m etl forget --column device_id --null --yes
"""
)
@options.config
@options.value
@click.option("--yes", is_flag=True, help="Do it; without, what would go is counted only.")
@click.option("--null", is_flag=True, help="Null the column in place of deleting the rows.")
@click.option("--reason", default="erasure request", show_default=True, callback=options.text,
              help="Why, for the audit; put no personal value into it.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON line.")
def forget(
    config_path: Path,
    value: str | None,
    column: str,
    yes: bool,
    null: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Delete the rows that have VALUE, under every key, and the quarantined messages that have it.

    VALUE comes from standard input: piped in with - as VALUE, or asked for without it. All of it
    happens in one transaction, together with its row in etl.unmask_audit. Exit code 1 says that
    there is something that this keyring cannot look into.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations import forget as removal
    from etl.postgres.engine import open_engine
    from etl.schema import masked_column

    search = removal.Search(
        open_engine(settings.database),
        settings,
        load_keyring(os.environ),
        masked_column(settings.table, column),
        options.read_value(value),
    )
    found = removal.forget(search, "null" if null else "delete", reason) if yes else removal.find(
        search
    )  # fmt: skip
    _tell(found, yes, as_json)
    _warn(search, found)


def _tell(found: Found, yes: bool, as_json: bool) -> None:
    entries = len(found.entries)
    if as_json:
        click.echo(json.dumps({"rows": found.rows, "quarantined": entries, "done": yes}))
        return
    had = "had" if yes else "have"
    click.echo(f"{found.rows:,} rows and {entries:,} quarantined messages {had} this value")
    if not yes:
        click.echo("nothing was changed; with --yes they go", err=True)


def _warn(search: Search, found: Found) -> None:
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.errors import UnmaskError

    table = search.settings.table
    usage = key_usage(search.engine, table)
    rows = incomparable(usage, search.column, search.keyring.key_ids)
    if rows or found.unopened:
        raise UnmaskError(
            f"{rows:,} rows and {len(found.unopened):,} quarantined messages are of no key of this "
            "keyring, so that nobody can tell whether they have the value; 'keys list' counts them"
        )
