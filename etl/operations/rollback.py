"""Takes the rows of a run out of its tables again: found by the column that holds the run's id."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from etl.analysis.history import RUNNING, RunRecord, read_run
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, UsageError
from etl.operations import audit
from etl.operations.run_ids import find_run
from etl.postgres.columns import existing_columns
from etl.postgres.engine import transaction
from etl.postgres.queries import queries, quote_name
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import check_target_exists
from etl.postgres.target import check_changes
from etl.text import counted, in_words


@dataclass(frozen=True)
class Rollback:
    """What a rollback takes out, or has taken out."""

    run_id: str
    loaded: int  # deliveries, or events of split messages, as the run counted them
    updated: int  # of these, those whose row replaced another one, whose values are gone
    skipped: int  # of these, those whose row was not stored
    tables: dict[str, int]  # rows by table: in it now, or deleted
    is_whole: bool = True  # whether these are all tables of the job
    freed: int = 0  # ids that were removed from the ledger
    done: bool = False

    @property
    def rows(self) -> int:
        """Rows in the tables now, or deleted."""
        return sum(self.tables.values())

    @property
    def rows_text(self) -> str:
        """The rows of each table, in words."""
        return in_words(f"{counted(rows, 'row')} of {table}" for table, rows in self.tables.items())

    @property
    def missing(self) -> int | None:
        """Rows that the run stored and that are not there: replaced since then, or deleted.

        None if that is unknown, because the run counts the rows of all tables together.
        """
        return max(self.loaded - self.skipped - self.rows, 0) if self.is_whole else None

    def as_dict(self) -> dict[str, Any]:
        """The outcome as ``rollback --json`` prints it."""
        return {**asdict(self), "rows": self.rows, "missing": self.missing}


def plan_rollback(
    settings: Settings,
    engine: sa.Engine,
    beginning: str,
    *,
    with_replaced: bool,
    frees: bool,
    is_whole: bool = True,
) -> Rollback:
    """Find the run and count its rows. Changes nothing.

    :param settings: of the job, or of the only table to take rows out of
    :param beginning: of the run's id
    :param with_replaced: delete rows that had replaced others, too
    :param frees: whether the ledger is to be freed
    :param is_whole: whether these are all tables of the job
    :raises UsageError: there is no such run, it cannot be rolled back, or the table has no column
        that says which run loaded a row
    :raises TableError: a table is missing, or its rows are replicated and cannot be deleted
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    views = list(settings.of_each_table())
    _check_run_columns(views)
    record = read_run(engine, find_run(engine, beginning, settings.job_name))
    has_updates = any(view.table.on_conflict == "update" for view in views)
    updated = record.updated if has_updates or is_whole else 0
    _check_run(settings, record, is_lossy=bool(updated) and not with_replaced, frees=frees)
    if frees and not is_whole:
        raise UsageError(
            "--free-ledger is for all tables of a run, because the ledger does not know which "
            "table an event went to; leave one of --free-ledger and --table out"
        )
    for view in views:
        check_changes(engine, view.table, "delete")
    with transaction(engine) as connection:
        rows = {_name(view): _count_rows(connection, view, record.run_id) for view in views}
    # Each event of a split message is a row.
    loaded = record.events_loaded if record.has_events else record.loaded
    return Rollback(record.run_id, loaded, updated, record.skipped, rows, is_whole)


def roll_back(
    settings: Settings,
    engine: sa.Engine,
    keyring: Keyring,
    plan: Rollback,
    reason: str,
    *,
    frees: bool,
) -> Rollback:
    """Delete the rows, and free the ledger if that is wanted, together with an audit row.

    :raises DatabaseRefused: a privilege is missing, or a constraint refuses; nothing was changed
    :raises DatabaseUnavailable: an outage; check whether the change was made
    """
    run = {"run_id": plan.run_id}
    try:
        with transaction(engine) as connection:
            # The last table first: it may refer to those before it.
            rows = {
                _name(view): connection.execute(_of_run(connection, view, "delete"), run).rowcount
                for view in reversed(list(settings.of_each_table()))
            }
            done = replace(plan, tables={table: rows[table] for table in plan.tables}, done=True)
            freed = 0
            if frees:
                parameters = {**run, "job": settings.job_name}
                freed = connection.execute(queries()["free_ledger_of_run"], parameters).rowcount
            entry = _audit_entry(done, reason, freed if frees else None)
            audit.add(connection, entry, [plan.run_id], keyring)
    except RowRefused as refused:
        raise DatabaseRefused(f"nothing was changed: {refused.check}") from None
    return replace(done, freed=freed)


def _name(view: Settings) -> str:
    return f"{view.table.schema_name}.{view.table.name}"


def _run_column(view: Settings) -> str | None:
    names = (column.name for column in view.table.columns if column.metadata == "run_id")
    return next(names, None)


def _check_run_columns(views: list[Settings]) -> None:
    """Check that each table says which run loaded a row."""
    lacking = [_name(view) for view in views if _run_column(view) is None]
    if not lacking:
        return
    where = "the table" if len(views) == 1 else f"table {', '.join(lacking)}"
    others = "" if len(lacking) == len(views) else "; to take out the rows of another one: --table"
    raise UsageError(
        f"no column of {where} says which run loaded a row, so its rows cannot be found; for "
        f"later runs, add to its columns: {{name: run_id, metadata: run_id, type: text}}{others}"
    )


def _check_run(settings: Settings, record: RunRecord, *, is_lossy: bool, frees: bool) -> None:
    run = f"run {record.run_id}"
    if record.job != settings.job_name:
        raise UsageError(f"{run} is of job {record.job!r}: use the configuration of that job")
    if record.state == RUNNING:
        raise UsageError(f"{run} is still running; stop it first")
    if is_lossy:
        raise UsageError(
            f"{run} replaced {counted(record.updated, 'row')}, and the former values are gone: a "
            "rollback would delete what replaced them and not bring them back; to delete it all "
            "the same, add --with-replaced"
        )
    if frees and record.command == "replay":
        raise UsageError(
            f"{run} is a replay: the bodies of its messages are gone, and the ledger knows them "
            "from the run that quarantined them; leave --free-ledger out"
        )


def _count_rows(connection: sa.Connection, view: Settings, run_id: str) -> int:
    check_target_exists(connection, view.table)
    count = _of_run(connection, view, "select count(*)")
    return int(connection.execute(count, {"run_id": run_id}).scalar_one())


def _of_run(connection: sa.Connection, view: Settings, verb: str) -> sa.TextClause:
    table, column = view.table, _run_column(view)
    assert column is not None
    kind = existing_columns(connection, table)[column].written
    return sa.text(
        f"{verb} from {quote_name(table.schema_name, table.name)} "
        f"where {quote_name(column)} = cast(:run_id as {kind})"
    )


def _audit_entry(done: Rollback, reason: str, freed: int | None) -> audit.AuditEntry:
    ledger = "ledger kept" if freed is None else f"{counted(freed, 'id')} removed from the ledger"
    scope = f"{done.rows_text} deleted, of run {done.run_id}; {ledger}"
    return audit.AuditEntry("rollback", reason, scope, [], done.rows)
