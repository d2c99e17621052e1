"""``keys``: make keys, and see which are in use."""

from __future__ import annotations

import os
from pathlib import Path

import click

from etl.commands import options
from etl.commands.groups import Group
from etl.errors import KeyringError
from etl.terminal import lines
from etl.text import unquoted

STORAGE_ADVICE = (
    "keep the keyring where only the job and the officer can read it, and keep a copy away from "
    "the database: without the key no token can be recovered"
)


@click.group(cls=Group)
def keys() -> None:
    """Make keys, and see which are in use."""


@keys.command(
    "new",
    epilog="""\b
Example:
  (umask 077 && set -C && etl keys new > keyring.json)
  export ETL_KEYRING_FILE=keyring.json
""",
)
@click.option(
    "--key-id",
    help="Give the key this id, of 1 to 16 characters; it is part of each token.  [default: a new "
    "one, such as k261127-a3f9]",
)
def keys_new(key_id: str | None) -> None:
    """Print a new keyring with one random key.

    The keyring goes to standard output; no file is written. It is for a new job. If the keyring of
    a job is lost or damaged, restore its copy instead: a new key cannot read what is stored.
    """
    from etl.crypto.keyring import Keyring

    lines.line(Keyring.new(key_id).dump())
    lines.say(STORAGE_ADVICE)


@keys.command(
    "rotate",
    epilog="""\b
Examples:
  etl keys rotate --in-place
  (umask 077 && set -C && etl keys rotate > keyring-2.json)
""",
)
@click.option(
    "--key-id",
    help="Give the new key this id, of 1 to 16 characters.  [default: a new one, such as "
    "k261127-a3f9]",
)
@click.option(
    "--in-place",
    is_flag=True,
    help="Replace the file named in ETL_KEYRING_FILE in one step, and print no key.",
)
def keys_rotate(key_id: str | None, in_place: bool) -> None:
    """Add a new primary key to the keyring.

    The key is random, and the old keys stay. The new keyring goes to standard output. Give it
    first to everyone who runs unmask or another keyring command, then to every job, and then run
    `etl rekey`.
    """
    from etl.crypto import keyring_file
    from etl.crypto.keyring import load_keyring

    if in_place:
        _check_in_place()
        path = Path(unquoted(os.environ["ETL_KEYRING_FILE"]))
        keyring = keyring_file.rotate(path, key_id)
        advice = "copy the new keyring to where its copy is kept"
    else:
        keyring = load_keyring(os.environ).with_new(key_id)
        lines.line(keyring.dump())
        advice = STORAGE_ADVICE
    lines.say(f"new primary key {keyring.primary!r}; {advice}")


def _check_in_place() -> None:
    """Check that the keyring comes from a file, and that no other source is set."""
    from etl.crypto.keyring import load_keyring

    if not os.environ.get("ETL_KEYRING_FILE"):
        raise KeyringError("--in-place rewrites a file: set ETL_KEYRING_FILE")
    load_keyring(os.environ)


@keys.command(
    "list",
    epilog="""\b
Examples:
  etl keys list
  etl keys list --json
""",
)
@options.config
@options.wide
@options.json_lines
def keys_list(config_path: Path, wide: bool, as_json: bool) -> None:
    """Show how many rows and bodies need each key.

    All jobs that share the database are counted. Of a table that this role cannot read, the numbers
    are unknown, so any key may be in use there.

    The list includes key ids that are in the database but not in the keyring; this keyring cannot
    recover the tokens and quarantined bodies of those keys. If another job uses another key under
    an id of this keyring, what it has stored is in a line of its own. No key is printed. The
    command reads each whole table once; without DATABASE_URL it shows the keyring alone.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations.key_list import Place, key_list, key_places
    from etl.terminal import output

    places: list[Place] = []
    if settings.database.url is None:
        keyring = load_keyring(os.environ)
        lines.say("DATABASE_URL is not set, so key usage in the database cannot be counted")
    else:
        engine, keyring = options.open_with_keys(settings)
        places = key_places(engine, settings, keyring)
    output.table(key_list(keyring, places), "keys", as_json=as_json, wide=wide)
    for place in places:
        if place.counts is None:
            jobs = ", ".join(map(repr, place.jobs))
            lines.say(f"{place.name} (of {jobs}) is unknown: {place.problem}")
