"""``forget``: remove a person's rows and quarantined messages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options

if TYPE_CHECKING:
    from etl.operations.forget import Matches, Search


@click.command(
    epilog="""\b
Examples:
  etl forget --column ip
  etl forget - --column ip --yes --reason "request 4711" < value.txt
  etl forget --column device_id --null --yes
"""
)
@options.config
@options.value_and_column
@click.option("--yes", is_flag=True, help="Make the change; without this option, only count.")
@click.option("--null", is_flag=True, help="Set the column to null instead of deleting the rows.")
@options.reason(default="erasure request")
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
    """Delete the job's rows and quarantined messages with VALUE.

    Rows are found under every key of the keyring. Quarantined messages lose their bodies and stay
    as tombstones.

    All changes are made in one transaction together with a row in etl.unmask_audit. Exit code 1
    means that no key in this keyring opens some rows or messages, so they were not searched.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations.forget import Search, find_value, forget_value
    from etl.postgres.engine import open_engine
    from etl.schema import masked_column

    search = Search(
        open_engine(settings.database),
        settings,
        load_keyring(os.environ),
        masked_column(settings.table, column),
        options.read_value(value),
    )
    if yes:
        matches = forget_value(search, "null" if null else "delete", reason)
    else:
        matches = find_value(search)
    if as_json:
        counts = {"rows": matches.rows, "quarantined": len(matches.entries), "done": yes}
        click.echo(json.dumps(counts))
    else:
        _print_counts(matches, yes=yes, null=null)
    _name_other_jobs(search)
    _check_all_compared(search, matches)


def _print_counts(matches: Matches, *, yes: bool, null: bool) -> None:
    rows = f"{matches.rows:,} rows"
    messages = f"{len(matches.entries):,} quarantined messages"
    if not yes:
        click.echo(f"{rows} and {messages} have this value")
        click.echo("nothing was changed; add --yes to make the change", err=True)
    elif null:
        click.echo(f"set the column to null in {rows} and closed {messages} that had this value")
    else:
        click.echo(f"deleted {rows} and closed {messages} that had this value")


def _name_other_jobs(search: Search) -> None:
    from etl.postgres.jobs import other_jobs

    if names := other_jobs(search.engine, search.settings.job_name):
        others = ", ".join(map(repr, names))
        click.echo(
            f"other jobs of this database were not searched, so repeat this with the configuration "
            f"of each: {others}",
            err=True,
        )


def _check_all_compared(search: Search, matches: Matches) -> None:
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.errors import UnmaskError

    usage = key_usage(search.engine, search.settings.table)
    rows = incomparable(usage, search.column, search.keyring.key_ids)
    if rows or matches.unopened:
        raise UnmaskError(
            f"no key in this keyring opens {rows:,} rows and {len(matches.unopened):,} quarantined "
            "messages, so they were not searched; see: etl keys list"
        )
