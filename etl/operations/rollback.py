"""Takes the rows of a run out of the target again: found by the column that holds the run's id."""

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
from etl.text import counted


@dataclass(frozen=True)
class Rollback:
    """What a rollback takes out, or has taken out."""

    run_id: str
    loaded: int  # deliveries, or events of split messages, as the run counted them
    updated: int  # of these, those whose row replaced another one, whose values are gone
    skipped: int  # of these, those whose row was not stored
    rows: int  # in the table now, or deleted
    freed: int = 0  # ids that were removed from the ledger
    done: bool = False

    @property
    def missing(self) -> int:
        """Rows that the run stored and that are not there: replaced since then, or deleted."""
        return max(self.loaded - self.skipped - self.rows, 0)

    def as_dict(self) -> dict[str, Any]:
        """The outcome as ``rollback --json`` prints it."""
        return {**asdict(self), "missing": self.missing}


def plan_rollback(
    settings: Settings, engine: sa.Engine, beginning: str, *, with_replaced: bool, frees: bool
) -> Rollback:
    """Find the run and count its rows. Changes nothing.

    :param beginning: of the run's id
    :param with_replaced: delete rows that had replaced others, too
    :param frees: whether the ledger is to be freed
    :raises UsageError: there is no such run, it cannot be rolled back, or the table has no column
        that says which run loaded a row
    :raises TableError: a table is missing, or its rows are replicated and cannot be deleted
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    _run_column(settings)
    record = read_run(engine, find_run(engine, beginning, settings.job_name))
    _check_run(settings, record, with_replaced=with_replaced, frees=frees)
    check_changes(engine, settings.table, "delete")
    with transaction(engine) as connection:
        check_target_exists(connection, settings.table)
        count = _of_run(connection, settings, "select count(*)")
        rows = connection.execute(count, {"run_id": record.run_id}).scalar_one()
    # Each event of a split message is a row.
    loaded = record.events_loaded if record.has_events else record.loaded
    return Rollback(record.run_id, loaded, record.updated, record.skipped, int(rows))


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
            rows = connection.execute(_of_run(connection, settings, "delete"), run).rowcount
            freed = 0
            if frees:
                parameters = {**run, "job": settings.job_name}
                freed = connection.execute(queries()["free_ledger_of_run"], parameters).rowcount
            entry = _audit_entry(settings, plan.run_id, reason, rows, freed if frees else None)
            audit.add(connection, entry, [plan.run_id], keyring)
    except RowRefused as refused:
        raise DatabaseRefused(f"nothing was changed: {refused.check}") from None
    return replace(plan, rows=rows, freed=freed, done=True)


def _run_column(settings: Settings) -> str:
    for column in settings.table.columns:
        if column.metadata == "run_id":
            return column.name
    raise UsageError(
        "no column of the table says which run loaded a row, so its rows cannot be found; for "
        "later runs, add to 'table.columns': {name: run_id, metadata: run_id, type: text}"
    )


def _check_run(settings: Settings, record: RunRecord, *, with_replaced: bool, frees: bool) -> None:
    run = f"run {record.run_id}"
    if record.job != settings.job_name:
        raise UsageError(f"{run} is of job {record.job!r}: use the configuration of that job")
    if record.state == RUNNING:
        raise UsageError(f"{run} is still running; stop it first")
    if record.updated and not with_replaced:
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


def _of_run(connection: sa.Connection, settings: Settings, verb: str) -> sa.TextClause:
    table = settings.table
    column = _run_column(settings)
    kind = existing_columns(connection, table)[column].written
    return sa.text(
        f"{verb} from {quote_name(table.schema_name, table.name)} "
        f"where {quote_name(column)} = cast(:run_id as {kind})"
    )


def _audit_entry(
    settings: Settings, run_id: str, reason: str, rows: int, freed: int | None
) -> audit.AuditEntry:
    ledger = "ledger kept" if freed is None else f"{counted(freed, 'id')} removed from the ledger"
    target = f"{settings.table.schema_name}.{settings.table.name}"
    scope = f"{counted(rows, 'row')} of {target} deleted, of run {run_id}; {ledger}"
    return audit.AuditEntry("rollback", reason, scope, [], rows)
