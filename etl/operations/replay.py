"""Puts quarantined messages through the same stages again, once their fault has been corrected.

A replay has its own row in ``etl.runs``: there it has received the messages that it tried, and
quarantined those that stay. Rows, ledger, tombstones and counts commit together, one page of
entries at a time. Entries are locked, so each message counts once, however many replays run at once
and wherever one of them is killed.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import sqlalchemy as sa

from etl import ledger, quarantine
from etl.aws.objects import MAX_READS
from etl.batch import Batch, prepare, store
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.errors import EtlError
from etl.operations.entries import (
    PAGE_ENTRIES,
    QuarantineEntry,
    Selection,
    as_message,
    check_job,
    close,
    count_masked,
    id_pages,
    read_open,
    superseded,
    unseal_entries,
    update_reasons,
)
from etl.operations.masked_before import check_masking
from etl.parts import BatchId, Stored
from etl.postgres import first_use, jobs
from etl.postgres.engine import transaction
from etl.postgres.findings import Findings
from etl.postgres.row_key import check_tokens_of_key
from etl.postgres.sign_of_life import signs_of_life
from etl.postgres.sqlstate import no_row_refused_at_commit
from etl.postgres.target import check_target
from etl.reading.reader import EventReader
from etl.runs import Counts, Run, Summary, Totals
from etl.sqs.limits import Stop
from etl.validate import FrameSchema, frame_schemas

log = logging.getLogger(__name__)

REPLAYED = "replayed"  # the stop reason


def replay(
    settings: Settings,
    engine: sa.Engine,
    keyring: Keyring,
    selection: Selection,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Summary:
    """Load the messages that pass now; those that fail again stay, with their new reasons.

    Each entry of this job is tried once. Entries that another replay has locked are left to it.

    :param environment: has the AWS variables, for a job whose messages point to bodies in S3

    :raises ConfigurationError: nothing was tried: an entry belongs to another job, or a field that
        was masked when the entry was quarantined would be stored as it came
    :raises DatabaseRefused: the database refuses a statement
    :raises DatabaseUnavailable: an outage; committed pages stay, the other entries are unchanged
    :raises PayloadsUnavailable: the same, of S3
    :raises PayloadsRefused: S3 refuses a body
    """
    began = time.monotonic()
    siv.check_vectors()
    reader = _reader(settings, environment)
    for table in settings.tables:
        check_target(engine, table, is_run=False)
        check_tokens_of_key(engine, table, keyring.primary, keyring.key_ids)
    # The message of a sample is still in the queue, and a run will load it from there.
    selection = replace(selection, job=settings.job_name, samples=False)
    check_job(engine, selection)
    with transaction(engine) as connection:
        ever_masked = jobs.masked_fields(connection, settings.job_name)
    check_masking(settings, count_masked(engine, selection), ever_masked)
    run = Run(str(uuid.uuid4()), settings.config_hash, "replay")
    run.start(engine, settings, lambda connection: first_use.record(connection, settings, keyring))
    try:
        with signs_of_life(settings.database, run.run_id):
            findings = _replay_pages(settings, engine, keyring, run, selection, reader)
    except EtlError as error:
        with contextlib.suppress(EtlError):
            _finish(run, engine, error.stop_reason, str(error), error.exit_code)
        raise
    counts, batches = _finish(run, engine, REPLAYED)
    return Summary(
        run_id=run.run_id,
        counts=counts,
        events=run.committed_events(engine),
        reasons=quarantine.reasons(findings.checks),
        notes=quarantine.reasons(findings.notes),
        stop_reason=REPLAYED,
        seconds=(seconds := round(time.monotonic() - began, 3)),
        work_seconds=seconds,
        batches=batches,
    )


def _finish(
    run: Run, engine: sa.Engine, stop_reason: str, problem: str | None = None, exit_code: int = 0
) -> tuple[Counts, int]:
    # Read from the database: a COMMIT whose reply was lost has its counts there, but not here.
    counts, batches = run.committed(engine)
    run.finish(engine, Totals(counts, batches=batches), stop_reason, problem, exit_code)
    return counts, batches


def _reader(settings: Settings, environment: Mapping[str, str]) -> EventReader:
    """Read entries as a run reads messages. An outage of S3 is not waited out: rows are locked."""
    if settings.queue.payloads == "none":
        return EventReader(settings)
    from etl.reading.payloads import open_payloads

    return EventReader(settings, open_payloads(settings.queue, environment, Stop(), 0))


def _replay_pages(
    settings: Settings,
    engine: sa.Engine,
    keyring: Keyring,
    run: Run,
    selection: Selection,
    reader: EventReader,
) -> Findings:
    """Replay all entries, page by page; returns what was found, of the checks those that stay."""
    schemas = frame_schemas(settings)
    findings = Findings()
    # Each of the entries may be a pointer to a large body.
    max_entries = PAGE_ENTRIES if settings.queue.payloads == "none" else MAX_READS
    pages = id_pages(engine, selection, settings.batch.bytes, max_entries)
    for number, page in enumerate(pages, 1):
        with no_row_refused_at_commit(), transaction(engine) as connection:
            entries = read_open(connection, page, lock=True)
            # Not those of events that this replay has put there itself.
            entries = [entry for entry in entries if str(entry.run_id) != run.run_id]
            # Again, for entries that came since, from a run with another configuration.
            masked = Counter(tuple(entry.masked_fields) for entry in entries)
            ever_masked = jobs.masked_fields(connection, settings.job_name)
            check_masking(settings, masked, ever_masked)
            found = _replay(connection, settings, schemas, keyring, run, number, entries, reader)
            findings = findings.plus(found)
    return findings


def _replay(
    connection: sa.Connection,
    settings: Settings,
    schemas: list[FrameSchema],
    keyring: Keyring,
    run: Run,
    number: int,
    entries: list[QuarantineEntry],
    reader: EventReader,
) -> Findings:
    """Replay one page in the caller's transaction; returns what its messages had."""
    unsealed = unseal_entries(entries, keyring)
    tried = _entries_to_try(unsealed)
    messages = [
        as_message(entry, body)
        for entry, body in unsealed
        if body is not None and tried[entry.message_id] is entry
    ]
    batch = prepare(reader.events(messages), settings, schemas, keyring, run.run_id)
    batch_id = BatchId(run.run_id, number)
    claimed: set[str] = set()

    def claim(ids: list[str]) -> set[str]:
        # Entries are nearly always in the ledger, from the run that quarantined them. The events of
        # a message that could not be split then are not.
        claimed.update(ledger.claim(connection, ids, *batch_id))
        entry_ids = [entry.quarantine_id for entry in tried.values()]
        return claimed.union(tried) - superseded(connection, entry_ids, run.run_id)

    # Entries that are refused stay, and those of the next page get their turn.
    stored = store(connection, batch, settings, batch_id, len(messages), claim, tries_all=True)
    # The events of a message that is split only now get entries of their own.
    is_new = [message_id not in tried for message_id in stored.rejects["message_id"]]
    new = stored.rejects.loc[is_new]
    quarantine.store(connection, new, batch.events.by_id, keyring, run.run_id, settings)
    kept = _settle(connection, tried, stored, batch)
    # Ids that this replay claimed for entries that stay are taken out of the ledger again. With
    # them in it, a later replay would conclude that another run has handled the message.
    ledger.free(connection, claimed & kept, run.run_id)
    counts, events = batch.counts(stored, stored.rejects["message_id"].nunique())
    not_tried = len(entries) - len(tried)
    counts = counts.plus(Counts(received=not_tried, quarantined=not_tried))
    checks = quarantine.check_counts(stored.rejects)
    findings = Findings(checks, batch.unknown_fields, batch.notes)
    run.add(connection, counts, findings, events)
    return findings


