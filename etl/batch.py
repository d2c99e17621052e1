"""One batch: its messages are read, checked and masked, and then loaded in one transaction.

Its rows may be for several tables. Then it has a part for each of them, and all else is of the
batch as a whole: one ledger, one quarantine, one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from etl import extract, fingerprints, mask, parts, validate
from etl.checks import batches
from etl.config import BatchCheck, Settings
from etl.crypto.keyring import Keyring
from etl.errors import CheckRaised
from etl.fieldtypes import needs_exact_numbers
from etl.frames import Note, rejects
from etl.parts import BatchId, Part, Stored
from etl.postgres.event_counts import EventCounts
from etl.postgres.findings import Check, Findings, without_personal_names
from etl.reading.events import Events
from etl.reading.reader import EventReader
from etl.reading.routing import routing
from etl.reading.table_fields import table_fields
from etl.reading.without import take_out
from etl.runs import Counts
from etl.schema import STAGING
from etl.sqs.message import Message
from etl.validate import FrameSchema


@dataclass(frozen=True)
class Batch:
    """The messages of one transaction: read, checked and masked."""

    events: Events
    parts: list[Part]  # one for each table, in the order of the settings
    rejects: pd.DataFrame  # message_id, column, check; of all parts, and of none
    unknown_fields: Counter[str | None]  # messages by field that no column reads, see extract.py
    notes: Counter[Note]  # messages by what was changed or warned of, see validate.py

    @property
    def masked(self) -> pd.DataFrame:
        """The masked rows of a job with one table."""
        (part,) = self.parts
        return part.masked

    @property
    def fingerprints(self) -> dict[str, tuple[str, ...]]:
        """Those of all parts, by message id."""
        return {key: value for part in self.parts for key, value in part.fingerprints.items()}

    @property
    def broken(self) -> list[tuple[Part, BatchCheck]]:
        """The checks of a whole batch that its parts fail and that stop a run."""
        return [(part, check) for part in self.parts for check in part.broken]

    @property
    def broken_checks(self) -> Counter[Check]:
        """Its messages by each check of the whole batch that stops the run."""
        found = Counter[Check]()
        for part, check in self.broken:
            found[batches.BATCH, check.name] += part.messages
        return found

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


def prepare(
    messages: Sequence[Message] | Events,
    settings: Settings,
    schema: FrameSchema | Sequence[FrameSchema],
    keyring: Keyring,
    run_id: str,
) -> Batch:
    """Read, check and mask: everything before the database.

    :param messages: or their events, if they were taken out of them before
    :param schema: of the table, or one for each table of the job, in the order of the settings
    :param run_id: for a column that holds it
    """
    reader = EventReader(settings)
    events = messages if isinstance(messages, Events) else reader.events(messages)
    each = settings.of_each_table()
    unknown = Counter[str]()
    raws, unreadable = extract.read_each(
        events.readable,
        [table_fields(one, run_id) for one in each],
        routing(settings.routes),
        dropped=[*settings.event.drop, *([settings.routes.by] if settings.routes else [])],
        unwrap=reader.unwrap,
        unknown_fields=settings.event.unknown_fields,
        exact_numbers=any(needs_exact_numbers(c) for one in each for c in one.table.columns),
        unknown=unknown,
    )
    schemas = [schema] if isinstance(schema, FrameSchema) else schema
    notes = Counter[Note]()
    of_each = enumerate(zip(each, raws, schemas, strict=True))
    prepared = [
        _part(number, one, raw, of_table, keyring, events, reader.unwrap, notes)
        for number, (one, raw, of_table) in of_each
    ]
    return Batch(
        events=events,
        parts=prepared,
        rejects=pd.concat(
            [rejects(events.rejects), unreadable, *(part.rejects for part in prepared)],
            ignore_index=True,
        ),
        unknown_fields=without_personal_names(unknown, events.readable_messages),
        notes=notes,
    )


def _part(
    number: int,
    settings: Settings,
    raw: pd.DataFrame,
    schema: FrameSchema,
    keyring: Keyring,
    events: Events,
    unwrap: Callable[[Message], str] | None,
    notes: Counter[Note],
) -> Part:
    """Check and mask the rows of one table; *notes* get what was changed or warned of."""
    table = settings.table
    # What could not be read belongs to the one table, but to none of several.
    messages = len(events.by_id) if settings.routes is None else len(raw)
    keys, unidentified = fingerprints.make(
        events.readable,
        raw,
        settings.ledger,
        keyring,
        job=settings.job_name,
        table=None if settings.routes is None else table.full_name,
        other_names=settings.other_names.get(settings.ledger.field or "", ()),
        unwrap=unwrap,
    )
    raw = take_out(raw, settings.hidden_within)
    try:
        valid, invalid = validate.split(raw, schema, table.columns, notes)
    except CheckRaised as error:
        if settings.routes is None:
            raise
        raise CheckRaised(f"{table.full_name}: {error}") from None
    broken = batches.broken(table, valid, messages)
    warned = [check.name for check in broken if check.severity == "warn"]
    notes.update({(batches.BATCH, name): messages for name in warned})
    return Part(
        table=table,
        staging=f"{STAGING}_{number}" if number else STAGING,
        masked=mask.columns(valid, keyring, mask.masking_plan(table)),
        rejects=pd.concat([unidentified, invalid], ignore_index=True),
        fingerprints=keys,
        messages=messages,
        broken=[check for check in broken if check.severity == "stop"],
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
    """Stage the rows, claim the ids, and move the rows of new messages to their tables.

    All of it happens in the caller's transaction, for all tables.

    :param max_rejects: give up when the database refuses more rows of a part than this
    :param claim: tells which of the batch's ids are new
    :param tries_all: see :class:`etl.postgres.bisection.Trial`
    :raises DatabaseRefused: no row is accepted, and that is the table's or the job's fault
    """
    connection.exec_driver_sql("set constraints all immediate")
    staged = [
        parts.stage(connection, part, settings.load, max_rejects, tries_all=tries_all)
        for part in batch.parts
        if len(part.masked)
    ]
    fresh = batch.events.of_new_messages(claim(batch.events.claims))
    rejected = pd.concat([batch.rejects, *(each.refused for each in staged)], ignore_index=True)
    rejected_ids = {*rejected["message_id"]}
    loaded: list[str] = []
    tables: set[str] = set()
    for each in staged:
        ids = [i for i in each.part.masked["message_id"] if i in fresh and i not in rejected_ids]
        moved, refused = each.merge(ids, batch_id)
        rejected = pd.concat([rejected, refused], ignore_index=True)
        loaded += moved
        tables.update([each.part.table.full_name] if moved else ())
    return Stored(
        loaded=loaded,
        # Not isin(), which would make an array of all ids for the few rejects.
        rejects=rejected.loc[[message_id in fresh for message_id in rejected["message_id"]]],
        empty=[message_id for message_id in batch.events.empty if message_id in fresh],
        doubts=[doubt for each in staged if (doubt := each.doubt())],
        updated=sum(each.trial.updated for each in staged),
        skipped=sum(each.trial.skipped for each in staged),
        tables=frozenset(tables),
    )
