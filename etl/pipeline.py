"""The flow: receive, read, check, mask, load in one transaction, and only then acknowledge."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from etl import ledger, quarantine
from etl.backoff import Backoff
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import (
    BatchRefused,
    DatabaseRefused,
    DatabaseUnavailable,
    EtlError,
    QuarantineBudget,
)
from etl.postgres.engine import transaction, wait_for_commits
from etl.postgres.findings import Findings
from etl.postgres.sqlstate import no_row_refused_at_commit
from etl.postgres.watchdog import Watchdog
from etl.reading.events import Events
from etl.reading.reader import BodySource, EventReader
from etl.runs import Share, Totals
from etl.sqs.consumer import Consumer
from etl.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from etl.batch import Batch

log = logging.getLogger(__name__)


class Undecided(Exception):  # noqa: N818  (a finding, caught in this module)
    """The database refused all rows of the batch: another batch must show whose fault it is."""

    def __init__(self, error: DatabaseRefused, message_ids: set[str]) -> None:
        super().__init__(str(error))
        self.error = error
        self.message_ids = message_ids


@dataclass
class Drain:
    """What the loop of one worker needs, and the totals of its batches."""

    settings: Settings
    consumer: Consumer
    engine: sa.Engine
    watchdog: Watchdog  # of the engine's connections
    keyring: Keyring
    share: Share
    pruner: ledger.Pruner
    budget: quarantine.Budget
    payloads: BodySource | None = None  # where bodies are that are not in the queue
    totals: Totals = field(default_factory=Totals)
    schemas: Any = None  # the checks of each table, once the stages are loaded

    def load_stages(self) -> None:
        """Import the stages, and with them pandas and pandera, unless it was done before.

        That takes most of the CPU of a run's start, and a run that finds no message does without.
        """
        if self.schemas is None:
            import etl.batch  # noqa: F401  (the functions below import from it)
            from etl.validate import frame_schemas

            self.schemas = frame_schemas(self.settings)


def run(drain: Drain) -> None:
    """Load batch after batch until the consumer has no more.

    :raises Stopped: the run cannot go on
    :raises Outage: a service was away for longer than the configuration allows
    """
    try:
        while _load_next(drain):
            pass
    finally:
        drain.consumer.wait_for_acknowledgements()
    drain.consumer.raise_error()


def _load_next(drain: Drain) -> bool:
    """Load the next batch; return whether there was one.

    A separate function, so that no batch stays in memory while the next one is being gathered.
    """
    messages = drain.consumer.take()
    if messages is None:
        return False
    held = {message.message_id: message for message in messages}
    try:
        drain.load_stages()
        limits = drain.settings.batch
        reader = EventReader(drain.settings, drain.payloads)
        # A batch, unless its messages hold more events than a batch may have.
        for events in reader.parts(messages, limits.rows, limits.bytes):
            loading = events
            while loading.messages and (waiting := _load_events(drain, loading)):
                loading = loading.without(waiting)
            for message in loading.messages:
                del held[message.message_id]
            drain.consumer.acknowledge(loading.messages)
    except BaseException:
        drain.consumer.release(list(held.values()))
        raise
    drain.consumer.keep(list(held.values()))  # those that wait for the next batch
    if drain.share.index == 0:  # one worker is enough
        with drain.watchdog.limited():
            drain.pruner.remove_some(2 * len(messages) * drain.share.workers)
    return True


def _load_events(drain: Drain, events: Events) -> set[str]:
    """Load events, or else return the ids of the messages that must wait for the next batch."""
    from etl.batch import prepare

    run_id = drain.share.run.run_id
    batch = prepare(events, drain.settings, drain.schemas, drain.keyring, run_id)
    try:
        if batch.broken:
            raise _refused(batch)
        totals = _load_patiently(drain, batch)
    except Undecided as found:
        if drain.consumer.is_last:
            _note_released(drain, batch, batch.rejects)
            raise found.error from None
        rows = counted(len(found.message_ids), "row")
        log.warning("%s; trying %s again with the next batch", found, rows)
        return found.message_ids
    except EtlError as error:
        # Those of a budget stop include the rows that the database refused.
        known = error.rejects if isinstance(error, QuarantineBudget) else batch.rejects
        _note_released(drain, batch, known)
        raise
    drain.totals = drain.totals.plus(totals)
    drain.budget.settle()
    return set()


def _refused(batch: Batch) -> BatchRefused:
    several = len(batch.parts) > 1
    names = ", ".join(
        f"{check.name!r}{f' of {part.table.full_name!r}' if several else ''}"
        for part, check in batch.broken
    )
    return BatchRefused(
        f"a batch of {counted(len(batch.events.by_id), 'message')} fails 'batch_checks': "
        f"{names}; this batch was released"
    )


def _note_released(drain: Drain, batch: Batch, rejects: pd.DataFrame) -> None:
    """Note what the messages of a batch have that goes back to the queue."""
    checks = quarantine.check_counts(rejects) + batch.broken_checks
    findings = Findings(checks, batch.unknown_fields, batch.notes)
    drain.totals = drain.totals.plus(Totals(released_findings=findings))


def _load_patiently(drain: Drain, batch: Batch) -> Totals:
    """Load a batch. Waits out an outage of the database while the heartbeat keeps the messages."""
    stop = drain.consumer.stop
    backoff = Backoff(drain.settings.database.retry_seconds, lambda: stop.ends_retries)
    attempts: list[Totals] = []
    while True:
        try:
            _load_unless_committed(drain, batch, attempts.append)
        except QuarantineBudget as error:
            with drain.watchdog.limited():
                error = quarantine.with_sample(
                    error,
                    drain.engine,
                    batch.rejects,
                    batch.events.by_id,
                    drain.keyring,
                    drain.share.run.run_id,
                    drain.settings,
                )
            raise error from None
        except DatabaseUnavailable as error:
            if not stop.ends_retries:
                backoff.pause(error)
            if stop.ends_retries:
                raise
            continue
        backoff.end()
        return attempts[-1]


def _load_unless_committed(drain: Drain, batch: Batch, note: Callable[[Totals], None]) -> None:
    """Load a batch, unless an earlier attempt has been committed after all."""
    try:
        with no_row_refused_at_commit():
            _load(drain, batch, note)
    except ledger.CommittedBeforeError:
        # The commit had succeeded and only its reply was lost. Ids of this batch can only come
        # from an attempt that reached COMMIT, which is the last one noted.
        log.info("the batch had been committed before the connection was lost")
        with drain.watchdog.limited():
            wait_for_commits(drain.engine)


def _load(drain: Drain, batch: Batch, note: Callable[[Totals], None]) -> None:
    """Run one batch's transaction: rows, ledger, quarantine and counts commit together."""
    from etl.batch import store
    from etl.parts import BatchId

    settings = drain.settings
    run_id = drain.share.run.run_id
    batch_id = BatchId(run_id, drain.share.batch_number(drain.totals.batches))
    max_rejects = drain.budget.max_rejects(len(batch.events.by_id))
    with drain.watchdog.limited(), transaction(drain.engine) as connection:
        claim = partial(ledger.claim, connection, run_id=run_id, batch=batch_id.number)
        stored = store(connection, batch, settings, batch_id, max_rejects, claim)
        # In the last batch, the rows that the run has loaded before must be enough to go by.
        undecided = [
            doubt
            for doubt in stored.doubts
            if not drain.consumer.is_last
            or not (doubt.table in drain.totals.tables or doubt.blames_rows)
        ]
        if undecided:
            refused = {event_id for doubt in undecided for event_id in doubt.refused}
            raise Undecided(undecided[0].error, batch.events.messages_of(refused))
        quarantined = quarantine.store(
            connection, stored.rejects, batch.events.by_id, drain.keyring, run_id, settings
        )
        counts, events = batch.counts(stored, quarantined)
        outcomes = quarantine.outcomes(batch.events.by_id, stored.loaded, stored.rejects)
        drain.budget.check(outcomes, stored.rejects)
        checks = quarantine.check_counts(stored.rejects)
        findings = Findings(checks, batch.unknown_fields, batch.notes)
        drain.share.run.add(connection, counts, findings, events)
        note(Totals(counts, findings, batches=1, events=events, tables=stored.tables))
