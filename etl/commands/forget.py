"""``forget``: remove a person's rows and quarantined messages."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options, values
from etl.commands.groups import ValueCommand
from etl.terminal import lines
from etl.text import counted

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.operations.forget import Matches, Search


@click.command(
    cls=ValueCommand,
    epilog="""\b
Examples:
  etl forget --column ip
  etl forget - --column ip --yes --reason "request 4711" < value.txt
  etl forget --column device_id --null --yes
""",
)
@options.config
@options.value_and_column
@click.option(
    "--table",
    "table_name",
    metavar="NAME",
    help="Look for rows in this table only, of a job with several.  [default: every table that "
    "masks the field]",
)
@click.option("--yes", is_flag=True, help="Make the change; without this option, only count.")
@click.option("--null", is_flag=True, help="Set the column to null instead of deleting the rows.")
@options.reason(default="erasure request")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as one JSON line.")
def forget(
    config_path: Path,
    value: str | None,
    column: str,
    quoted: bool,
    table_name: str | None,
    yes: bool,
    null: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Delete the job's rows and quarantined messages with VALUE.

    Rows are found under every key of the keyring, and also if VALUE is anywhere in a column of JSON
    or a list of text. Quarantined messages with VALUE anywhere in them lose their bodies and stay
    as tombstones. Spaces, quotes and invisible characters around VALUE may be part of it or not:
    both are searched for.

    All changes are made in one transaction together with a row in etl.unmask_audit. Exit code 1
    means that no key in this keyring opens some rows or messages, so they were not searched; 2
    means that no row can hold VALUE, and no quarantined message has it.
    """
    settings = options.load_settings(config_path)
    from etl.operations.forget import Search, find_value, forget_value
    from etl.operations.masked_places import masked_places

    wanted = settings if table_name is None else settings.of_table(table_name)
    places = masked_places(wanted, column)
    text = values.read_value(value, quoted=quoted)
    engine, keyring = options.open_with_keys(settings)
    first, *others = (
        Search(engine, place.settings, keyring, place.column, text, exact=quoted)
        for place in places
    )
    search = replace(first, others=tuple(others))
    if yes:
        matches = forget_value(search, "null" if null else "delete", reason)
    else:
        matches = find_value(search)
    with lines.output_may_be_lost("the count of what was changed") if yes else nullcontext():
        if as_json:
            counts = {"rows": matches.rows, "rows_within": matches.within}
            lines.json_line({**counts, "quarantined": len(matches.entries), "done": yes})
        else:
            _print_counts(matches, yes=yes, null=null)
    _print_places(search, matches)
    _name_other_tables(search, settings)
    _name_earlier_columns(search, settings)
    _name_other_jobs(search)
    _check_all_compared(search, matches)


def _print_counts(matches: Matches, *, yes: bool, null: bool) -> None:
    rows = counted(matches.rows, "row")
    messages = counted(len(matches.entries), "quarantined message")
    if not yes:
        lines.line(f"found {rows} and {messages} with this value")
        lines.say("nothing was changed; add --yes to make the change")
    elif null:
        lines.line(f"set the column to null in {rows} and closed {messages} that had this value")
    else:
        lines.line(f"deleted {rows} and closed {messages} that had this value")
    if matches.within:
        others = counted(matches.within, "other row")
        if not yes:
            lines.line(f"found {others} with it within JSON or a list")
        else:
            did = "set that to null in" if null else "deleted"
            lines.line(f"{did} {others} that had it within JSON or a list")


def _print_places(search: Search, matches: Matches) -> None:
    """Say what was searched, so that nobody takes an answer of 0 for more than it is."""
    from etl.operations.within_columns import searched_columns

    where = counted(matches.searched, "open quarantined message")
    for in_table in search.each:
        if names := [column.name for column in searched_columns(in_table.settings.table)]:
            of_table = f" of {in_table.place}" if search.others else ""
            where += f", and within columns {', '.join(map(repr, names))}{of_table}"
    refusals = {in_table.place: in_table.refusal for in_table in search.each}
    tables = [place for place, refusal in refusals.items() if refusal is None]
    if tables:
        lines.say(f"looked in {', '.join(tables)} and in {where}")
    else:
        lines.say(f"looked in {where} only: {search.refusal}")
    for place, refusal in refusals.items():
        if refusal and tables:
            lines.say(f"not in {place}: {refusal}")
    values.say_spellings(len(search.spellings))


def _name_other_tables(search: Search, settings: Settings) -> None:
    """Name the tables that hold something of the same field and were not searched."""
    from etl.operations.masked_places import other_tables, tables_without_tokens

    source = search.column.source
    searched = [in_table.settings.table.full_name for in_table in search.each]
    if others := other_tables(settings, source, searched):
        lines.say(
            f"other tables of this job mask {source!r} and were not searched; leave --table out to "
            f"search them too: {', '.join(others)}"
        )
    if partial := tables_without_tokens(settings, source):
        lines.say(
            f"these tables hold a part of {source!r} only, so no row is found by its value: "
            f"{', '.join(partial)}"
        )


def _name_earlier_columns(search: Search, settings: Settings) -> None:
    from etl.postgres.jobs import earlier_columns

    if names := earlier_columns(search.engine, settings):
        lines.say(
            "this job masked these columns under an earlier configuration; repeat this with that "
            f"one, because they were not searched: {', '.join(names)}"
        )


def _name_other_jobs(search: Search) -> None:
    from etl.postgres.jobs import other_jobs

    if names := other_jobs(search.engine, search.settings.job_name):
        others = ", ".join(map(repr, names))
        lines.say(
            "other jobs of this database were not searched, so repeat this with the configuration "
            f"of each: {others}"
        )


def _check_all_compared(search: Search, matches: Matches) -> None:
    from etl.analysis.key_usage import incomparable, key_usage
    from etl.errors import UnmaskError
    from etl.operations.lookup import key_ids

    rows = sum(
        incomparable(
            key_usage(in_table.engine, in_table.settings.table),
            in_table.column,
            key_ids(in_table.column, in_table.keyring),
        )
        for in_table in search.each
    )
    if rows or matches.unopened:
        raise UnmaskError(
            f"not searched, because no key in this keyring opens them: {counted(rows, 'row')} and "
            f"{counted(len(matches.unopened), 'quarantined message')}; see: etl keys list"
        )
