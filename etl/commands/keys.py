"""``keys``: make keys."""

from __future__ import annotations

import click


@click.group()
def keys() -> None:
    """Make keys."""


@keys.command(
    "new",
    epilog="""\b
Example:
  (umask 077 && python -m etl keys new > keyring.json)
  export ETL_KEYRING_FILE=keyring.json
""",
)
@click.option(
    "--key-id", default="k1", show_default=True, help="Id of the key; part of each token."
)
def keys_new(key_id: str) -> None:
    """Print a fresh keyring with one random key on standard output. Writes no file."""
    from etl.keyring import Keyring

    click.echo(Keyring.new(key_id).dump())
    click.echo(
        "keep this where only the job and key holders can read it, with a copy apart from the "
        "database: without the key no token can be recovered",
        err=True,
    )
