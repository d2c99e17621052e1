"""``token`` and ``rows``: look a value up under every key."""

from __future__ import annotations

import os
from pathlib import Path

import click

from etl.commands import options, values
from etl.commands.groups import ValueCommand
from etl.terminal import lines
from etl.text import counted


@click.command(
    cls=ValueCommand,
    epilog="""\b
Examples:
  etl token --column ip
  etl token - --column ip < value.txt
  etl token --column ip --table clicks
""",
)
@options.config
@options.value_and_column
@options.table
@options.json_lines
def token(
    config_path: Path,
    value: str | None,
    column: str,
    quoted: bool,
    table_name: str | None,
    as_json: bool,
) -> None:
    """Print the tokens of VALUE under every key.

    The token of the primary key comes first.
    """
    settings = options.load_one_table(config_path, table_name)
    from etl.crypto.keyring import load_keyring
    from etl.operations.lookup import tokens_of_one
    from etl.operations.spellings import innermost, spellings
    from etl.postgres import first_use
    from etl.schema import masked_column

    masked = masked_column(settings.table, column)
    keyring = load_keyring(os.environ)
    first_use.check_if_reachable(settings, keyring)
    text = values.read_value(value, quoted=quoted)
    if len(spellings(innermost(text))) > 1:
        lines.say("the value has letters of two Unicode forms; this is the token of the form given")
    for key_id, token_text in tokens_of_one(text, masked, keyring, exact=quoted).items():
        if as_json:
            lines.json_line({"key_id": key_id, "token": token_text})
        else:
            lines.line(token_text)


@click.command(
    cls=ValueCommand,
    epilog="""\b
Examples:
  etl rows --column ip
  etl rows - --column device_id --json < value.txt
""",
)
@options.config
@options.value_and_column
@options.table
@options.limit(1000, "Show at most N rows.")
@options.wide
@options.json_lines
def rows(
    config_path: Path,
    value: str | None,
    column: str,
    quoted: bool,
    table_name: str | None,
    limit: int,
    wide: bool,
    as_json: bool,
) -> None:
    """Find the rows with VALUE, under every key.

    The rows are shown masked. Spaces, quotes and invisible characters around VALUE may be part of
    it or not: both are searched for. Exit code 1 means that some rows could not be compared,
    because no key in this keyring opens their tokens; 2 means that no row can hold VALUE.
    """
    settings = options.load_one_table(config_path, table_name)
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.errors import UnmaskError
    from etl.operations.lookup import find_rows, key_ids, tokens_of_spellings
    from etl.schema import masked_column
    from etl.terminal import output

    masked = masked_column(settings.table, column)
    text = values.read_value(value, quoted=quoted)
    engine, keyring = options.open_with_keys(settings)
    tokens = tokens_of_spellings(text, masked, keyring, exact=quoted)
    found = find_rows(engine, settings.table, masked, tokens, limit)
    output.table(found, f"rows with this {masked.source}", as_json=as_json, wide=wide)
    values.say_spellings(len({spelling for _, spelling in tokens}))
    if len(found) == limit:
        lines.say(f"showing {counted(limit, 'row')}; there may be more, raise --limit")
    usage = key_usage(engine, settings.table)
    not_compared = incomparable(usage, masked, key_ids(masked, keyring))
    if not_compared:
        raise UnmaskError(
            f"not compared: {counted(not_compared, 'row')}, because no key in this keyring opens "
            f"the token in {masked.name!r}; see: etl keys list"
        )
