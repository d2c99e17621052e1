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
    from etl.crypto.keyring import Keyring


@click.command(
    epilog="""\b
Examples:
  etl token --column ip
  etl token - --column ip < value.txt
"""
)
@options.config
@options.value_and_column
@options.json_lines
def token(config_path: Path, value: str | None, column: str, as_json: bool) -> None:
    """Print the tokens of VALUE under every key.

    The token of the primary key comes first.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.postgres import first_use

    keyring = load_keyring(os.environ)
    first_use.check_if_reachable(settings, keyring)
    _, tokens = _tokens(settings, keyring, column, value)
    for key_id, text in tokens.items():
        click.echo(json.dumps({"key_id": key_id, "token": text}) if as_json else text)


@click.command(
    epilog="""\b
Examples:
  etl rows --column ip
  etl rows - --column device_id --json < value.txt
"""
)
@options.config
@options.value_and_column
@options.limit(1000, "Show at most N rows.")
@options.json_lines
def rows(config_path: Path, value: str | None, column: str, limit: int, as_json: bool) -> None:
    """Find the rows with VALUE, under every key.

    The rows are shown masked. If some rows cannot be compared, because no key in this keyring opens
    their tokens, their number is printed on standard error.
    """
    settings = options.load_settings(config_path)
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.operations.lookup import find_rows
    from etl.terminal import output

    engine, keyring = options.open_with_keys(settings)
    masked, tokens = _tokens(settings, keyring, column, value)
    found = find_rows(engine, settings.table, masked, tokens, limit)
    output.table(found, f"rows with this {masked.source}", as_json=as_json)
    if len(found) == limit:
        click.echo(f"showing {limit:,} rows; there may be more, raise --limit", err=True)
    not_compared = incomparable(key_usage(engine, settings.table), masked, tokens)
    if not_compared:
        click.echo(
            f"{not_compared:,} rows were not compared, because no key in this keyring opens their "
            f"token in {masked.name!r}; see: etl keys list",
            err=True,
        )


def _tokens(
    settings: Settings, keyring: Keyring, name: str, value: str | None
) -> tuple[Column, dict[str, str]]:
    from etl.operations.lookup import tokens_of
    from etl.schema import masked_column

    column = masked_column(settings.table, name)
    return column, tokens_of(options.read_value(value), column, keyring)
