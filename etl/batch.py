"""One batch: its messages are read, checked and masked, and then loaded in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from etl import extract, fingerprints, ledger, load, mask, validate
from etl.checks import batches
from etl.config import BatchCheck, Settings
from etl.crypto.keyring import Keyring
from etl.fieldtypes import needs_exact_numbers
from etl.frames import Note, rejects
from etl.postgres import conflicts, verdict
from etl.postgres.bisection import NoRowTaken, Trial
from etl.postgres.event_counts import EventCounts
from etl.postgres.findings import Check, Findings, without_personal_names
from etl.reading.events import Events
from etl.reading.reader import EventReader
from etl.reading.sources import values_of_messages
from etl.reading.without import take_out
from etl.runs import Counts
from etl.sqs.message import Message


@dataclass(frozen=True)
class Batch:
    """The messages of one transaction: read, checked and masked."""

    events: Events
    masked: pd.DataFrame  # may hold rows of messages that are also in rejects
    rejects: pd.DataFrame  # message_id, column, check
    # By message id; empty if ``ledger.key`` is message_id.
    fingerprints: dict[str, fingerprints.Fingerprints]
    broken: list[BatchCheck]  # the checks of the whole batch that it fails and that stop a run
    unknown_fields: Counter[str | None]  # messages by field that no column reads, see extract.py
    notes: Counter[Note]  # messages by what was changed or warned of, see validate.py

    @property
    def broken_checks(self) -> Counter[Check]:
        """Its messages by each check of the whole batch that stops the run."""
        messages = len(self.events.by_id)
        return Counter({(batches.BATCH, check.name): messages for check in self.broken})

    def findings(self, checks: Counter[Check]) -> Findings:
        """What its messages had, with the checks that they failed."""
        return Findings(checks, self.unknown_fields, self.notes)

    @property
    def deliveries(self) -> int:
        """Deliveries of all messages together."""
        return sum(message.deliveries for message in self.events.messages)

    def counts(self, stored: Stored, quarantined: int) -> tuple[Counts, EventCounts]:
        """What became of the deliveries and, if messages are split, of their events.

        A message counts as loaded if one of its events is, otherwise as quarantined if one is.

        :param quarantined: entries of the quarantine
        """
        loaded = len(stored.loaded)
        events = EventCounts()
        if self.events.are_split:
            events = EventCounts(
                loaded=loaded,
                already_handled=len(self.events.by_id) - loaded - quarantined,
                quarantined=quarantined,
                empty_messages=len(stored.empty),
            )
            with_loaded = self.events.messages_of(stored.loaded)
            with_rejects = self.events.messages_of(stored.rejects["message_id"])
            loaded = len(with_loaded)
            quarantined = len(with_rejects - with_loaded)
        counts = Counts(
            received=self.deliveries,
            loaded=loaded,
            quarantined=quarantined,
            already_handled=self.deliveries - loaded - quarantined,
            updated=stored.updated,
            skipped=stored.skipped,
        )
        return counts, events


class BatchId(NamedTuple):
    """How the ledger recognises a batch."""

    run_id: str
    number: int  # within the run


@dataclass(frozen=True)
class Stored:
    """The batch's new messages: loaded, or rejected.

    A message in neither was handled before, under its id or another key.
    """

    loaded: list[str]  # event ids
    rejects: pd.DataFrame
    empty: list[str]  # ids of new messages without an event
    doubt: verdict.Doubt | None = None
    refused: set[str] = field(default_factory=set)  # ids of messages whose rows were refused
    updated: int = 0  # of the loaded ones, those whose row has replaced another one
    skipped: int = 0  # of the loaded ones, those whose row was kept out by another one


def prepare(
    messages: Sequence[Message] | Events,
    settings: Settings,
    schema: Any,
    keyring: Keyring,
    run_id: str,
) -> Batch:
    """Read, check and mask: everything before the database.

    :param messages: or their events, if they were taken out of them before
    :param run_id: for a column that holds it
    """
    reader = EventReader(settings)
    events = messages if isinstance(messages, Events) else reader.events(messages)
    unknown = Counter[str]()
    raw, unreadable = extract.read(
        events.readable,
        settings.event_fields,
        of_messages=values_of_messages(settings.table.columns, run_id),
        other_names=settings.other_names,
        dropped=settings.event.drop,
        unwrap=reader.unwrap,
        unknown_fields=settings.event.unknown_fields,
        exact_numbers=any(map(needs_exact_numbers, settings.table.columns)),
        unknown=unknown,
    )
    keys, unidentified = fingerprints.make(
        events.readable,
        raw,
        settings.ledger,
        keyring,
        job=settings.job_name,
        other_names=settings.other_names.get(settings.ledger.field or "", ()),
        unwrap=reader.unwrap,
    )
    raw = take_out(raw, settings.hidden_within)
    notes = Counter[Note]()
    valid, invalid = validate.split(raw, schema, settings.table.columns, notes)
    broken = batches.broken(settings.table, valid, len(events.by_id))
    warned = [check.name for check in broken if check.severity == "warn"]
    notes.update({(batches.BATCH, name): len(events.by_id) for name in warned})
    return Batch(
        events=events,
        masked=mask.columns(valid, keyring, mask.masking_plan(settings.table)),
        rejects=pd.concat(
            [rejects(events.rejects), unreadable, unidentified, invalid], ignore_index=True
        ),
        fingerprints=keys,
        broken=[check for check in broken if check.severity == "stop"],
        unknown_fields=without_personal_names(unknown, events.readable_messages),
        notes=notes,
    )


def store(
    connection: sa.Connection,
    batch: Batch,
    settings: Settings,
    batch_id: BatchId,
    max_rejects: int,
    claim: Callable[[list[str]], set[str]],
    *,
    tries_all: bool = False,
) -> Stored:
    """Stage the rows, claim the ids, and move the rows of new messages to the target.

    All of it happens in the caller's transaction.

    :param max_rejects: give up when the database refuses more rows than this
    :param claim: tells which of the batch's ids are new
    :param tries_all: see :class:`etl.postgres.bisection.Trial`
    :raises DatabaseRefused: no row is accepted, and that is the table's or the job's fault
    """
    table = settings.table
    trial = Trial(tries_all, cache(partial(conflicts.examined, connection, table)))
    connection.exec_driver_sql("set constraints all immediate")
    try:
        refused = load.stage(connection, batch.masked, table, settings.load, max_rejects)
        fresh = batch.events.of_new_messages(claim(batch.events.claims))
        rejected_ids = {*batch.rejects["message_id"], *refused["message_id"]}
        ids = [i for i in batch.masked["message_id"] if i in fresh and i not in rejected_ids]
        merge = partial(
            load.merge,
            connection,
            table=table,
            staged=len(batch.masked) - len(refused),
            max_rejects=max_rejects,
            trial=trial,
        )
        loaded, broken = _merge(connection, batch, batch_id, ids, merge)
    except NoRowTaken as found:
        raise verdict.table_refused(connection, table, found.refusal) from None
    rejected = pd.concat([batch.rejects, refused, broken], ignore_index=True)
    return Stored(
        loaded=loaded,
        # Not isin(), which would make an array of all ids for the few rejects.
        rejects=rejected.loc[[message_id in fresh for message_id in rejected["message_id"]]],
        empty=[message_id for message_id in batch.events.empty if message_id in fresh],
        doubt=verdict.doubt(connection, trial, table),
        refused=batch.events.messages_of(trial.refused),
        updated=trial.updated,
        skipped=trial.skipped,
    )


def _merge(
    connection: sa.Connection,
    batch: Batch,
    batch_id: BatchId,
    ids: list[str],
    merge: Callable[[list[str]], pd.DataFrame],
) -> tuple[list[str], pd.DataFrame]:
    """Move rows to the target; return the ids of the loaded ones, and the refused rows.

    Of several messages with the same fingerprints only the first is loaded.
    """
    if not batch.fingerprints:
        refusals = merge(ids) if ids else rejects(())
        refused = set(refusals["message_id"])
        return [message_id for message_id in ids if message_id not in refused], refusals
    loaded: list[str] = []
    frames = [rejects(())]
    while ids:
        new = ledger.claim_keys(connection, ids, batch.fingerprints, *batch_id)
        frames.append(merge(new))
        refused = set(frames[-1]["message_id"])
        loaded += [message_id for message_id in new if message_id not in refused]
        freed = {batch.fingerprints[message_id] for message_id in refused}
        free_keys = [key for keys in freed for key in keys]
        ledger.free(connection, free_keys, batch_id.run_id)
        # Another message with the key of a refused row may be good, so it gets its turn.
        ids = [i for i in ids if i not in refused and batch.fingerprints[i] in freed]
    return loaded, pd.concat(frames, ignore_index=True)
