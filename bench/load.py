"""Rows per second of the load stage, and of other ways to load the same rows.

This is one file because all ways to load are timed by the same function and compared in one table.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa

from bench import copy_file, markdown, messages, paired_runs, services
from bench.load_target import Target, fill_ledger, open_target
from bench.services import Options
from etl import ledger, load
from etl.config import Settings
from etl.postgres.engine import transaction
from etl.runs import Run

ROWS, QUICK_ROWS = 100_000, 1_000
LEDGER_ROWS, QUICK_LEDGER_ROWS = 10_000_000, 20_000
SIZES = (50, 100, 200, 500, 1_000, 10_000)  # rows in one INSERT of the method multi
SIZE_SHARE = 5  # a fifth of the rows is enough to compare the sizes

COPY = "load stage, copy"
MULTI = "load stage, multi"
PLAIN = "to_sql, no method"
TO_SQL_MULTI = "to_sql, method multi"
EMPTY = "empty ledger"
FULL = "full ledger"
DEFAULT_SERVER = services.SERVER
LARGE_SERVER = {"shared_buffers": "1GB"}  # enough for the whole index of the full ledger
PSQL_TARGET = "≥ 0.25"
LEDGER_TARGET = "≤ 1.5"
LEDGER_RATIOS = ("load.full_ledger_over_empty", "load.full_ledger_over_empty_in_memory")

Turns = dict[str, list[dict[str, float]]]  # the costs of each turn, by program


def measure(options: Options) -> dict[str, Any]:
    """Load the same rows in every way, in turns."""
    rows = options.messages or (QUICK_ROWS if options.quick else ROWS)
    ledger_rows = QUICK_LEDGER_ROWS if options.quick else LEDGER_ROWS
    with ExitStack() as stack:
        running = stack.enter_context(services.start(1))
        target = stack.enter_context(open_target(running))
        frame = messages.masked_frame(rows, target.settings, running.keyring)
        ways, psql = _ways(target, frame, stack)
        by_way = paired_runs.in_turns(ways, options.runs)
        by_size = paired_runs.in_turns(_sizes(target, frame), options.runs)
    by_ledger = _by_ledger(DEFAULT_SERVER, frame, ledger_rows, options.runs)
    in_memory = _by_ledger(LARGE_SERVER, frame, ledger_rows, options.runs)
    rates = {name: [costs["rows_per_second"] for costs in turns] for name, turns in by_way.items()}
    return {
        "rows": rows,
        "ledger_rows": ledger_rows,
        "psql": psql,
        "ratios": {
            "load.copy_over_psql": paired_runs.ratio(rates[COPY], rates[psql]),
            **dict(zip(LEDGER_RATIOS, map(_full_over_empty, (by_ledger, in_memory)), strict=True)),
        },
        "table": _spreads(by_way),
        "ledgers": [
            {"shared_buffers": server["shared_buffers"], "table": _spreads(turns)}
            for server, turns in ((DEFAULT_SERVER, by_ledger), (LARGE_SERVER, in_memory))
        ],
        "sizes": _spreads(by_size),
        "runs": {"ways": by_way, "ledgers": by_ledger, "roomy": in_memory, "sizes": by_size},
    }


def _by_ledger(server: Mapping[str, str], frame: pd.DataFrame, ids: int, runs: int) -> Turns:
    """Load by copy with an empty and with a full ledger, on one server with these settings."""
    with (
        services.start(1, server) as running,
        open_target(running) as empty,
        open_target(running) as full,
    ):
        fill_ledger(full, ids, running)
        return paired_runs.in_turns(
            {
                EMPTY: partial(_stage, empty, frame, "copy"),
                FULL: partial(_stage, full, frame, "copy", ledger_too=False),
            },
            runs,
        )


def _full_over_empty(by_ledger: Turns) -> paired_runs.Spread:
    seconds = {
        name: [costs["wall_seconds"] for costs in turns] for name, turns in by_ledger.items()
    }
    return paired_runs.ratio(seconds[FULL], seconds[EMPTY])


def _spreads(turns_by_name: Turns) -> dict[str, dict[str, paired_runs.Spread]]:
    return {
        name: {cost: paired_runs.spread([costs[cost] for costs in turns]) for cost in turns[0]}
        for name, turns in turns_by_name.items()
    }


def _ways(
    target: Target, frame: pd.DataFrame, stack: ExitStack
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return all ways to load, and the name of the one that uses psql or replaces it."""
    bare = frame.drop(columns="message_id")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    file = copy_file.write_csv(bare, folder)
    psql, copy = copy_file.find_copy(target, file)
    chunk = target.settings.load.statement_rows
    return {
        MULTI: partial(_stage, target, frame, "multi"),
        COPY: partial(_stage, target, frame, "copy"),
        PLAIN: partial(_timed, target, len(frame), partial(_to_sql, target, bare, None, None)),
        TO_SQL_MULTI: partial(
            _timed, target, len(frame), partial(_to_sql, target, bare, "multi", chunk)
        ),
        psql: partial(_timed, target, len(frame), copy),
    }, psql


