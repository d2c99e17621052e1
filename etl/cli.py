"""The commands: help, options, exit codes. Objects are built from settings here and in job.py only.

Nothing heavy is imported at the top: ``--help`` answers before pandas would have loaded.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from etl import __version__
from etl.errors import EtlError, SettingsError, UnmaskError

if TYPE_CHECKING:
    from etl.config import Settings
    from etl.receiver import Stop

EXIT_CODES = """\b
Exit codes:
  0  done
  1  stopped; everything not loaded is still in the queue
  2  wrong usage or configuration; nothing was received
  3  too much was quarantined (quarantine.max_fraction)
"""


def start() -> None:
    """Run the command line; turn errors into one line and an exit code."""
    from etl import logs

    logs.hide_values_in_tracebacks()
    try:
        main(standalone_mode=True)
    except EtlError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"""{EXIT_CODES}
\b
Examples:
  python -m etl keys new > keyring.json && chmod 600 keyring.json
  export ETL_KEYRING_FILE=keyring.json DATABASE_URL=postgresql://etl@localhost/etl
  export ETL_QUEUE__URL=https://sqs.eu-west-1.amazonaws.com/123456789012/logins
  python -m etl run --dry-run
  python -m etl run
""",
)
@click.version_option(__version__, prog_name="etl")
def main() -> None:
    """Move JSON events from Amazon SQS to Postgres, with the personal columns masked.

    Settings stand in config.yaml; ETL_SECTION__KEY in the environment overrides them. Secrets come
    from the environment only: DATABASE_URL, one of ETL_KEYRING, ETL_KEYRING_FILE and
    ETL_KEYRING_SECRET, and the AWS variables.
    """


def _config(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("config.yaml"),
        show_default=True,
        envvar="ETL_CONFIG",
        show_envvar=True,
        help="Read settings from this file.",
    )(command)


def _settings(config_path: Path, overrides: dict[str, Any] | None = None) -> Settings:
    from etl import config, logs

    settings = config.load(config_path, os.environ, overrides)
    logs.start(settings.log.level, settings.log.format)
    return settings


@main.command(
    epilog="""\b
Examples:
  python -m etl run
  python -m etl run --idle-seconds 5 --max-messages 100000 --json
  python -m etl run --dry-run --max-messages 100
  ETL_LOAD__METHOD=copy python -m etl run
"""
)
@_config
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
    dry_run: bool,
    as_json: bool,
) -> None:
    """Drain the queue into the database, once.

    SIGTERM or Ctrl-C ends the run in good order: the batch being loaded is finished, everything
    else is given back to the queue. A second one ends it at once; the messages come back by
    themselves.
    """
    settings = _settings(
        config_path,
        {
            "run.idle_seconds": idle_seconds,
            "run.max_messages": max_messages,
            "run.max_seconds": max_seconds,
            "run.forever": forever,
            "run.workers": workers,
        },
    )
    from etl import dryrun, job, present, progress

    with _signals() as stop:
        if dry_run:
            trial = dryrun.dry_run(settings, os.environ, stop=stop)
            summary = trial.summary
            if not as_json:
                present.frame(trial.masked, "first masked rows, as they would be loaded")
        else:
            summary = job.run(settings, os.environ, stop=stop, watch=progress.watch)
    if as_json:
        click.echo(json.dumps(summary.as_dict()))
    else:
        present.summary(summary)
    context.exit(summary.exit_code)


@contextmanager
def _signals() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C ask for the stop; the second one takes its usual effect."""
    from etl.receiver import Stop

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


@main.command(
    epilog="""\b
Example:
  python -m etl init
"""
)
@_config
def init(config_path: Path) -> None:
    """Create the tables that are absent: schema etl, and the target table.

    A target table that is there stays as it is, and is checked against the configuration.
    """
    settings = _settings(config_path)
    from etl import postgres

    engine = postgres.engine(settings.database)
    postgres.create_tables(engine, settings.table)
    postgres.check_tables(engine, settings.table)
    click.echo(
        f"ready: {settings.table.schema_name}.{settings.table.name}, etl.ledger, etl.quarantine, "
        "etl.runs",
        err=True,
    )


