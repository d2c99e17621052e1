"""What ``make run`` runs: the real commands, on an embedded queue and an embedded database."""

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
from etl.postgres.engine import driver_url
from etl.terminal import output

FOLDER = Path(".embedded")
QUEUE = "logins"

# SQS may deliver a message again even after it was deleted; the embedded one does so on purpose, so
# that there is something for the ledger to do.
REDELIVER_FRACTION = 0.01

# Short, so that the demo ends soon; a scheduled job has more patience.
IDLE_SECONDS, WAIT_SECONDS = 3, 1

# A quarter of the demo, so that redeliveries of the first batches still find the job running.
BATCH_ROWS = 2_500


def show_demo(messages: int, *, serve: bool, notebook: bool, week: bool) -> None:
    """Show the whole job; see ``python -m etl demo --help``.

    :raises EmbeddedError: a service did not start, or the job failed
    """
    out = output.console()
    with _services() as (environment, engine):
        if notebook:
            fresh = _runs(engine) == 0
            _load_week(out, environment, engine)
            if fresh:
                _show_job(out, environment, engine, messages)
            _open_jupyter(environment)
            return
        if week:
            _load_week(out, environment, engine)
        _show_job(out, environment, engine, messages)
        _show_tables(out, engine)
        _show_next(out)
        if serve:
            _serve(out, environment)


@contextmanager
def _services() -> Iterator[tuple[dict[str, str], sa.Engine]]:
    FOLDER.mkdir(exist_ok=True)
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
            "ETL_KEYRING_FILE": str(_keyring().absolute()),
        }
        engine = sa.create_engine(driver_url(postgres.url))
        try:
            yield environment, engine
        finally:
            engine.dispose()


def _keyring() -> Path:
    """The demo's own key, kept so that tokens of two demos match. It guards made-up data only."""
    path = FOLDER / "keyring.json"
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(Keyring.new().dump())
    return path


def _runs(engine: sa.Engine) -> int:
    """How many runs the kept database has seen."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("runs", schema="etl"):
            return 0
        return int(connection.execute(sa.text("select count(*) from etl.runs")).scalar_one())


def _show_job(
    out: Console, environment: Mapping[str, str], engine: sa.Engine, messages: int
) -> None:
    earlier = _runs(engine)
    with engine.connect() as connection:
        version = connection.execute(sa.text("show server_version")).scalar_one()
    out.print(f"[bold]services[/] Postgres {version} and SQS, embedded, with a dead-letter queue")
    # The seed does not change: a second demo sends the same events again.
    command = ["send", "--sample", str(messages), "--seed", "1"]
    out.print(f"[bold]$ python -m etl {' '.join(command)}[/]")
    call(environment, *command)
    command = ["run", "--idle-seconds", str(IDLE_SECONDS), "--json"]
    out.print(f"[bold]$ python -m etl {' '.join(command)}[/]")
    summary = json.loads(call(environment, *command))
    _show_summary(out, summary)
    if earlier:
        out.print(
            f"\nThis database has seen {earlier} earlier run{'s' if earlier > 1 else ''}. The same "
            "events were sent again as new messages,\nso they were loaded again: the ledger drops "
            "a message that SQS delivers twice, not an\nevent that a producer sends twice. Those "
            "are duplicates, and for the analyst to find."
        )


def _load_week(out: Console, environment: Mapping[str, str], engine: sa.Engine) -> None:
    missing = nights.missing(engine)
    if missing:
        out.print(f"[bold]a week[/] {len(missing)} made-up nights, some with faults")
        nights.load(environment, missing)


def _show_summary(out: Console, summary: Mapping[str, int]) -> None:
    rate = summary["received"] / summary["seconds"]
    out.print(
        f"\n[bold]reconciliation[/] by delivery, {summary['seconds']:.1f} s, {rate:,.0f} messages/s"
    )
    parts = ("received", "loaded", "already_handled", "quarantined", "released")
    for sign, part in zip(" =+++", parts, strict=True):
        out.print(f"  {sign} {part.replace('_', ' '):<16}{summary[part]:>8,}")
    out.print(
        f"\n{summary['already_handled']:,} times SQS delivered a message again that had been "
        "deleted, as it may;\nthe ledger knew the ids, so nothing was loaded twice."
    )


def _show_tables(out: Console, engine: sa.Engine) -> None:
    for title, statement in (
        (
            "quarantine by reason (bodies are sealed)",
            """select reason ->> 'column' as "column", reason ->> 'check' as "check",
                      count(*) as messages
               from etl.quarantine, jsonb_array_elements(reasons) as reason
               group by 1, 2 order by 3 desc, 1, 2""",
        ),
        ("five rows of user_logins", "select * from user_logins limit 5"),
        (
            "the three most shared devices",
            """select masked_device_id, count(distinct user_id) as users, count(*) as logins
               from user_logins group by 1 order by 2 desc, 3 desc limit 3""",
        ),
    ):
        with engine.connect() as connection:
            rows = pd.read_sql(sa.text(statement), connection)
        out.print()
        output.frame(rows, title)


def _show_next(out: Console) -> None:
    out.print(
        "[bold]next[/]\n"
        "  make notebook                             explore this data in Jupyter\n"
        "  .venv/bin/python -m etl demo --serve      keep the services up, for a second terminal\n"
        "  .venv/bin/python -m etl run --help        the job and its options\n"
        "  make test                                 the proof"
    )


def _serve(out: Console, environment: Mapping[str, str]) -> None:
    out.print("\n[bold]serving until Ctrl-C[/]; in a second terminal, in this folder:\n")
    for name, value in sorted(environment.items()):
        out.print(f"  export {name}='{value}'", soft_wrap=True)
    out.print("\n  .venv/bin/python -m etl history\n  .venv/bin/python -m etl quarantine list")
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    ended.wait()


def _open_jupyter(environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", "notebooks"]
    if os.geteuid() == 0:
        command.append("--allow-root")
    # Notebooks made in any folder can import etl.
    environment = {**os.environ, **environment, "PYTHONPATH": str(Path.cwd())}
    # Ctrl-C is Jupyter's: it asks back, and ends by itself. A SIGTERM we pass on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with subprocess.Popen(command, env=environment) as jupyter:
        signal.signal(signal.SIGTERM, lambda *_: jupyter.terminate())
        jupyter.wait()
