"""``keys``: make keys, and see which are in use."""

from __future__ import annotations

import os
from pathlib import Path

import click

from etl.commands import options
from etl.commands.groups import Group
from etl.errors import KeyringError

KEEP = (
    "keep this where only the job and key holders can read it, with a copy apart from the "
    "database: without the key no token can be recovered"
)


@click.group(cls=Group)
def keys() -> None:
    """Make keys, and see which are in use."""


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
    from etl.crypto.keyring import Keyring

    click.echo(Keyring.new(key_id).dump())
    click.echo(KEEP, err=True)


@keys.command(
    "rotate",
    epilog="""\b
Examples:
  python -m etl keys rotate --in-place
  (umask 077 && python -m etl keys rotate > keyring-2.json)
""",
)
@click.option("--key-id", help="Id of the new key.  [default: the next of k1, k2, ...]")
@click.option(
    "--in-place",
    is_flag=True,
    help="Rewrite the file that ETL_KEYRING_FILE names, at once or not at all, and print nothing.",
)
def keys_rotate(key_id: str | None, in_place: bool) -> None:
    """Add a new random key to the keyring and make it the primary one; the old keys stay.

    Prints the new keyring on standard output. Then give it to every reader and every job, and run
    `rekey`.
    """
    from etl.crypto import keyring_file
    from etl.crypto.keyring import load_keyring

    if in_place:
        if not os.environ.get("ETL_KEYRING_FILE"):
            raise KeyringError("--in-place rewrites a file: set ETL_KEYRING_FILE")
        load_keyring(os.environ)
        ring = keyring_file.rotate(Path(os.environ["ETL_KEYRING_FILE"]), key_id)
    else:
        ring = load_keyring(os.environ).with_new(key_id)
        click.echo(ring.dump())
    click.echo(f"new primary key {ring.primary!r}; {KEEP}", err=True)


@keys.command(
    "list",
    epilog="""\b
Examples:
  python -m etl keys list
  python -m etl keys list --json
""",
)
@options.config
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def keys_list(config_path: Path, as_json: bool) -> None:
    """Show the keys by id, and how many rows and quarantined bodies still need each of them.

    Key ids that only the database knows are listed too: what they made cannot be recovered with
    this keyring. No key material is shown. Reads the whole table once; without DATABASE_URL only
    the keyring is shown.
    """
    settings = options.load_settings(config_path)
    from etl.analysis.key_usage import key_list, usage_by_place
    from etl.crypto.keyring import load_keyring
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    ring, usage = load_keyring(os.environ), {}
    if settings.database.url is None:
        click.echo("DATABASE_URL is not set, so that nobody knows who uses the keys", err=True)
    else:
        usage = usage_by_place(open_engine(settings.database), settings.table)
    output.table(key_list(ring, usage), "keys", as_json=as_json)
