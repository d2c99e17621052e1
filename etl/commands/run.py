"""``run`` and ``runs``: drain the queue, and the history of the drains."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from etl.commands import options

if TYPE_CHECKING:
    from etl.sqs.limits import Stop


@click.command(
    epilog="""\b
Examples:
  python -m etl run
  python -m etl run --idle-seconds 5 --max-messages 100000 --json
  python -m etl run --dry-run --max-messages 100
  ETL_LOAD__METHOD=copy python -m etl run
"""
)
@options.config
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many seconds without a message.  [env var: ETL_RUN__IDLE_SECONDS; "
    "default: 30]",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    help="Stop after so many messages.  [env var: ETL_RUN__MAX_MESSAGES; default: no limit]",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after so many seconds.  [env var: ETL_RUN__MAX_SECONDS; default: no limit]",
)
@click.option(
    "--forever",
    is_flag=True,
    default=None,
    help="Keep waiting when the queue is idle, until SIGTERM or Ctrl-C.  [env var: "
    "ETL_RUN__FOREVER]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Drain with so many processes; more machines need only the same command.  [env var: "
    "ETL_RUN__WORKERS; default: 1]",
)
@click.option(
    "--dry-run",
    "only_look",
    is_flag=True,
    help="Receive, check, mask and show one batch (or --max-messages), release all of it, write "
    "nothing; needs no database.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON line.")
@click.pass_context
def run(
    context: click.Context,
    config_path: Path,
    idle_seconds: float | None,
    max_messages: int | None,
    max_seconds: float | None,
    forever: bool | None,
    workers: int | None,
    only_look: bool,
    as_json: bool,
) -> None:
    """Drain the queue into the database, once.

    SIGTERM or Ctrl-C ends the run in good order: the batch being loaded is finished, everything
    else is given back to the queue. A second one ends it at once; the messages come back by
    themselves.
    """
    settings = options.load_settings(
        config_path,
        {
            "run.idle_seconds": idle_seconds,
            "run.max_messages": max_messages,
            "run.max_seconds": max_seconds,
            "run.forever": forever,
            "run.workers": workers,
        },
    )
    from etl import job
    from etl.dry_run import dry_run
    from etl.terminal import output, progress
    from etl.worker import tune_interpreter

    tune_interpreter()
    with _signals() as stop:
        if only_look:
            trial = dry_run(settings, os.environ, stop=stop)
            summary = trial.summary
            if not as_json:
                output.frame(trial.masked, "first masked rows, as they would be loaded")
        else:
            summary = job.run(settings, os.environ, stop=stop, watch=progress.watch)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    else:
        output.summary(summary)
    context.exit(summary.exit_code)


@contextmanager
def _signals() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C ask for the stop; the second one takes its usual effect."""
    from etl.sqs.limits import Stop

    stop = Stop()

    def ask(number: int, _frame: object) -> None:
        stop.request(signal.Signals(number).name, give_back=True)
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    before = {each: signal.signal(each, ask) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@click.command(
    epilog="""\b
Example:
  python -m etl runs --limit 5
"""
)
@options.config
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
              help="Show so many runs, newest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def runs(config_path: Path, limit: int, as_json: bool) -> None:
    """Show the history of runs."""
    settings = options.load_settings(config_path)
    from etl.postgres.engine import open_engine
    from etl.runs import recent_runs
    from etl.terminal import output

    newest = recent_runs(open_engine(settings.database), limit)
    output.table(newest, "runs", as_json=as_json)
