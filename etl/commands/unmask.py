"""``unmask``: recover plain values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from etl.commands import options
from etl.errors import SettingsError, UnmaskError


@click.command(
    epilog="""\b
Example:
  python -m etl unmask k1.Zm9vYmFy... --column ip
"""
)
@options.config
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
@click.option(
    "--column", help="Field the tokens were made from; by default each masked one is tried."
)
def unmask(config_path: Path, tokens: tuple[str, ...], column: str | None) -> None:
    """Recover the plain values of tokens, one a line on standard output. Needs the keyring."""
    settings = options.load_settings(config_path)
    from etl import keyring, mask

    contexts = {c.source: c.masking_context for c in settings.table.columns if c.mask}
    if column is not None and column not in contexts:
        known = ", ".join(contexts)
        raise SettingsError(f"{column!r} is no masked field; masked are {known}")
    wanted = [contexts[column]] if column else list(dict.fromkeys(contexts.values()))
    ring = keyring.load(os.environ)
    # All or none: a half-printed list invites counting lines.
    plain = [
        _unmask_one(token, number, wanted, ring, mask) for number, token in enumerate(tokens, 1)
    ]
    for value in plain:
        click.echo(value)


def _unmask_one(token: str, number: int, contexts: list[str], ring: Any, mask: Any) -> str:
    for context in contexts:
        try:
            return str(mask.unmask(token, ring, context))
        except UnmaskError:
            continue
    raise UnmaskError(
        f"token {number} was not made by this keyring for this column, or was changed"
    )
