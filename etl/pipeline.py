"""The loop: receive, read, check, mask, load in one transaction, and only then acknowledge."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from etl import extract, fingerprints, ledger, load, mask, quarantine, validate
from etl.backoff import Backoff
from etl.config import Settings, Table
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, DatabaseUnavailable, QuarantineBudget
from etl.frames import rejects
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.watchdog import Watchdog
from etl.runs import Counts, Run
from etl.sqs.acknowledge import acknowledge, release
from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Stop
from etl.sqs.queue import Handle, Message, Queue
from etl.sqs.receiver import Receiver

log = logging.getLogger(__name__)


@dataclass
class Batch:
    """One batch on its way: its messages, its masked rows, its rejects."""

    messages: dict[str, Message]
    masked: pd.DataFrame
    rejects: pd.DataFrame  # message_id, column, check
    keys: dict[
        str, fingerprints.Fingerprints
    ]  # by message id; none if ``ledger.key`` is message_id

    @property
    def deliveries(self) -> int:
        """Deliveries behind the messages."""
        return sum(message.deliveries for message in self.messages.values())


class Place(NamedTuple):
    """Where the ledger finds a batch."""

    run_id: str
    number: int  # of the batch in its run


@dataclass(frozen=True)
class Stored:
    """What became of a batch's new messages; what is in neither was handled under another key."""

    loaded: list[str]  # message ids
    rejects: pd.DataFrame


@dataclass(frozen=True)
class Outcome:
    """What a committed batch adds to the run."""

    counts: Counts
    reasons: dict[str, int]


@dataclass
class Drain:
    """All that one run works with, and what it has come to."""

    settings: Settings
    queue: Queue
    heartbeat: Heartbeat
    receiver: Receiver
    stop: Stop
    pool: Executor  # releases
    errands: CallQueue  # acknowledgements, made by the receiver's threads
    background: Executor  # one thread, which waits for the acknowledgements of the batch before
    engine: sa.Engine
    patience: Watchdog  # with that engine
    keyring: Keyring
    schema: Any  # pandera's DataFrameSchema
    run: Run
    number: Callable[[int], int]  # of the next batch, from the batches done; no two in a run alike
    counts: Counts = field(default_factory=Counts)
    reasons: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    not_acknowledged: int = 0


def drain(job: Drain) -> None:
    """Load batch after batch until the receiver has no more.

    :raises Stopped: the run cannot go on
    :raises Outage: a service was away for longer than the configuration allows
    """
    acknowledging: Future[int] | None = None
    try:
        while (handled := _load_next(job)) is not None:
            # The acknowledgements of one batch overlap with the loading of the next one.
            _settle(job, acknowledging)
            acknowledging = job.background.submit(
                acknowledge, job.queue, job.heartbeat, handled, job.errands
            )
    finally:
        _settle(job, acknowledging)
    job.receiver.raise_error()


def _load_next(job: Drain) -> list[Handle] | None:
    """Load a batch; returns what to acknowledge, or None when there is no more.

    A function of its own, so that nothing of a batch stays in memory while the next one gathers.
    """
    messages = job.receiver.take()
    if messages is None:
        return None
    try:
        batch = prepare(messages, job.settings, job.schema, job.keyring)
        outcome = _load_patiently(job, batch)
    except BaseException:
        give_back(job, messages)
        raise
    job.batches += 1
    job.counts = job.counts.plus(outcome.counts)
    job.reasons.update(outcome.reasons)
    return [Handle(message.message_id, message.receipt_handle) for message in messages]


def _settle(job: Drain, acknowledging: Future[int] | None) -> None:
    if acknowledging is not None:
        job.not_acknowledged += acknowledging.result()


def prepare(
    messages: Sequence[Message], settings: Settings, schema: Any, keyring: Keyring
) -> Batch:
    """Read, check and mask: everything before the database."""
    columns = settings.table.columns
    envelope = settings.queue.envelope
    raw, unreadable = extract.read(
        messages,
        settings.event_fields,
        envelope=envelope,
        unknown_fields=settings.event.unknown_fields,
    )
    keys, nameless = fingerprints.make(messages, raw, settings.ledger, keyring, envelope=envelope)
    valid, unfit = validate.split(raw, schema, columns)
    return Batch(
        messages={message.message_id: message for message in messages},
        masked=mask.columns(valid, keyring, masking_plan(settings)),
        rejects=pd.concat([unreadable, nameless, unfit], ignore_index=True),
        keys=keys,
    )


def masking_plan(settings: Settings) -> list[mask.MaskedColumn]:
    """Which columns are masked, into which, under which context."""
    return [
        mask.MaskedColumn(column.source, column.name, column.masking_context)
        for column in settings.table.columns
        if column.mask
    ]


def give_back(job: Drain, messages: Sequence[Message]) -> None:
    """Release messages that will not be loaded in this run."""
    if messages:
        release(job.queue, job.heartbeat, messages, job.pool)
        job.counts.released += sum(message.deliveries for message in messages)


