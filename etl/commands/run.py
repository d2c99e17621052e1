"""``run`` and ``history``: drain the queue, and list the earlier runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.commands import options
from etl.terminal import lines

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.runs import Summary
    from etl.sqs.limits import Stop


@click.command(
    epilog="""\b
Examples:
  etl run
  etl run --idle-seconds 5 --max-messages 100000 --json
  etl run --dry-run --max-messages 100
  ETL_LOAD__METHOD=copy etl run
"""
)
@options.config
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop when no message has arrived for this long.  [env var: ETL_RUN__IDLE_SECONDS; "
    "default: 30]",
)
@click.option(
    "--max-messages",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after N messages.  [env var: ETL_RUN__MAX_MESSAGES; default: no limit]",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after this long.  [env var: ETL_RUN__MAX_SECONDS; default: no limit]",
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
    metavar="N",
    help="Drain the queue with N processes. To use more machines, run the same command on each.  "
    "[env var: ETL_RUN__WORKERS; default: 1]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Receive, check and mask one batch, or --max-messages messages; show the first masked "
    "rows; release everything. Writes nothing and needs no database, but each receive counts "
    "towards the queue's maxReceiveCount.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON line.")
@click.pass_context
def run(
    context: click.Context, /, config_path: Path, dry_run: bool, as_json: bool, **limits: Any
) -> None:
    """Drain the queue into the database, once.

    SIGTERM or Ctrl-C ends the run cleanly: the batch that is being loaded is finished, and
    everything else is released. A second signal ends the run at once; its messages come
    back after the queue's visibility timeout.
    """
    settings = options.load_settings(
        config_path, {f"run.{name}": value for name, value in limits.items()}
    )
    from etl.terminal import output
    from etl.worker import tune_interpreter

    tune_interpreter()
    with _stop_on_signals() as stop:
        if dry_run:
            summary = _try_a_batch(settings, stop, show_rows=not as_json)
        else:
            summary = _drain(settings, stop)
    if as_json:
        lines.json_line(summary.as_dict())
    else:
        output.summary(summary)
    context.exit(summary.exit_code)


def _drain(settings: Settings, stop: Stop) -> Summary:
    from etl import job
    from etl.terminal import progress

    return job.run(settings, os.environ, stop=stop, watch=progress.watch)


def _try_a_batch(settings: Settings, stop: Stop, *, show_rows: bool) -> Summary:
    from etl.dry_run import dry_run
    from etl.terminal import output

    trial = dry_run(settings, os.environ, stop=stop)
    if show_rows:
        output.frame(trial.masked, "first masked rows, as they would be loaded")
    return trial.summary


@contextmanager
def _stop_on_signals() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C request the stop; a second signal has its usual effect."""
    from etl.sqs.limits import Stop

    stop = Stop()

    def request_stop(number: int, _frame: object) -> None:
        stop.request(signal.Signals(number).name, release_rest=True)
        for caught in previous:
            signal.signal(caught, signal.SIG_DFL)

    previous = {
        number: signal.signal(number, request_stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@click.command(
    epilog="""\b
Examples:
  etl history
  etl history --limit 5 --json
"""
)
@options.config
@options.limit(20, "Show N runs, newest first.")
@options.json_lines
def history(config_path: Path, limit: int, as_json: bool) -> None:
    """Show what earlier runs did, and why they stopped."""
    settings = options.load_settings(config_path)
    from etl.postgres.engine import open_engine
    from etl.runs import recent_runs
    from etl.terminal import output

    newest = recent_runs(open_engine(settings.database), limit)
    output.table(newest, "runs", as_json=as_json)
