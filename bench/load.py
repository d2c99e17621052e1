"""Rows loaded in a second by the load stage, and by what else could load them."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import psycopg2
import sqlalchemy as sa

from bench import markdown, messages, paired_runs, processes, services
from bench.services import Options, Services
from etl import ledger, load
from etl.config import Settings
from etl.postgres.engine import open_engine, transaction

ROWS, QUICK_ROWS = 100_000, 1_000
LEDGER_ROWS, QUICK_LEDGER_ROWS = 10_000_000, 20_000
FILL_ROWS = 1_000_000  # ids that one statement adds
SIZES = (50, 100, 200, 500, 1_000, 10_000)  # rows in one INSERT of the method multi
SIZE_SHARE = 5  # a fifth of the rows will do to compare the sizes

COPY, MULTI = "load stage, copy", "load stage, multi"
PLAIN, TO_SQL_MULTI = "to_sql, no method", "to_sql, method multi"
EMPTY, FULL = "empty ledger", "full ledger"
STOCK, ROOMY = services.SERVER, {"shared_buffers": "1GB"}  # the latter holds the full index
PSQL_TARGET, LEDGER_TARGET = "≥ 0.25", "≤ 1.5"
LEDGER_RATIOS = ("load.full_ledger_over_empty", "load.full_ledger_over_empty_in_memory")

Turns = dict[str, list[dict[str, float]]]  # what each turn of each candidate took


@dataclass(frozen=True)
class Target:
    """A database with the tables, open."""

    engine: sa.Engine
    settings: Settings
    url: str

    @property
    def name(self) -> str:
        """Name of the target table."""
        return self.settings.table.name

    def clear(self, *, ledger_too: bool = True) -> None:
        """Empty the tables, so that every turn starts alike."""
        tables = [self.name, *(["etl.ledger"] if ledger_too else [])]
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"truncate {', '.join(tables)}")

    def rows(self) -> int:
        """Rows in the target table."""
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(f"select count(*) from {self.name}").scalar_one())


def measure(options: Options) -> dict[str, Any]:
    """Load the same rows in each way, in turns."""
    rows = options.messages or (QUICK_ROWS if options.quick else ROWS)
    ledger_rows = QUICK_LEDGER_ROWS if options.quick else LEDGER_ROWS
    with ExitStack() as stack:
        here = stack.enter_context(services.opened(1))
        target = stack.enter_context(_target(here))
        frame = messages.masked_frame(rows, target.settings, here.keyring)
        ways, psql = _ways(target, frame, stack)
        by_way = paired_runs.in_turns(ways, options.runs)
        by_size = paired_runs.in_turns(_sizes(target, frame), options.runs)
    by_ledger = _by_ledger(STOCK, frame, ledger_rows, options.runs)
    by_roomy = _by_ledger(ROOMY, frame, ledger_rows, options.runs)
    rates = {name: [one["rows_per_second"] for one in own] for name, own in by_way.items()}
    return {
        "rows": rows,
        "ledger_rows": ledger_rows,
        "psql": psql,
        "ratios": {
            "load.copy_over_psql": paired_runs.ratio(rates[COPY], rates[psql]),
            **dict(zip(LEDGER_RATIOS, map(_full_over_empty, (by_ledger, by_roomy)), strict=True)),
        },
        "table": _rows(by_way),
        "ledgers": [
            {"shared_buffers": server["shared_buffers"], "table": _rows(measured)}
            for server, measured in ((STOCK, by_ledger), (ROOMY, by_roomy))
        ],
        "sizes": _rows(by_size),
        "runs": {"ways": by_way, "ledgers": by_ledger, "roomy": by_roomy, "sizes": by_size},
    }


def _by_ledger(server: Mapping[str, str], frame: pd.DataFrame, ids: int, runs: int) -> Turns:
    """Load by copy against an empty and a full ledger, both in one server with these settings."""
    with services.opened(1, server) as here, _target(here) as empty, _target(here) as full:
        _fill(full, ids, here)
        return paired_runs.in_turns(
            {
                EMPTY: partial(_stage, empty, frame, "copy"),
                FULL: partial(_stage, full, frame, "copy", ledger_too=False),
            },
            runs,
        )


def _full_over_empty(by_ledger: Turns) -> paired_runs.Spread:
    seconds = {name: [one["wall_seconds"] for one in own] for name, own in by_ledger.items()}
    return paired_runs.ratio(seconds[FULL], seconds[EMPTY])


def _rows(measured: Turns) -> dict[str, dict[str, paired_runs.Spread]]:
    return {name: _row(own) for name, own in measured.items()}


def _row(measured: list[dict[str, float]]) -> dict[str, paired_runs.Spread]:
    return {what: paired_runs.spread([one[what] for one in measured]) for what in measured[0]}


@contextmanager
def _target(here: Services) -> Iterator[Target]:
    with here.database() as url:
        settings = here.settings(url)
        engine = open_engine(settings.database)
        try:
            yield Target(engine, settings, url)
        finally:
            engine.dispose()


def _ways(
    target: Target, frame: pd.DataFrame, stack: ExitStack
) -> tuple[dict[str, Callable[[], Any]], str]:
    """All ways to load, and the name of the one that stands for psql."""
    bare = frame.drop(columns="message_id")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    file = _csv(bare, folder)
    psql, copy_file = _psql(target, file)
    chunk = target.settings.load.statement_rows
    return {
        MULTI: partial(_stage, target, frame, "multi"),
        COPY: partial(_stage, target, frame, "copy"),
        PLAIN: partial(_timed, target, len(frame), partial(_to_sql, target, bare, None, None)),
        TO_SQL_MULTI: partial(
            _timed, target, len(frame), partial(_to_sql, target, bare, "multi", chunk)
        ),
        psql: partial(_timed, target, len(frame), copy_file),
    }, psql


def _sizes(target: Target, frame: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    few = frame[: max(len(frame) // SIZE_SHARE, 1)]
    return {
        f"{size:,}": partial(_stage, target, few, "multi", statement_rows=size) for size in SIZES
    }


def _timed(
    target: Target, rows: int, work: Callable[[], float | None], *, ledger_too: bool = True
) -> dict[str, float]:
    """Time some loading into the emptied table, unless it says how long it took itself."""
    target.clear(ledger_too=ledger_too)
    cpu, wall = time.process_time(), time.perf_counter()
    own_seconds = work()
    seconds = {
        "wall_seconds": own_seconds or time.perf_counter() - wall,
        "client_cpu_seconds": time.process_time() - cpu,
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
    """Time staging, ledger, target and commit, a batch a transaction, under new message ids."""
    changes = {"method": method, "statement_rows": statement_rows}
    own = target.settings.load.model_copy(update={k: v for k, v in changes.items() if v})
    settings = target.settings.model_copy(update={"load": own})
    fresh, run_id = messages.new_ids(frame), str(uuid.uuid4())

    def work() -> None:
        for number, batch in enumerate(_batches(fresh, settings), 1):
            _load_batch(target.engine, settings, batch, run_id, number)

    return _timed(target, len(frame), work, ledger_too=ledger_too)


def _load_batch(
    engine: sa.Engine, settings: Settings, batch: pd.DataFrame, run_id: str, number: int
) -> None:
    """What the pipeline does for a batch without rejects."""
    with transaction(engine) as connection:
        load.stage(connection, batch, settings.table, settings.load, 0)
        fresh = ledger.claim(connection, batch["message_id"].tolist(), run_id, number)
        ids = [message_id for message_id in batch["message_id"] if message_id in fresh]
        load.merge(connection, ids, settings.table, len(batch), 0)


def _batches(frame: pd.DataFrame, settings: Settings) -> Iterator[pd.DataFrame]:
    for start in range(0, len(frame), settings.batch.rows):
        yield frame[start : start + settings.batch.rows]


def _to_sql(target: Target, bare: pd.DataFrame, method: Any, chunk: int | None) -> None:
    for batch in _batches(bare, target.settings):
        with target.engine.begin() as connection:
            batch.to_sql(
                target.name, connection, if_exists="append", index=False, method=method,
                chunksize=chunk,
            )  # fmt: skip


def _csv(bare: pd.DataFrame, folder: Path) -> Path:
    file = folder / "rows.csv"
    bare.to_csv(file, index=False, header=False)
    # The server's account reads nothing here: the client sends the file.
    return file


def _psql(target: Target, file: Path) -> tuple[str, Callable[[], Any]]:
    """How a ready file is copied: by psql where it runs, else by COPY through psycopg2."""
    for psql in (str(processes.postgres_program("psql")), "psql"):
        try:
            processes.run([psql, "--version"])
        except (OSError, processes.Failed):
            continue
        return r"psql \copy", partial(_copy_by_psql, psql, target, file)
    return "psycopg2 copy_expert of a ready file", partial(_copy_by_psycopg2, target, file)


def _copy_by_psql(psql: str, target: Target, file: Path) -> float:
    """Copy; returns the time by psql's own clock, which leaves out its start."""
    address = urlsplit(target.url)
    copy = rf"\copy {target.name} from '{file}' with (format csv)"
    done = processes.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", r"\timing on", "-c", copy],
        {
            "PGHOST": address.hostname or "",
            "PGPORT": str(address.port),
            "PGUSER": unquote(address.username or ""),
            "PGPASSWORD": unquote(address.password or ""),
            "PGDATABASE": address.path.lstrip("/"),
            "LC_ALL": "C",
        },
    )
    # "Time: 123.456 ms", and from a second on also "(00:01.234)".
    return float(done.output.split("Time: ")[1].split()[0]) / 1000


