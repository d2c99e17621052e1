"""``quarantine``: messages that broke a check, to be looked at, loaded after all, or given up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from etl.commands import options
from etl.commands.groups import Group

if TYPE_CHECKING:
    from etl.operations.entries import Selection

ID = click.IntRange(min=1)


def _selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose entries."""
    choices = [
        click.option("--run", "run_id", type=click.UUID, help="Of this run only."),
        click.option("--check", help="With this broken check only: CHECK, or 'COLUMN: CHECK'."),
        click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS",
                     help="Only those that came before so many days."),
        click.option("--newer-than", type=click.FloatRange(min=0), metavar="DAYS",
                     help="Only those that came since so many days."),
    ]  # fmt: skip
    for choice in reversed(choices):
        command = choice(command)
    return command


def _selection(
    ids: tuple[int, ...],
    run_id: UUID | None,
    check: str | None,
    older_than: float | None,
    newer_than: float | None,
) -> Selection:
    from etl.operations.entries import Selection

    return Selection(ids, str(run_id) if run_id else None, check, older_than, newer_than)


def _chosen(ids: tuple[int, ...], everything: bool, choices: dict[str, Any]) -> Selection:
    """The selection of a command that would rather not take all by mistake."""
    some = bool(ids) or any(value is not None for value in choices.values())
    if some == everything:
        raise click.UsageError("say which entries: IDs, options, or --all")
    return _selection(ids, **choices)


@click.group(cls=Group)
def quarantine() -> None:
    """Work off the messages that broke a check."""


@quarantine.command(
    "list",
    epilog="""\b
Examples:
  python -m etl quarantine list
  python -m etl quarantine list --entries --check "ip: IP address" --newer-than 7
  python -m etl quarantine list --entries --closed
""",
)
@options.config
@_selecting
@click.option("--entries", "each", is_flag=True, help="List the entries, in place of counts.")
@click.option("--closed", is_flag=True, help="Of those that were replayed, discarded or forgotten.")
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="ID",
              help="List entries after this one.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True,
              help="List so many entries, oldest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def quarantine_list(
    config_path: Path,
    each: bool,
    closed: bool,
    after: int,
    limit: int,
    as_json: bool,
    **choices: Any,
) -> None:
    """Count the quarantined messages by reason, or list them. Bodies are never shown."""
    settings = options.load_settings(config_path)
    from etl.operations import entries
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine, chosen = open_engine(settings.database), _selection((), **choices)
    if not each:
        found = entries.reasons(engine, chosen, closed=closed)
        output.table(found, "quarantine by reason", as_json=as_json)
        return
    found = entries.listed(engine, chosen, limit, closed=closed, after=after)
    found = found.drop(columns="sealed_bytes" if closed else entries.CLOSING)
    output.table(found, "entries in quarantine", as_json=as_json)


@quarantine.command(
    "show",
    epilog="""\b
Example:
  python -m etl quarantine show 17 --reason "ticket 4711"
""",
)
@options.config
@options.reason
@click.argument("quarantine_id", metavar="ID", type=ID)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def quarantine_show(config_path: Path, reason: str, quarantine_id: int, as_json: bool) -> None:
    """Show one message as it was received, personal values and all.

    Who asked, when and why stands in etl.unmask_audit before it appears, or nothing does. Needs the
    keyring.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations.show import open_entry
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine, ring = open_engine(settings.database), load_keyring(os.environ)
    entry, body = open_entry(engine, ring, settings.table, quarantine_id, reason)
    if as_json:
        click.echo(json.dumps({**entry.facts, "body": body}))
        return
    for name, value in entry.facts.items():
        click.echo(f"{name}: {value}", err=True)
    # A lone surrogate has no UTF-8.
    click.echo(output.visible(body.encode(errors="backslashreplace").decode()))


@quarantine.command(
    "replay",
    epilog="""\b
Examples:
  python -m etl quarantine replay 17 18
  python -m etl quarantine replay --check "ip: IP address"
  python -m etl quarantine replay --all --json
""",
)
@options.config
@_selecting
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON line.")
def quarantine_replay(
    config_path: Path, ids: tuple[int, ...], everything: bool, as_json: bool, **choices: Any
) -> None:
    """Check, mask and load messages once more, after a mended configuration.

    What fails again stays, with its new reasons. Can be ended at any time and started again; two at
    once share the work. Needs the keyring.
    """
    chosen = _chosen(ids, everything, choices)
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations.replay import replay
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine, ring = open_engine(settings.database), load_keyring(os.environ)
    summary = replay(settings, engine, ring, chosen)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    else:
        output.summary(summary)


@quarantine.command(
    "discard",
    epilog="""\b
Examples:
  python -m etl quarantine discard 17 --reason "a test of the producer's"
  python -m etl quarantine discard --older-than 90 --reason "kept long enough"
""",
)
@options.config
@options.reason
@_selecting
@click.argument("ids", metavar="[ID]...", nargs=-1, type=ID)
@click.option("--all", "everything", is_flag=True, help="Every entry.")
def quarantine_discard(
    config_path: Path, reason: str, ids: tuple[int, ...], everything: bool, **choices: Any
) -> None:
    """Give messages up: their bodies go for good, a tombstone with the reason stays."""
    chosen = _chosen(ids, everything, choices)
    settings = options.load_settings(config_path)
    from etl.operations import entries
    from etl.postgres.engine import open_engine

    engine = open_engine(settings.database)
    count = entries.discard(engine, chosen, reason, settings.batch.bytes)
    click.echo(f"discarded {count:,} messages", err=True)


@quarantine.command(
    "export",
    epilog="""\b
Example:
  python -m etl quarantine export rejects.jsonl --newer-than 7
""",
)
@options.config
@_selecting
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def quarantine_export(config_path: Path, file: Path, **choices: Any) -> None:
    """Write messages to a new FILE, bodies sealed as they are; they stay in quarantine.

    The file can be read by its owner only, and back by 'quarantine import'. Needs the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations import transfer
    from etl.postgres.engine import open_engine

    engine, ring = open_engine(settings.database), load_keyring(os.environ)
    count = transfer.write(engine, ring, _selection((), **choices), file, settings.batch.bytes)
    click.echo(f"written: {count:,} messages to {file}", err=True)


@quarantine.command(
    "import",
    epilog="""\b
Example:
  python -m etl quarantine import rejects.jsonl
""",
)
@options.config
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def quarantine_import(config_path: Path, file: Path) -> None:
    """Take the messages of an exported FILE into the quarantine of this database.

    Messages that the database knows already, in whatever state, are left out. Needs the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.crypto.keyring import load_keyring
    from etl.operations import transfer
    from etl.postgres.engine import open_engine

    engine, ring = open_engine(settings.database), load_keyring(os.environ)
    new, seen = transfer.read(engine, ring, file)
    click.echo(f"taken: {new:,} of {seen:,} messages", err=True)
