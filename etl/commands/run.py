"""``run`` and ``history``: drain the queue, and list the earlier runs."""

from __future__ import annotations

import os
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.commands import options
from etl.terminal import lines

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.dry_run import DryRun
    from etl.sqs.limits import Stop
    from etl.workers.fork_server import ForkServer


# Of the history; in a narrow terminal the last of them are left out.
IMPORTANCE = (
    *("run_id", "started_at", "state", "stop_reason", "loaded", "quarantined", "received"),
    *("already_handled", "released", "command", "job", "finished_at"),
)


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
    help="Stop when SQS has answered for this long that there is no message.  [env var: "
    "ETL_RUN__IDLE_SECONDS; default: 30]",
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
    help="Begin no batch after this long; a batch in progress is finished, and the rest is "
    "released.  [env var: ETL_RUN__MAX_SECONDS; default: no limit]",
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
    "rows; release everything. Loads nothing and needs no database, but each look uses one of the "
    "receives after which SQS moves a message to the dead-letter queue (maxReceiveCount).",
)
@click.option(
    "--use-last-receives",
    is_flag=True,
    help="With --dry-run, look also at messages that are left with fewer than two receives.",
)
@options.wide
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON line.")
@click.pass_context
def run(
    context: click.Context,
    /,
    config_path: Path,
    dry_run: bool,
    use_last_receives: bool,
    wide: bool,
    as_json: bool,
    **limits: Any,
) -> None:
    """Drain the queue into the database, once.

    SIGTERM, Ctrl-C or a closed terminal ends the run cleanly: the batch that is being loaded
    is finished, and everything else is released. A second signal ends the run at once, also
    during the release; its messages come back after the queue's visibility timeout.
    """
    if use_last_receives and not dry_run:
        raise click.UsageError("--use-last-receives goes with --dry-run")
    _check_options(dry_run=dry_run, **limits)
    if limits["idle_seconds"] is not None:
        limits["forever"] = False  # whatever the configuration says
    settings = options.load_settings(
        config_path, {f"run.{name}": value for name, value in limits.items()}
    )
    from etl import job
    from etl.commands.signals import stop_on_signals
    from etl.terminal import progress
    from etl.terminal.summary import print_summary
    from etl.workers.interpreter import tune_interpreter

    tune_interpreter()
    # First what forks workers, and then the first thread, which handles the signals.
    has_workers = settings.run.workers > 1 and not dry_run
    with (
        _fork_server(settings) if has_workers else nullcontext() as server,
        stop_on_signals() as stop,
    ):
        if dry_run:
            trial = _try_a_batch(settings, stop, use_last_receives)
            if not as_json:
                _print_rows(trial, has_several=len(settings.tables) > 1, wide=wide)
            summary = trial.summary
        else:
            summary = job.run(settings, os.environ, stop=stop, watch=progress.watch, server=server)
    with lines.output_may_be_lost("the summary"):
        if as_json:
            lines.json_line(summary.as_dict())
        else:
            print_summary(summary)
    context.exit(summary.exit_code)


def _check_options(*, dry_run: bool, **limits: Any) -> None:
    """Refuse options that contradict each other."""
    if limits["forever"] and limits["idle_seconds"] is not None:
        raise click.UsageError("--forever and --idle-seconds contradict each other: give one")
    if limits["forever"] and dry_run:
        raise click.UsageError("--forever and --dry-run contradict each other: give one")
    if limits["workers"] is not None and dry_run:
        raise click.UsageError("--workers has no meaning in a --dry-run, which runs by itself")


def _fork_server(settings: Settings) -> closing[ForkServer]:
    import etl.aws.access  # noqa: F401  (for the workers to share)
    from etl import job

    return closing(job.open_fork_server(settings, os.environ, is_fork=True))


def _try_a_batch(settings: Settings, stop: Stop, use_last_receives: bool) -> DryRun:
    from etl.dry_run import dry_run

    return dry_run(settings, os.environ, stop=stop, use_last_receives=use_last_receives)


def _print_rows(trial: DryRun, *, has_several: bool, wide: bool) -> None:
    from etl.terminal import output

    title = "first masked rows, as they would be loaded"
    frames = {title: trial.masked}
    if has_several:
        frames = {f"{table}: {title}": rows for table, rows in trial.by_table.items()}
    with lines.output_may_be_lost("what the dry run shows"):
        output.say_what_is_missing(
            output.frame(rows.drop(columns="message_id", errors="ignore"), heading, wide=wide)
            for heading, rows in frames.items()
        )


@click.command(
    epilog="""\b
Examples:
  etl history
  etl history 3d7c
  etl history --limit 5 --json
  etl history --all-jobs
"""
)
@options.config
@options.limit(20, "Show N runs, newest first.")
@options.all_jobs
@options.wide
@options.json_lines
@click.argument("run_id", metavar="[RUN]", required=False)
def history(
    config_path: Path, limit: int, all_jobs: bool, wide: bool, as_json: bool, run_id: str | None
) -> None:
    """Show what earlier runs of this job did, and why they stopped.

    With RUN, the beginning of a run's id, show that run whole: why it stopped, the checks
    that its messages failed, and what to do next.
    """
    settings = options.load_settings(config_path)
    from etl.analysis.history import read_run, recent_runs
    from etl.operations.run_ids import find_run
    from etl.postgres.engine import open_engine
    from etl.terminal import output, run_page

    engine = open_engine(settings.database)
    if run_id is not None:
        record = read_run(engine, find_run(engine, run_id, settings.job_name))
        if as_json:
            lines.json_line(run_page.as_json(record))
        else:
            run_page.show(record)
        return
    job = None if all_jobs else settings.job_name
    newest = recent_runs(engine, limit, job)
    importance = ("job", *IMPORTANCE) if all_jobs else IMPORTANCE
    output.table(newest, "runs", as_json=as_json, wide=wide, importance=importance)
