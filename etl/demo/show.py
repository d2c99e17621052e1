"""The demo of ``make run``: the real commands on an embedded SQS and an embedded Postgres."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from rich.console import Console

from etl.crypto.keyring import Keyring
from etl.demo import nights
from etl.demo.nights import call
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import EmbeddedError
from etl.postgres.engine import driver_url
from etl.terminal import output
from etl.text import counted

FOLDER = Path(".embedded")
QUEUE = "logins"

# SQS may deliver a message again even after it was deleted. The embedded one does so on purpose, to
# show what the ledger is for.
REDELIVER_FRACTION = 0.01

# Shorter than for a scheduled job, so that the demo ends soon.
IDLE_SECONDS = 1
WAIT_SECONDS = 1

# Of the first demo's events, which the README and the notebooks show. A later one sends other
# events: the same ones sent again would all be duplicates, and hide those that are worth finding.
FIRST_SEED = 1
LATER_SEEDS = 100

# A quarter of the messages, so that the first redeliveries arrive while the job is still running.
BATCH_ROWS = 2_500

TABLES = (
    (
        "the most frequent reasons of the quarantine, where bodies are encrypted",
        """select reason ->> 'column' as "column", reason ->> 'check' as "check",
                  count(*) as messages
           from etl.quarantine, jsonb_array_elements(reasons) as reason
           group by 1, 2 order by 3 desc, 1, 2 limit 8""",
    ),
    ("five rows of user_logins", "select * from user_logins limit 5"),
    (
        "the three devices shared by the most users",
        """select masked_device_id, count(distinct user_id) as users, count(*) as logins
           from user_logins group by 1 order by 2 desc, 3 desc limit 3""",
    ),
)


def show_demo(messages: int, *, serve: bool, notebook: bool, week: bool) -> None:
    """Run the demo; ``etl demo --help`` describes the options.

    :raises EmbeddedError: a service did not start, or a command failed
    """
    out = output.console()
    with _services() as (environment, engine):
        earlier_runs = _count_runs(engine)
        if week or notebook:
            _load_week(out, environment, engine)
        if notebook:
            if not earlier_runs:
                _show_job(out, environment, engine, messages, FIRST_SEED)
            _open_jupyter(environment)
            return
        seed = LATER_SEEDS + earlier_runs if earlier_runs else FIRST_SEED
        _show_job(out, environment, engine, messages, seed)
        if earlier_runs:
            _name_earlier_runs(out, earlier_runs)
        _show_tables(engine)
        _show_next(out)
        if serve:
            _serve(out, environment)


@contextmanager
def _services() -> Iterator[tuple[dict[str, str], sa.Engine]]:
    FOLDER.mkdir(exist_ok=True)
    keyring = _keyring()
    with (
        EmbeddedPostgres(FOLDER / "postgres") as postgres,
        EmbeddedSqs(redeliver_fraction=REDELIVER_FRACTION) as sqs,
    ):
        url = sqs.create_queue(QUEUE)
        environment = {
            **postgres.environment,
            **sqs.environment,
            "ETL_QUEUE__URL": url,
            "ETL_QUEUE__WAIT_SECONDS": str(WAIT_SECONDS),
            "ETL_BATCH__ROWS": str(BATCH_ROWS),
            "ETL_KEYRING_FILE": str(keyring.absolute()),
        }
        engine = sa.create_engine(driver_url(postgres.url))
        try:
            yield environment, engine
        finally:
            engine.dispose()


def _keyring() -> Path:
    """Make the demo's keyring once, so that two demos give equal tokens; return its path.

    It protects only made-up data.

    :raises EmbeddedError: it is gone, and the demo's database with its tokens is still there
    """
    path = FOLDER / "keyring.json"
    if not path.exists():
        if (FOLDER / "postgres").exists():
            raise EmbeddedError(
                f"{str(path)!r} is gone, and the demo's database needs it; to start anew, delete "
                f"the folder {str(FOLDER)!r}"
            )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            # A short id, as in the README and the notebooks; nobody has a second demo's key.
            file.write(Keyring.new("k1").dump())
    return path


def _count_runs(engine: sa.Engine) -> int:
    """Return the number of runs that the database records."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("runs", schema="etl"):
            return 0
        return int(connection.execute(sa.text("select count(*) from etl.runs")).scalar_one())