@main.command(
    epilog="""\b
Examples:
  python -m etl send events.jsonl
  python -m etl send --sample 10000 --seed 7
"""
)
@_config
@click.argument("file", type=click.File(encoding="utf-8"), required=False)
@click.option("--sample", type=click.IntRange(min=1), help="Send so many made-up login events.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the made-up events.")
@click.option(
    "--bad-share",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Share of made-up events that break a check.",
)
def send(config_path: Path, file: Any, sample: int | None, seed: int, bad_share: float) -> None:
    """Send messages to the queue: a FILE with one body a line, or a sample.

    Blank lines are skipped.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("give either FILE or --sample N")
    settings = _settings(config_path)
    from etl import present, samples, sending
    from etl.sqs import open_queue

    if sample is not None:
        bodies: Iterator[str] = samples.bodies(sample, seed, bad_share=bad_share)
    else:
        bodies = (line for raw in file if (line := raw.rstrip("\n")).strip())
    queue = open_queue(settings.queue)
    sent, refused = sending.send(
        queue, present.track(bodies, "sending", sample), settings.queue.receivers
    )
    click.echo(f"sent {sent:,} messages", err=True)
    if refused:
        first = ", ".join(map(str, refused[:10]))
        raise EtlError(f"SQS did not take {len(refused)} messages: number {first}")


@main.group()
def keys() -> None:
    """Make keys."""


@keys.command(
    "new",
    epilog="""\b
Example:
  (umask 077 && python -m etl keys new > keyring.json)
  export ETL_KEYRING_FILE=keyring.json
""",
)
@click.option(
    "--key-id", default="k1", show_default=True, help="Id of the key; part of each token."
)
def keys_new(key_id: str) -> None:
    """Print a fresh keyring with one random key on standard output. Writes no file."""
    from etl.keyring import Keyring

    click.echo(Keyring.new(key_id).dump())
    click.echo(
        "keep this where only the job and key holders can read it, with a copy apart from the "
        "database: without the key no token can be recovered",
        err=True,
    )


@main.command(
    epilog="""\b
Example:
  python -m etl unmask k1.Zm9vYmFy... --column ip
"""
)
@_config
@click.argument("tokens", nargs=-1, required=True, metavar="TOKEN...")
@click.option(
    "--column", help="Field the tokens were made from; by default each masked one is tried."
)
def unmask(config_path: Path, tokens: tuple[str, ...], column: str | None) -> None:
    """Recover the plain values of tokens, one a line on standard output. Needs the keyring."""
    settings = _settings(config_path)
    from etl import keyring, mask

    contexts = {c.source: c.masking_context for c in settings.table.columns if c.mask}
    if column is not None and column not in contexts:
        known = ", ".join(contexts)
        raise SettingsError(f"{column!r} is no masked field; masked are {known}")
    wanted = [contexts[column]] if column else list(dict.fromkeys(contexts.values()))
    ring = keyring.load(os.environ)
    # All or none: a half-printed list invites counting lines.
    plain = [
        _unmask_one(token, number, wanted, ring, mask) for number, token in enumerate(tokens, 1)
    ]
    for value in plain:
        click.echo(value)


def _unmask_one(token: str, number: int, contexts: list[str], ring: Any, mask: Any) -> str:
    for context in contexts:
        try:
            return str(mask.unmask(token, ring, context))
        except UnmaskError:
            continue
    raise UnmaskError(
        f"token {number} was not made by this keyring for this column, or was changed"
    )


@main.group()
def quarantine() -> None:
    """Look at messages that broke a check."""


@quarantine.command(
    "list",
    epilog="""\b
Example:
  python -m etl quarantine list
""",
)
@_config
@click.option("--run", "run_id", type=click.UUID, help="Of this run only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def quarantine_list(config_path: Path, run_id: UUID | None, as_json: bool) -> None:
    """Count the quarantined messages by reason. Bodies are never shown."""
    settings = _settings(config_path)
    from etl import postgres, present
    from etl import quarantine as stored

    reasons = stored.reasons(postgres.engine(settings.database), str(run_id) if run_id else None)
    present.table(reasons, "quarantine by reason", as_json=as_json)


@main.command(
    epilog="""\b
Example:
  python -m etl runs --limit 5
"""
)
@_config
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
              help="Show so many runs, newest first.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def runs(config_path: Path, limit: int, as_json: bool) -> None:
    """Show the history of runs."""
    settings = _settings(config_path)
    from etl import postgres, present
    from etl import runs as history

    present.table(
        history.history(postgres.engine(settings.database), limit), "runs", as_json=as_json
    )


@main.command(
    epilog="""\b
Examples:
  python -m etl demo
  python -m etl demo --serve
"""
)
@click.option("--messages", type=click.IntRange(min=100), default=10_000, show_default=True,
              help="Send so many sample events.")  # fmt: skip
@click.option("--serve", is_flag=True, help="Leave the services running, until Ctrl-C.")
@click.option("--notebook", is_flag=True, help="Open Jupyter on the embedded database.")
def demo(messages: int, serve: bool, notebook: bool) -> None:
    """Show the whole job on an embedded Postgres and an embedded SQS.

    Needs the development requirements. The data is made up and stays in .embedded/.
    """
    from etl.embedded.demo import run as show

    show(messages, serve=serve, notebook=notebook)