def _copy_by_psycopg2(target: Target, file: Path) -> None:
    with (
        closing(psycopg2.connect(target.url)) as connection,
        connection,
        connection.cursor() as cursor,
        file.open() as text,
    ):
        cursor.copy_expert(f"copy {target.name} from stdin with (format csv)", text)


def _fill(target: Target, rows: int, here: Services) -> None:
    """Enter so many ids of other messages into the ledger, and let the server come to rest."""
    began = time.perf_counter()
    statement = sa.text(
        "insert into etl.ledger (message_id, run_id, batch) "
        "select gen_random_uuid()::text, cast(:run_id as uuid), 1 from generate_series(1, :rows)"
    )
    run_id = str(uuid.uuid4())
    for start in range(0, rows, FILL_ROWS):
        with target.engine.begin() as connection:
            part = min(FILL_ROWS, rows - start)
            connection.execute(statement, {"run_id": run_id, "rows": part})
        paired_runs.say(f"ledger: {start + part:,} ids, {time.perf_counter() - began:.0f} s")
    for url, command in ((target.url, "vacuum analyze etl.ledger"),
                         (here.server.superuser_url, "checkpoint")):  # fmt: skip
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            connection.cursor().execute(command)


METHOD = """\
{rows:,} rows of `user_logins`, a transaction a batch as the settings have it. The load stage is
staging, ledger, target and commit; the others put the same rows into the bare table and keep no
ledger; `{psql}` sends one ready file in one transaction, by psql's own clock where it is psql."""


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown."""
    ratios, psql = part["ratios"], part["psql"]
    return [
        METHOD.format(rows=part["rows"], psql=psql),
        "",
        *markdown.table(
            ["way", "rows a second", "client, CPU µs a row"],
            [
                [name, _rates(row), _client(name, row, part["rows"])]
                for name, row in part["table"].items()
            ],
        ),
        "",
        (f"By copy, with {part['ledger_rows']:,} other message ids in the ledger and "
        "with none:"),
        "",
        *markdown.table(
            ["shared_buffers", "ledger", "rows a second", "wall, s"],
            [
                [one["shared_buffers"], name, _rates(row), markdown.shown(row["wall_seconds"], 3)]
                for one in part["ledgers"]
                for name, row in one["table"].items()
            ],
        ),
        "",
        *markdown.table(
            ["ratio", "measured", "target"],
            [
                [f"{COPY} / {psql}, rows a second (`load.copy_over_psql`)",
                 markdown.shown(ratios["load.copy_over_psql"]), PSQL_TARGET],
                *([f"{FULL} / {EMPTY}, time, shared_buffers {one['shared_buffers']} (`{key}`)",
                   markdown.shown(ratios[key]), LEDGER_TARGET]
                  for key, one in zip(LEDGER_RATIOS, part["ledgers"], strict=True)),
            ],
        ),
        "",
        "The load stage by multi, by the rows in one INSERT (`load.statement_rows`):",
        "",
        *markdown.table(
            ["rows a statement", "rows a second"],
            [[name, _rates(row)] for name, row in part["sizes"].items()],
        ),
        "",
        "![Rows a second](load.png)",
    ]  # fmt: skip


def _rates(row: dict[str, paired_runs.Spread]) -> str:
    return markdown.shown(row["rows_per_second"], 0)


def _client(name: str, row: dict[str, paired_runs.Spread], rows: int) -> str:
    # psql is a process of its own, and its CPU is not this one's.
    if name.startswith("psql"):
        return "-"
    return f"{row['client_cpu_seconds']['median'] / rows * 1e6:.1f}"