def _entries_to_try(
    unsealed: Sequence[tuple[QuarantineEntry, str | None]],
) -> dict[str, QuarantineEntry]:
    """Choose, by message id, the entry to try among those that could be opened.

    If two entries hold the same message, the first is tried. Either would do, because the ledger
    then shows that the other is handled.
    """
    for entry, body in unsealed:
        if body is None:
            log.warning("entry %d cannot be opened with this keyring", entry.quarantine_id)
    return {entry.message_id: entry for entry, body in reversed(unsealed) if body is not None}


def _settle(
    connection: sa.Connection, tried: dict[str, QuarantineEntry], stored: Stored, batch: Batch
) -> set[str]:
    """Close the entries that are finished; returns the ids of the messages that stay.

    A message that is split now is finished: each event is loaded, or has an entry of its own.
    """
    reasons = quarantine.by_message(stored.rejects)
    split = batch.events.messages_of(reasons.keys() - tried.keys())
    reasons = {message_id: new for message_id, new in reasons.items() if message_id in tried}
    loaded = batch.events.messages_of(stored.loaded) | split
    close(connection, {tried[message_id].quarantine_id for message_id in loaded}, "replayed")
    update_reasons(
        connection,
        {tried[message_id].quarantine_id: new for message_id, new in reasons.items()},
    )
    others = [
        entry.quarantine_id for message_id, entry in tried.items() if message_id not in reasons
    ]
    close(connection, others, "already handled")
    return set(reasons)
