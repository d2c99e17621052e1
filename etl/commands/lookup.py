"""``token`` and ``rows``: look a value up under every key."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options

if TYPE_CHECKING:
    from etl.config import Column, Settings


@click.command(
    epilog="""\b
Examples:
  python -m etl token --column ip
  python -m etl token - --column ip < value.txt
"""
)
@options.config
@options.value
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def token(config_path: Path, value: str | None, column: str, as_json: bool) -> None:
    """Print the token of VALUE under every key of the keyring, the primary key's first.

    Without VALUE it is asked for, and not shown; with - it is read from standard input. As an
    argument it stands in the shell's history and in every process list.
    """
    settings = options.load_settings(config_path)
    _, tokens = _tokens(settings, column, value)
    for key_id, made in tokens.items():
        click.echo(json.dumps({"key_id": key_id, "token": made}) if as_json else made)


@click.command(
    epilog="""\b
Examples:
  python -m etl rows --column ip
  python -m etl rows - --column device_id --json < value.txt
"""
)
@options.config
@options.value
@click.option("--limit", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Show so many rows at most.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def rows(config_path: Path, value: str | None, column: str, limit: int, as_json: bool) -> None:
    """Find the rows that have VALUE, under every key of the keyring. They stay masked.

    Without VALUE it is asked for, and not shown; with - it is read from standard input. As an
    argument it stands in the shell's history and in every process list.

    Rows that cannot be compared, because no key of this keyring made their token, are counted on
    standard error.
    """
    settings = options.load_settings(config_path)
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.operations.lookup import find_rows
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    masked, tokens = _tokens(settings, column, value)
    engine = open_engine(settings.database)
    found = find_rows(engine, settings.table, masked, tokens, limit)
    output.table(found, f"rows with this {masked.source}", as_json=as_json)
    if len(found) == limit:
        click.echo(f"only the first {limit:,} rows are shown; see --limit", err=True)
    unknown = incomparable(key_usage(engine, settings.table), masked, tokens)
    if unknown:
        click.echo(
            f"{unknown:,} rows were not compared: their {masked.name!r} was made by no key of this "
            "keyring; `keys list` shows by which",
            err=True,
        )


def _tokens(settings: Settings, name: str, value: str | None) -> tuple[Column, dict[str, str]]:
    from etl.crypto.keyring import load_keyring
    from etl.operations.lookup import tokens_of
    from etl.schema import masked_column

    column, ring = masked_column(settings.table, name), load_keyring(os.environ)
    return column, tokens_of(options.read_value(value), column, ring)
