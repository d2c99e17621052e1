"""The options with which a command of the quarantine selects entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from etl.errors import UsageError
from etl.terminal import lines

if TYPE_CHECKING:
    import sqlalchemy as sa

    from etl.config import Settings
    from etl.operations.entries import Selection

ENTRY_ID = click.IntRange(min=1)


def _run(_context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Check a run's id before the command reads its configuration."""
    if text is None:
        return None
    from etl.operations.run_ids import read_run_id

    try:
        return read_run_id(text)
    except UsageError as error:
        raise click.BadParameter(str(error), param=parameter) from None


_OPTIONS = (
    click.option(
        "--run",
        "run_id",
        metavar="RUN",
        callback=_run,
        help="Select entries of this run, given by its id or the beginning of it.",
    ),
    click.option(
        "--check",
        help="Select entries that failed this check, given as CHECK or 'COLUMN: CHECK'.",
    ),
    click.option(
        "--older-than",
        type=click.FloatRange(min=0),
        metavar="DAYS",
        help="Select entries quarantined more than this many days ago.",
    ),
    click.option(
        "--newer-than",
        type=click.FloatRange(min=0),
        metavar="DAYS",
        help="Select entries quarantined within this many days.",
    ),
)


def conditions(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that select entries."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def samples(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --samples."""
    return click.option(
        "--samples",
        is_flag=True,
        help="Select what was kept to look at when quarantine.max_fraction stopped a run.",
    )(command)


def ids_or_all(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ids of entries as arguments, and the option --all."""
    everything = click.option(
        "--all", "everything", is_flag=True, help="Select every entry of the job."
    )
    return click.argument("ids", metavar="[ID]...", nargs=-1, type=ENTRY_ID)(everything(command))


def from_options(
    engine: sa.Engine,
    settings: Settings,
    run_id: str | None,
    check: str | None,
    older_than: float | None,
    newer_than: float | None,
    ids: tuple[int, ...] = (),
    *,
    samples: bool | None = False,
    all_jobs: bool = False,
) -> Selection:
    """Make the selection from the values of the options.

    :param samples: select what a budget stop has kept to look at, and nothing else; None: too
    :param all_jobs: select entries of every job
    :raises UsageError: the run does not exist, or the beginning of its id fits several; or the
        check is nearly one that exists
    """
    from etl.operations.check_names import check_is_known
    from etl.operations.entries import Selection
    from etl.operations.run_ids import find_run

    job = None if all_jobs else settings.job_name
    run = find_run(engine, run_id, job, of_entries=True) if run_id else None
    if check is not None and not check_is_known(engine, settings, check):
        lines.say(f"no entry has ever failed a check {check!r}; see: etl quarantine list")
    return Selection(ids, run, check, older_than, newer_than, job=job, samples=samples)


def check_selected(ids: tuple[int, ...], everything: bool, values: dict[str, Any]) -> None:
    """Check what was given to a command that must not work on all entries by mistake.

    :param values: the values of the options
    :raises click.UsageError: neither ids nor options nor --all are given, or --all and others
    """
    has_conditions = bool(ids) or any(value is not None for value in values.values())
    if has_conditions == everything:
        raise click.UsageError("say which entries: give IDs or options, or --all")
