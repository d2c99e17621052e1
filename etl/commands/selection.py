"""The options with which a command of the quarantine selects entries."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from etl.operations.entries import Selection

ENTRY_ID = click.IntRange(min=1)

_RUN_ID = re.compile("(?=.{4,36}$)[0-9a-f]{1,8}(-?[0-9a-f]{1,4}){0,3}(-?[0-9a-f]{1,12})?-?")


def _check_run_id(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> str | None:
    if text is not None and not _RUN_ID.fullmatch(text.lower()):
        raise click.BadParameter(f"{text!r} is not the id of a run, or its first 4 digits or more")
    return text and text.lower()


_OPTIONS = (
    click.option(
        "--run",
        "run_id",
        metavar="ID",
        callback=_check_run_id,
        help="Select entries of this run; the first characters of its id suffice.",
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
    job: str | None,
    run_id: str | None,
    check: str | None,
    older_than: float | None,
    newer_than: float | None,
    ids: tuple[int, ...] = (),
    *,
    samples: bool | None = False,
) -> Selection:
    """Make the selection from the values of the options.

    :param job: the name of the job; None selects entries of every job
    :param samples: select what a budget stop has kept to look at, and nothing else; None: too
    """
    from etl.operations.entries import Selection

    return Selection(ids, run_id, check, older_than, newer_than, job=job, samples=samples)


def check_selected(ids: tuple[int, ...], everything: bool, values: dict[str, Any]) -> None:
    """Check what was given to a command that must not work on all entries by mistake.

    :param values: the values of the options
    :raises click.UsageError: neither ids nor options nor --all are given, or --all and others
    """
    has_conditions = bool(ids) or any(value is not None for value in values.values())
    if has_conditions == everything:
        raise click.UsageError("say which entries: give IDs or options, or --all")