def _load_patiently(job: Drain, batch: Batch) -> Outcome:
    """Load a batch; wait out an outage of the database while the heartbeat keeps the messages."""
    backoff = Backoff(job.settings.database.retry_seconds, lambda: job.stop.give_back)
    attempts: list[Outcome] = []
    while True:
        try:
            _load(job, batch, attempts.append)
        except ledger.CommittedBeforeError:
            # The reply to COMMIT was lost, not the commit: only an attempt that came as far as
            # COMMIT can have claimed these ids, and that is the last one noted.
            log.info("the batch had been committed before the connection was lost")
        except DatabaseUnavailable as error:
            if job.stop.give_back:
                raise
            backoff.pause(error)
            continue
        except RowRefused as error:
            raise DatabaseRefused(
                f"the database refuses a row only at COMMIT ({error.check}); "
                "make the constraint immediate"
            ) from None
        return attempts[-1]


def _load(job: Drain, batch: Batch, note: Callable[[Outcome], None]) -> None:
    """Do one batch's transaction: rows, ledger, quarantine and counts commit together."""
    settings, number = job.settings, job.number(job.batches)
    most = _most_quarantined(job, len(batch.messages))
    with job.patience.limited(), transaction(job.engine) as connection:
        place = Place(job.run.run_id, number)
        stored = store(
            connection,
            batch,
            settings,
            place,
            most,
            lambda ids: ledger.claim(connection, ids, *place),
        )
        quarantined = quarantine.store(
            connection, stored.rejects, batch.messages, job.keyring, job.run.run_id
        )
        loaded = len(stored.loaded)
        counts = Counts(
            received=batch.deliveries,
            loaded=loaded,
            quarantined=quarantined,
            already_handled=batch.deliveries - loaded - quarantined,
        )
        reasons = quarantine.reason_counts(stored.rejects)
        _keep_budget(job, counts, reasons)
        job.run.add(connection, counts)
        note(Outcome(counts, reasons))


def store(
    connection: sa.Connection,
    batch: Batch,
    settings: Settings,
    place: Place,
    most: int,
    claim: Callable[[list[str]], set[str]],
) -> Stored:
    """Stage, claim, merge: the new messages' rows, in the caller's transaction.

    :param most: refused rows at which to give up
    :param claim: says which of the batch's message ids are new
    """
    connection.exec_driver_sql("set constraints all immediate")
    refused = load.stage(connection, batch.masked, settings.table, settings.load, most)
    fresh = claim(list(batch.messages))
    unfit = {*batch.rejects["message_id"], *refused["message_id"]}
    ids = [i for i in batch.masked["message_id"] if i in fresh and i not in unfit]
    staged = len(batch.masked) - len(refused)
    loaded, broken = _merge(connection, batch, settings.table, place, ids, staged, most)
    rejected = pd.concat([batch.rejects, refused, broken], ignore_index=True)
    return Stored(loaded, rejected[rejected["message_id"].isin(fresh)])


def _merge(
    connection: sa.Connection,
    batch: Batch,
    table: Table,
    place: Place,
    ids: list[str],
    staged: int,
    most: int,
) -> tuple[list[str], pd.DataFrame]:
    """Move the rows, of those with one further key the first; returns which, and the refused."""
    loaded: list[str] = []
    refusals = [rejects(())]
    while ids:
        new = ledger.claim_keys(connection, ids, batch.keys, *place) if batch.keys else ids
        broken = load.merge(connection, new, table, staged, most)
        refusals.append(broken)
        refused = set(broken["message_id"])
        loaded += [message_id for message_id in new if message_id not in refused]
        if not batch.keys:
            break
        freed = {batch.keys[message_id] for message_id in refused}
        ledger.free(connection, [key for keys in freed for key in keys])
        # Another message of a refused row's key may be good, so it gets its turn.
        ids = [i for i in ids if i not in refused and batch.keys[i] in freed]
    return loaded, pd.concat(refusals, ignore_index=True)


def _most_quarantined(job: Drain, rows: int) -> int:
    """How many more rejects the budget allows, if all other rows of the batch load."""
    budget = job.settings.quarantine
    seen = job.counts.loaded + job.counts.quarantined + rows
    return max(int(max(seen, budget.min_messages) * budget.max_fraction), 0)


def _keep_budget(job: Drain, counts: Counts, reasons: dict[str, int]) -> None:
    """Stop before a changed producer empties the queue into quarantine.

    :raises QuarantineBudget: with this batch, too many of the run's messages broke a check
    """
    budget = job.settings.quarantine
    quarantined = job.counts.quarantined + counts.quarantined
    seen = job.counts.loaded + counts.loaded + quarantined
    if seen >= budget.min_messages and quarantined > seen * budget.max_fraction:
        often = ", ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:5])
        raise QuarantineBudget(
            f"{quarantined} of {seen} messages broke a check, above quarantine.max_fraction "
            f"{budget.max_fraction:g}; this batch was given back; most often: {often}"
        )
