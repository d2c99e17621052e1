"""The history of the runs: the newest ones as a list, and one of them whole."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from etl.errors import DatabaseRefused, UsageError
from etl.postgres.engine import transaction
from etl.postgres.queries import filled, queries
from etl.postgres.tables import check_own_tables, query_frame

if TYPE_CHECKING:
    import pandas as pd

# A run gives a sign of life every 15 s. After this long without one it counts as killed, with a
# question mark: it may also have been unable to reach the database.
GONE_SECONDS = 120.0

# Of etl.runs: what became of the events of split messages.
EVENT_COLUMNS = ("events_loaded", "events_already_handled", "events_quarantined", "empty_messages")

RUNNING = "running"
KILLED = "killed?"
FINISHED = "finished"


@dataclass(frozen=True)
class RunRecord:
    """One run: its row in ``etl.runs``, and what became of what it quarantined."""

    run_id: str
    job: str
    command: str
    state: str  # RUNNING, KILLED or FINISHED
    started_at: dt.datetime
    finished_at: dt.datetime | None
    seen_at: dt.datetime | None  # the last sign of life; None: of an earlier version
    seconds_since_seen: float | None
    seconds: float | None  # from the start to the end, or else to the last sign of life
    received: int
    loaded: int
    already_handled: int
    quarantined: int
    released: int
    updated: int  # of the loaded ones
    skipped: int  # of the loaded ones
    batches: int
    stop_reason: str | None
    exit_code: int | None
    problem: str | None
    failed_checks: list[dict[str, Any]]  # column, check, messages, released
    unknown_fields: list[dict[str, Any]]  # name, messages; no name: names that may be personal
    notes: list[dict[str, Any]]  # column, note, messages: changed or warned of, without a reject
    version: str
    config_hash: str
    host: str
    # Of the events of split messages; all zero if messages are not split.
    events_loaded: int = 0
    events_already_handled: int = 0
    events_quarantined: int = 0
    empty_messages: int = 0
    # Entries by what became of them; None: the role may not read the quarantine.
    quarantine: dict[str, int] | None = None

    @property
    def has_events(self) -> bool:
        """Whether messages were split."""
        return any(getattr(self, name) for name in EVENT_COLUMNS)

    @property
    def open_entries(self) -> int:
        """Entries that are still open, as far as the role may know."""
        if self.quarantine is None:
            return self.quarantined
        return self.quarantine.get("open", 0)

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON, with ISO times."""
        values = asdict(self)
        if not self.has_events:
            for name in EVENT_COLUMNS:
                del values[name]
        for name, value in values.items():
            if isinstance(value, dt.datetime):
                values[name] = value.isoformat()
        return values


def recent_runs(
    engine: sa.Engine, limit: int, job: str | None = None, gone_seconds: float = GONE_SECONDS
) -> pd.DataFrame:
    """The newest runs, newest first: one row per run, with its state and columns of ``etl.runs``.

    :param job: only the runs of this job; None: of all jobs
    :param gone_seconds: how long a run may be without a sign of life
    """
    parameters = {"limit": limit, "job": job, "gone_seconds": gone_seconds}
    return query_frame(engine, _with_state("list_runs"), parameters)


def read_run(engine: sa.Engine, run_id: str, gone_seconds: float = GONE_SECONDS) -> RunRecord:
    """Read all that is known of a run.

    :param run_id: a whole id
    :param gone_seconds: as of :func:`recent_runs`
    :raises UsageError: there is no such run
    """
    parameters = {"run_id": run_id, "gone_seconds": gone_seconds}
    with transaction(engine) as connection:
        check_own_tables(connection)
        row = connection.execute(_with_state("whole_run"), parameters).mappings().one_or_none()
        if row is None:
            raise UsageError(f"there is no run {run_id!r}; see: etl history --all-jobs")
        values = dict(row)
        if not values["failed_checks"] and values["quarantined"]:
            checks = connection.execute(queries()["broken_checks_of_run"], parameters).mappings()
            values["failed_checks"] = [
                {**check, "messages": int(check["messages"])} for check in checks
            ]
    return RunRecord(**values, quarantine=_entries(engine, run_id))


def _entries(engine: sa.Engine, run_id: str) -> dict[str, int] | None:
    try:
        with transaction(engine) as connection:
            rows = connection.execute(queries()["entries_of_run"], {"run_id": run_id})
            return {row.state: row.entries for row in rows}
    except DatabaseRefused:
        return None  # of the roles, only the officer may read the quarantine


def _with_state(query: str) -> sa.TextClause:
    return sa.text(filled(query, {"state": queries()["run_state"].text}))
