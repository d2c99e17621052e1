"""Entries of the quarantine through the same stages once more, after what was wrong is mended.

A replay is a run of its own in ``etl.runs``: it has received what it took out of the quarantine,
and quarantined again what stays there. Row, ledger, tombstone and counts commit together, a page of
entries at a time; the locked entry is what makes each message count once, however many replays work
at once and wherever one of them is killed.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter

import sqlalchemy as sa

from etl import ledger, pipeline, quarantine
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused
from etl.operations import entries
from etl.operations.entries import QuarantineEntry, Selection
from etl.pipeline import BatchId, Stored
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import check_tables
from etl.runs import Counts, Run, Summary, Totals
from etl.schema import frame_schema

log = logging.getLogger(__name__)


def replay(settings: Settings, engine: sa.Engine, keyring: Keyring, chosen: Selection) -> Summary:
    """Load what passes now; what fails again stays, with its new reasons.

    Each entry is tried once. What another replay holds is left to it.

    :raises ConfigurationError: nothing was tried
    :raises DatabaseRefused: the database refuses a statement
    :raises DatabaseUnavailable: an outage; what was committed is done, the rest is as it was
    """
    began = time.monotonic()
    siv.check_vectors()
    check_tables(engine, settings.table)
    run = Run(str(uuid.uuid4()), settings.fingerprint, "replay")
    run.start(engine)
    schema, reasons = frame_schema(settings.table.columns), Counter[str]()
    for number, page in enumerate(entries.pages(engine, chosen, settings.batch.bytes), 1):
        try:
            with transaction(engine) as connection:
                taken = entries.read(connection, page, lock=True)
                reasons.update(_replay(connection, settings, schema, keyring, run, number, taken))
        except RowRefused as error:
            raise DatabaseRefused(
                f"the database refuses a row only at COMMIT ({error.check}); "
                "make the constraint immediate"
            ) from None
    # Not added up here: a reply to COMMIT may have been lost, its counts not.
    counts, batches = run.committed(engine)
    run.finish(engine, Totals(counts, batches=batches), "replayed")
    return Summary(
        run_id=run.run_id,
        counts=counts,
        reasons=dict(reasons.most_common()),
        stop_reason="replayed",
        seconds=round(time.monotonic() - began, 3),
        batches=batches,
    )


def _replay(
    connection: sa.Connection,
    settings: Settings,
    schema: object,
    keyring: Keyring,
    run: Run,
    number: int,
    taken: list[QuarantineEntry],
) -> dict[str, int]:
    """Do one page's transaction; returns the messages that stay by reason."""
    found = entries.opened(taken, keyring)
    for entry, body in found:
        if body is None:
            log.warning("entry %d cannot be opened with this keyring", entry.quarantine_id)
    # Of two entries of one message the first: whichever it is, the ledger then tells of the other.
    tried = {entry.message_id: entry for entry, body in reversed(found) if body is not None}
    messages = [
        entries.message(entry, body)
        for entry, body in found
        if body is not None and tried[entry.message_id] is entry
    ]
    batch = pipeline.prepare(messages, settings, schema, keyring)
    place, claimed = BatchId(run.run_id, number), set[str]()

    def claim(ids: list[str]) -> set[str]:
        # Nearly always the ledger has them, from the run that quarantined them.
        claimed.update(ledger.claim(connection, ids, *place))
        numbers = [tried[message_id].quarantine_id for message_id in ids]
        return set(ids) - entries.superseded(connection, numbers, run.run_id)

    stored = pipeline.store(connection, batch, settings, place, len(messages), claim)
    kept = _settle(connection, tried, stored)
    # As if it had not been tried: else a later replay would take this run for another one's.
    ledger.free(connection, claimed & kept)
    loaded, stay = len(stored.loaded), len(kept) + len(taken) - len(tried)
    run.add(
        connection,
        Counts(len(taken), loaded, len(taken) - loaded - stay, stay),
    )
    return quarantine.reason_counts(stored.rejects)


def _settle(
    connection: sa.Connection, tried: dict[str, QuarantineEntry], stored: Stored
) -> set[str]:
    """Close the entries that are done with; returns the messages whose entries stay."""
    reasons = quarantine.by_message(stored.rejects)
    done = {tried[message_id].quarantine_id for message_id in stored.loaded}
    entries.close(connection, done, "replayed")
    entries.keep(connection, {tried[each].quarantine_id: why for each, why in reasons.items()})
    others = [one.quarantine_id for each, one in tried.items() if each not in reasons]
    entries.close(connection, others, "already handled")
    return set(reasons)
