"""The database that the part ``load`` loads into, and a ledger that is already full."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg2
import sqlalchemy as sa

from bench import paired_runs
from bench.services import Services
from etl.config import Settings
from etl.postgres.engine import open_engine

FILL_ROWS = 1_000_000  # ids that one statement adds


@dataclass(frozen=True)
class Target:
    """An open database with the tables."""

    engine: sa.Engine
    settings: Settings
    url: str

    @property
    def name(self) -> str:
        """The name of the target table."""
        return self.settings.table.name

    def clear(self, *, ledger_too: bool = True) -> None:
        """Empty the tables, so that every turn starts from the same state."""
        tables = [self.name, "etl.ledger"] if ledger_too else [self.name]
        with self.engine.begin() as connection:
            connection.exec_driver_sql(f"truncate {', '.join(tables)}")

    def rows(self) -> int:
        """Return the number of rows in the target table."""
        with self.engine.connect() as connection:
            return int(connection.exec_driver_sql(f"select count(*) from {self.name}").scalar_one())


@contextmanager
def open_target(running: Services) -> Iterator[Target]:
    """Create a database with empty tables and open it; it is dropped afterwards."""
    with running.database() as url:
        settings = running.settings(url)
        engine = open_engine(settings.database)
        try:
            yield Target(engine, settings, url)
        finally:
            engine.dispose()


def fill_ledger(target: Target, rows: int, running: Services) -> None:
    """Insert ids of other messages into the ledger, until the server has no work left."""
    began = time.perf_counter()
    statement = sa.text(
        "insert into etl.ledger (message_id, run_id, batch, job_id) "
        "select gen_random_uuid()::text, cast(:run_id as uuid), 1, 1 from generate_series(1, :rows)"
    )
    run_id = str(uuid.uuid4())
    for start in range(0, rows, FILL_ROWS):
        with target.engine.begin() as connection:
            new_rows = min(FILL_ROWS, rows - start)
            connection.execute(statement, {"run_id": run_id, "rows": new_rows})
        paired_runs.say(f"ledger: {start + new_rows:,} ids, {time.perf_counter() - began:.0f} s")
    _execute_alone(target.url, "vacuum analyze etl.ledger")
    _execute_alone(running.server.superuser_url, "checkpoint")


def _execute_alone(url: str, command: str) -> None:
    """Execute a command that must not be part of a transaction."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(command)
