"""Rows per second that rekey masks again, and that the database alone would update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa

from bench import markdown, messages, paired_runs, services
from bench.services import Options, WorkNotDone
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.operations.rekey import MAX_BATCHES_AT_ONCE, rekey_database
from etl.postgres.engine import open_engine
from etl.postgres.insertion import copy_rows

ROWS, QUICK_ROWS = 300_000, 2_000
STORED = "rows_of_the_old_key"

REKEY = "rekey"
UPDATE = "update of one masked column"
BOTH = "update of both masked columns"
STATEMENTS = {
    UPDATE: "update user_logins set masked_ip = masked_ip || ''",
    BOTH: "update user_logins set masked_ip = masked_ip || '', "
    "masked_device_id = masked_device_id || ''",
}


def measure(options: Options) -> dict[str, Any]:
    """Rekey the same rows and update them, in turns."""
    rows = options.messages or (QUICK_ROWS if options.quick else ROWS)
    with services.start(1) as running, running.database() as url:
        settings = running.settings(url)
        engine = open_engine(settings.database, MAX_BATCHES_AT_ONCE)
        _store(engine, rows, settings, running.keyring)
        rekey_all = partial(_rekey, settings, engine, running.keyring.with_new("k2"), rows)
        ways: dict[str, Callable[[], float]] = {REKEY: partial(_timed, engine, rekey_all)}
        for name, statement in STATEMENTS.items():
            ways[name] = partial(_timed, engine, partial(_execute, engine, statement))
        seconds = paired_runs.in_turns(ways, options.runs)
        engine.dispose()
    rates = {name: [rows / turn for turn in turns] for name, turns in seconds.items()}
    return {
        "rows": rows,
        "ratios": {"rekey.over_update": paired_runs.ratio(rates[REKEY], rates[UPDATE])},
        "over_both": paired_runs.ratio(rates[REKEY], rates[BOTH]),
        "table": {name: paired_runs.spread(turns) for name, turns in rates.items()},
        "runs": seconds,
    }


def _store(engine: sa.Engine, rows: int, settings: Settings, keyring: Keyring) -> None:
    """Store the rows in a second table, from which each turn copies them to the target."""
    masked = messages.masked_frame(rows, settings, keyring).drop(columns="message_id")
    _execute(engine, f"create table {STORED} (like {settings.table.name})")
    with engine.begin() as connection:
        method: Any = copy_rows
        masked.to_sql(STORED, connection, if_exists="append", index=False, method=method)


def _timed(engine: sa.Engine, work: Callable[[], Any]) -> float:
    _execute(engine, "truncate user_logins")
    _execute(engine, f"insert into user_logins table {STORED}")
    return paired_runs.seconds_of(work)


def _rekey(settings: Settings, engine: sa.Engine, keyring: Keyring, rows: int) -> None:
    outcome = rekey_database(settings, engine, keyring)
    if outcome.rows != rows or outcome.exit_code:
        raise WorkNotDone(f"rekey changed {outcome.rows} of {rows} rows")


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


METHOD = """\
{rows:,} rows of `user_logins`, all masked with an old key. Addresses and devices repeat as in the
sample. Each update changes every row in one statement and one transaction, and reads no value."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    over_one = markdown.shown(part["ratios"]["rekey.over_update"])
    over_both = markdown.shown(part["over_both"])
    return [
        METHOD.format(rows=part["rows"]),
        "",
        *markdown.table(
            ["way", "rows per second"],
            [[name, markdown.shown(row, 0)] for name, row in part["table"].items()],
        ),
        "",
        *markdown.table(
            ["ratio", "measured"],
            [
                [f"{REKEY} / {UPDATE}, rows per second (`rekey.over_update`)", over_one],
                [f"{REKEY} / {BOTH}, rows per second", over_both],
            ],
        ),
    ]
