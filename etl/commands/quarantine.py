"""``quarantine``: list, show, replay, discard, export and import messages that failed a check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from etl.commands import options, selection
from etl.commands.groups import Group
from etl.terminal import lines
from etl.text import counted

IMPORTANCE = (  # in a narrow terminal the last of them are left out
    *("quarantine_id", "job", "reasons", "closed_as", "quarantined_at", "closed_at", "closed_by"),
    *("run_id", "note", "sent_at", "message_id"),
)


@click.group(cls=Group)
def quarantine() -> None:
    """Handle the messages that failed a check."""


@quarantine.command(
    "list",
    epilog="""\b
Examples:
  etl quarantine list
  etl quarantine list --entries --check "ip: IP address" --newer-than 7
  etl quarantine list --entries --closed
  etl quarantine list --entries --samples
""",
)
@options.config
@selection.conditions
@selection.samples
@click.option(
    "--entries",
    "list_them",
    is_flag=True,
    help="List the entries instead of counting them.",
)
@click.option(
    "--closed",
    is_flag=True,
    help="Select closed entries: replayed, already handled, discarded or forgotten.",
)
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    metavar="ID",
    help="With --entries, start after the entry with this id.",
)
@options.limit(50, "With --entries, list at most N, oldest first.")
@options.all_jobs
@options.wide
@options.json_lines
def quarantine_list(
    config_path: Path,
    list_them: bool,
    closed: bool,
    after: int,
    limit: int,
    all_jobs: bool,
    samples: bool,
    wide: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Count the job's entries by reason, or list them. Bodies are never shown."""
    settings = options.load_settings(config_path)
    from etl.operations import entries
    from etl.postgres.engine import open_engine
    from etl.terminal import output

    engine = open_engine(settings.database)
    selected = selection.from_options(
        engine, settings, **choices, samples=samples, all_jobs=all_jobs
    )
    entries.check_job(engine, selected)
    if not list_them:
        counts = entries.count_by_reason(engine, selected, closed=closed)
        if not all_jobs:
            counts = counts.drop(columns="job")
        output.table(counts, "quarantine by reason", as_json=as_json, wide=wide)
        return
    listed = entries.list_entries(engine, selected, limit, closed=closed, after=after)
    listed = listed.drop(columns=["sealed_bytes"] if closed else entries.CLOSING_COLUMNS)
    listed = listed.drop(columns=["masked_fields"] if all_jobs else ["job", "masked_fields"])
    output.table(listed, "entries in quarantine", as_json=as_json, wide=wide, importance=IMPORTANCE)


@quarantine.command(
    "show",
    epilog="""\b
Example:
  etl quarantine show 17 --reason "ticket 4711"
""",
)
@options.config
@options.reason()
@click.argument("quarantine_id", metavar="ID", type=selection.ENTRY_ID)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
def quarantine_show(config_path: Path, reason: str, quarantine_id: int, as_json: bool) -> None:
    """Show the body of one entry as received, with personal values.

    Before the body is shown, a row in etl.unmask_audit records who asked, when and why. If that
    row cannot be written, nothing is shown. Needs the keyring.

    The body is one line, with escapes for line breaks and what cannot be seen, after a line for
    each attribute that the job reads. The exact text is in the output of --json.
    """
    settings = options.load_settings(config_path)
    from etl.operations.show import open_entry
    from etl.terminal import cells

    engine, keyring = options.open_with_keys(settings)
    entry, body, attributes = open_entry(engine, keyring, settings, quarantine_id, reason)
    if as_json:
        shown = {"attributes": attributes} if attributes else {}
        lines.json_line({**entry.facts, **shown, "body": body})
        return
    for name, value in entry.facts.items():
        lines.say(f"{name}: {cells.full(value)}")
    for line in [*(f"{name}: {cells.full(v)}" for name, v in attributes.items()), body]:
        lines.line(line)


@quarantine.command(
    "replay",
    epilog="""\b
Examples:
  etl quarantine replay 17 18
  etl quarantine replay --check "ip: IP address"
  etl quarantine replay --all
""",
)
@options.config
@selection.conditions
@selection.ids_or_all
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON line.")
def quarantine_replay(
    config_path: Path, ids: tuple[int, ...], everything: bool, as_json: bool, **choices: Any
) -> None:
    """Check and load the job's entries again, after a correction.

    Correct the configuration, the table or the producer first. Entries that fail again stay, with
    their new reasons. The command can be stopped and started again at any time; two at once share
    the work. Needs the keyring.
    """
    selection.check_selected(ids, everything, choices)
    settings = options.load_settings(config_path)
    from etl.operations.replay import replay
    from etl.terminal.summary import print_summary

    engine, keyring = options.open_with_keys(settings)
    selected = selection.from_options(engine, settings, **choices, ids=ids)
    summary = replay(settings, engine, keyring, selected, os.environ)
    with lines.output_may_be_lost("the summary"):
        if as_json:
            lines.json_line(summary.as_dict())
        else:
            print_summary(summary)


@quarantine.command(
    "discard",
    epilog="""\b
Examples:
  etl quarantine discard 17 --reason "producer's test message"
  etl quarantine discard --older-than 90 --reason "kept long enough"
""",
)
@options.config
@options.reason(place="with the closed entry")
@selection.conditions
@selection.ids_or_all
def quarantine_discard(
    config_path: Path, reason: str, ids: tuple[int, ...], everything: bool, **choices: Any
) -> None:
    """Delete the bodies of the job's entries for good.

    Each entry stays as a tombstone that records --reason.
    """
    selection.check_selected(ids, everything, choices)
    settings = options.load_settings(config_path)
    from etl.operations import entries
    from etl.postgres.engine import open_engine

    engine = open_engine(settings.database)
    selected = selection.from_options(engine, settings, **choices, ids=ids, samples=None)
    count = entries.discard(engine, selected, reason, settings.batch.bytes)
    lines.say(f"discarded {counted(count, 'entry', 'entries')}")


@quarantine.command(
    "export",
    epilog="""\b
Example:
  etl quarantine export rejects.jsonl --newer-than 7
""",
)
@options.config
@selection.conditions
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def quarantine_export(config_path: Path, file: Path, **choices: Any) -> None:
    """Write the job's entries to a new FILE, with their bodies sealed.

    The entries stay in the quarantine. Only the file's owner can read it, and `etl quarantine
    import` reads it back. Needs the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.operations.transfer import export_entries

    engine, keyring = options.open_with_keys(settings)
    selected = selection.from_options(engine, settings, **choices)
    count = export_entries(engine, keyring, settings, selected, file)
    lines.say(f"wrote {counted(count, 'entry', 'entries')} to {file}")


@quarantine.command(
    "import",
    epilog="""\b
Examples:
  etl quarantine import rejects.jsonl
  etl quarantine import rejects.jsonl --from-job public.orders
""",
)
@options.config
@click.option(
    "--from-job",
    metavar="NAME",
    help="Import a file that the job NAME exported. Without it, a file of another job is refused.",
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def quarantine_import(config_path: Path, from_job: str | None, file: Path) -> None:
    """Add the entries of an exported FILE to the job's quarantine.

    Skips entries whose messages this job has handled or quarantined before. Needs the keyring.
    """
    settings = options.load_settings(config_path)
    from etl.operations.transfer import import_entries

    engine, keyring = options.open_with_keys(settings, record=True)
    new, seen = import_entries(engine, keyring, settings, file, from_job)
    lines.say(f"imported {new:,} of {seen:,} entries")
