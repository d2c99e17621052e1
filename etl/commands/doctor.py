"""``doctor``: what a run would meet, asked without a side effect."""

from __future__ import annotations

import os
from pathlib import Path

import click

from etl.commands import options
from etl.terminal import lines


@click.command(
    epilog="""\b
Examples:
  etl doctor
  etl doctor --offline
  etl doctor --tasks 8 --json
"""
)
@options.config
@click.option(
    "--offline",
    "is_offline",
    is_flag=True,
    help="Leave out what needs AWS or the database: check this machine, its libraries and its "
    "keyring.",
)
@click.option(
    "--tasks",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    show_default=True,
    help="Count the messages in flight for N runs at the same time, each with run.workers.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def doctor(
    context: click.Context, config_path: Path, is_offline: bool, tasks: int, as_json: bool
) -> None:
    """Check the environment, the keyring, the queue and the database.

    Nothing is received, stored or changed. Each line has a check, how it ended (ok, warn, fail or
    unknown), what was found, and below it what to do. A check that cannot be made is unknown. The
    exit code is 1 if a check has failed, which means that a run would fail or would lose something.
    """
    settings = options.load_settings(config_path)
    from etl.doctor.checkup import checkup, skipped_areas
    from etl.terminal import doctor_page

    found = []
    for result in checkup(settings, os.environ, is_offline=is_offline, tasks=tasks):
        found.append(result)
        if not as_json:
            doctor_page.show(result)
    skipped = skipped_areas(os.environ, is_offline=is_offline)
    if as_json:
        lines.json_line(doctor_page.as_json(found, skipped))
    else:
        doctor_page.show_summary(found, skipped)
    context.exit(doctor_page.exit_code(found))