def _sizes(target: Target, frame: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    few = frame[: max(len(frame) // SIZE_SHARE, 1)]
    return {
        f"{size:,}": partial(_stage, target, few, "multi", statement_rows=size) for size in SIZES
    }


def _timed(
    target: Target, rows: int, work: Callable[[], float | None], *, ledger_too: bool = True
) -> dict[str, float]:
    """Time *work* on an emptied table; if it returns seconds, they count as the wall time."""
    target.clear(ledger_too=ledger_too)
    cpu_start = time.process_time()
    wall_start = time.perf_counter()
    reported_seconds = work()
    seconds = {
        "wall_seconds": reported_seconds or time.perf_counter() - wall_start,
        "client_cpu_seconds": time.process_time() - cpu_start,
    }
    assert target.rows() == rows
    return {"rows_per_second": rows / seconds["wall_seconds"], **seconds}


def _stage(
    target: Target,
    frame: pd.DataFrame,
    method: str,
    *,
    statement_rows: int | None = None,
    ledger_too: bool = True,
) -> dict[str, float]:
    """Time staging, ledger, target and commit, with new message ids and a transaction per batch."""
    changes: dict[str, Any] = {"method": method}
    if statement_rows:
        changes["statement_rows"] = statement_rows
    load_settings = target.settings.load.model_copy(update=changes)
    settings = target.settings.model_copy(update={"load": load_settings})
    new_frame = messages.new_ids(frame)
    run_id = str(uuid.uuid4())
    Run(run_id, settings.config_hash).start(target.engine, settings)

    def work() -> None:
        for number, batch in enumerate(_batches(new_frame, settings), 1):
            _load_batch(target.engine, settings, batch, run_id, number)

    return _timed(target, len(frame), work, ledger_too=ledger_too)


def _load_batch(
    engine: sa.Engine, settings: Settings, batch: pd.DataFrame, run_id: str, number: int
) -> None:
    """Do what the pipeline does for a batch without rejected messages."""
    with transaction(engine) as connection:
        load.stage(connection, batch, settings.table, settings.load, 0)
        claimed = ledger.claim(connection, batch["message_id"].tolist(), run_id, number)
        ids = [message_id for message_id in batch["message_id"] if message_id in claimed]
        load.merge(connection, ids, settings.table, len(batch), 0)


def _batches(frame: pd.DataFrame, settings: Settings) -> Iterator[pd.DataFrame]:
    for start in range(0, len(frame), settings.batch.rows):
        yield frame[start : start + settings.batch.rows]


def _to_sql(target: Target, bare: pd.DataFrame, method: Any, chunk: int | None) -> None:
    for batch in _batches(bare, target.settings):
        with target.engine.begin() as connection:
            batch.to_sql(
                target.name,
                connection,
                if_exists="append",
                index=False,
                method=method,
                chunksize=chunk,
            )


METHOD = """\
{rows:,} rows of `user_logins`, in one transaction per batch of the default size. The load stage is
staging, ledger, target and commit. The other ways insert the same rows into the bare table and keep
no ledger. `{psql}` sends one prepared file in one transaction; the time of psql is the one that it
reports itself."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    return [
        METHOD.format(rows=part["rows"], psql=part["psql"]),
        "",
        *markdown.table(
            ["way", "rows per second", "client, CPU µs per row"],
            [
                [name, _rates(row), _client(name, row, part["rows"])]
                for name, row in part["table"].items()
            ],
        ),
        "",
        f"By copy, with {part['ledger_rows']:,} other message ids in the ledger and with none:",
        "",
        *markdown.table(
            ["shared_buffers", "ledger", "rows per second", "wall time, s"],
            [
                [server["shared_buffers"], name, _rates(row), _wall(row)]
                for server in part["ledgers"]
                for name, row in server["table"].items()
            ],
        ),
        "",
        *markdown.table(["ratio", "measured", "target"], _ratio_rows(part)),
        "",
        "The load stage by multi, by the number of rows in one INSERT (`load.statement_rows`):",
        "",
        *markdown.table(
            ["rows per statement", "rows per second"],
            [[name, _rates(row)] for name, row in part["sizes"].items()],
        ),
        "",
        "![Rows per second](load.png)",
    ]


def _ratio_rows(part: dict[str, Any]) -> list[list[str]]:
    ratios = part["ratios"]
    rows = [
        [
            f"{COPY} / {part['psql']}, rows per second (`load.copy_over_psql`)",
            markdown.shown(ratios["load.copy_over_psql"]),
            PSQL_TARGET,
        ]
    ]
    for key, server in zip(LEDGER_RATIOS, part["ledgers"], strict=True):
        buffers = server["shared_buffers"]
        label = f"{FULL} / {EMPTY}, time, shared_buffers {buffers} (`{key}`)"
        rows.append([label, markdown.shown(ratios[key]), LEDGER_TARGET])
    return rows


def _wall(row: dict[str, paired_runs.Spread]) -> str:
    return markdown.shown(row["wall_seconds"], 3)


def _rates(row: dict[str, paired_runs.Spread]) -> str:
    return markdown.shown(row["rows_per_second"], 0)


def _client(name: str, row: dict[str, paired_runs.Spread], rows: int) -> str:
    # psql is a separate process, so its CPU time is not part of this one's.
    if name.startswith("psql"):
        return "-"
    return f"{row['client_cpu_seconds']['median'] / rows * 1e6:.1f}"