def _show_job(
    out: Console, environment: Mapping[str, str], engine: sa.Engine, messages: int, seed: int
) -> None:
    with engine.connect() as connection:
        version = connection.execute(sa.text("show server_version")).scalar_one()
    out.print(
        f"[bold]started[/] an embedded Postgres {version} and an embedded SQS with a dead-letter "
        "queue"
    )
    _show_call(out, environment, "send", "--sample", str(messages), "--seed", str(seed))
    printed = _show_call(out, environment, "run", "--idle-seconds", str(IDLE_SECONDS), "--json")
    _show_summary(out, json.loads(printed))


def _name_earlier_runs(out: Console, earlier_runs: int) -> None:
    runs = counted(earlier_runs, "earlier run")
    out.print(
        f"\nThe database has the rows of {runs} too, and the tables below count them. To start\n"
        f"anew, delete the folder {FOLDER}."
    )


def _show_call(out: Console, environment: Mapping[str, str], *arguments: str) -> str:
    """Print a command, run it, and return what it printed."""
    out.print(f"[bold]$ etl {' '.join(arguments)}[/]")
    return call(environment, *arguments)


def _load_week(out: Console, environment: Mapping[str, str], engine: sa.Engine) -> None:
    missing = nights.missing(engine)
    if missing:
        out.print(
            f"[bold]loading[/] {counted(len(missing), 'night')} of made-up events, some with faults"
        )
        nights.load(environment, missing)


def _show_summary(out: Console, summary: Mapping[str, float]) -> None:
    out.print("\n[bold]every delivery accounted for[/]")
    counts = ("received", "loaded", "already_handled", "quarantined", "released")
    for sign, name in zip(" =+++", counts, strict=True):
        out.print(f"  {sign} {name.replace('_', ' '):<16}{summary[name]:>8,}")
    rate = summary["received"] / summary["work_seconds"]
    out.print(
        f"\n{summary['work_seconds']:.1f} s of work: {rate:,.0f} messages/s, with an SQS in Python "
        "on the same cores\n(without it: bench/RESULTS.md). The other "
        f"{summary['seconds'] - summary['work_seconds']:.1f} s are checks, and waiting for\n"
        "the queue to stay empty.\n"
        "\nSQS may deliver a message again even after it was deleted. Here it did so\n"
        f"{counted(int(summary['already_handled']), 'time')}; the ledger knew the ids, so nothing "
        "was loaded twice.\n"
    )


def _show_tables(engine: sa.Engine) -> None:
    for title, statement in TABLES:
        with engine.connect() as connection:
            rows = pd.read_sql(sa.text(statement), connection)
        output.frame(rows, title)


def _show_next(out: Console) -> None:
    out.print(
        "[bold]next[/]\n"
        "  make notebook                 explore this data in Jupyter\n"
        "  .venv/bin/etl demo --serve    keep the services running after the demo\n"
        "  .venv/bin/etl run --help      show the options of the job\n"
        "  make test                     run the tests"
    )


def _serve(out: Console, environment: Mapping[str, str]) -> None:
    out.print("\n[bold]the services run until Ctrl-C[/]; in a second terminal, in this folder:\n")
    for name, value in sorted(environment.items()):
        out.print(f"  export {name}='{value}'", soft_wrap=True)
    out.print("\n  .venv/bin/etl history\n  .venv/bin/etl quarantine list")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _open_jupyter(environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", "notebooks"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    # So that a notebook in any folder can import etl.
    environment = {**os.environ, **environment, "PYTHONPATH": str(Path.cwd())}
    # Jupyter handles Ctrl-C: it asks for confirmation and then ends. SIGTERM is passed on to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command, env=environment) as jupyter:
        signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
        jupyter.wait()
