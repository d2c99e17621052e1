"""A look at the queue: receive, check, mask, show, release.

Each look counts towards the queue's ``maxReceiveCount``, and at the end of it SQS moves a message
to the dead-letter queue, whoever received it. So a look leaves enough receives for the run.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from etl.batch import prepare
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import LastReceives, UsageError
from etl.operations import looks
from etl.parts import Stored
from etl.postgres import first_use
from etl.postgres.event_counts import EventCounts
from etl.postgres.findings import Findings
from etl.postgres.variables import with_database_url
from etl.preflight import check_keys_and_queue, warn_of_dead_letters
from etl.quarantine import check_counts, reasons
from etl.reading.events import Events
from etl.reading.reader import EventReader
from etl.runs import Counts, Summary
from etl.sqs.consumer import Consumer, open_consumer
from etl.sqs.limits import Stop
from etl.sqs.message import Message
from etl.sqs.quota import open_quota
from etl.sqs.remainder import ask_what_is_left
from etl.sqs.run_limits import run_limits
from etl.validate import FrameSchema, frame_schemas

log = logging.getLogger(__name__)

# After a look a message has this many receives left: one for a run that fails, and one for the run
# that loads it.
RECEIVES_TO_LEAVE = 2
# A long poll of this length asks all servers of SQS. Then the queue's own count decides.
IDLE_SECONDS = 1.0


@dataclass(frozen=True)
class DryRun:
    """What a run would do: the summary, and the first masked rows."""

    summary: Summary
    by_table: dict[str, pd.DataFrame]  # in the order of the settings

    @property
    def masked(self) -> pd.DataFrame:
        """The first masked rows of all tables together."""
        frames = [frame for frame in self.by_table.values() if len(frame)]
        return pd.concat(frames) if frames else pd.DataFrame()


@dataclass
class _Findings:
    """What the dry run has seen so far."""

    planned: Counts = field(default_factory=Counts)  # what a run would have done
    events: EventCounts = field(default_factory=EventCounts)
    released: Findings = field(default_factory=Findings)
    first_rows: dict[str, list[pd.DataFrame]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    @property
    def receive_count(self) -> int | None:
        """How often a message was received, at the most; None if SQS did not say."""
        return max((message.receive_count for message in self.messages), default=0) or None


def dry_run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    show_rows: int = 10,
    use_last_receives: bool = False,
) -> DryRun:
    """Receive, check and mask, then release everything. Needs no database.

    If there is a database, keyring and contexts must be those of their first use. Only a look that
    is given up is written there, to ``etl.runs``: it has used a receive, and so would the next one.

    Stops after one batch unless ``run.max_messages`` is set, and as soon as nothing follows the
    messages that it has or the queue says that it is empty, even if ``run.forever`` is set.

    :param environment: as of :func:`etl.job.run`
    :param use_last_receives: look also at messages of which SQS allows few further receives
    :raises ConfigurationError: nothing was received
    :raises QueueUnavailable: SQS was away from the beginning; nothing was received
    :raises LastReceives: the look was given up at its first messages
    :raises LeftMessages: somebody ended the release early
    """
    settings = with_database_url(settings, environment)
    stop = stop or Stop()
    stop.request_after(settings.run.max_seconds)
    ready = check_keys_and_queue(settings, environment, stop)
    schemas = frame_schemas(settings)
    is_open = first_use.check_if_reachable(settings, ready.keyring, lambda: stop.ends_retries)
    warn_of_dead_letters(ready)
    # A wrong password that is sent again may lock the account.
    if is_open and not use_last_receives:
        looks.check_earlier(settings, lambda: stop.ends_retries)
    maximum = ready.queue_state.max_receive_count
    to_leave = 0 if use_last_receives else RECEIVES_TO_LEAVE
    if maximum is not None and 1 + to_leave > maximum:
        raise UsageError(
            f"the queue's maxReceiveCount is {maximum}, so a look leaves a message too few "
            "receives: SQS would move it to the dead-letter queue after one failed run; to look "
            "all the same, add --use-last-receives"
        )
    # One thread: it must not receive more messages before it has seen the counts of the first.
    one_receiver = {"queue": settings.queue.model_copy(update={"max_receivers": 1})}
    settings = settings.model_copy(update=one_receiver)
    quota = open_quota(settings.run.max_messages or settings.batch.rows)
    limits = run_limits(settings, ready.queue.is_fifo, ready.queue_state.visibility_seconds)
    limits = replace(
        limits,
        idle_seconds=min(settings.run.idle_seconds, IDLE_SECONDS),
        receives_to_leave=to_leave,
        grows=False,
        hide_seconds=0,  # it has no other workers
        # What a FIFO queue does not deliver are the next messages of the groups held here.
        undelivered_seconds=0 if ready.queue.is_fifo else settings.run.idle_seconds,
    )
    consumer = open_consumer(settings, ready.queue, ready.queue_state, stop, quota, limits)
    findings = _Findings()
    began = time.monotonic()
    with consumer:
        try:
            reader = EventReader(settings, ready.payloads)
            _try_batches(consumer, settings, reader, schemas, ready.keyring, findings, show_rows)
        finally:
            consumer.release(findings.messages)
    try:
        consumer.raise_error()
    except LastReceives as error:
        looks.note_refused(settings, consumer, findings.released, error)
        raise
    if consumer.left is not None:
        raise consumer.left
    summary = Summary(
        run_id="",
        counts=Counts(received=consumer.received, released=consumer.released),
        would=findings.planned,
        events=findings.events,
        reasons=reasons(findings.released.checks),
        notes=reasons(findings.released.notes),
        stop_reason=stop.reason or "idle",
        seconds=round(time.monotonic() - began, 3),
        work_seconds=round(consumer.workload.work.seconds, 3),
        waiting_seconds=round(consumer.workload.work.waiting_seconds, 3),
        receive_count=findings.receive_count,
        max_receive_count=maximum,
        dead_letters=None if consumer.received else ready.dead_letters(),
        left=None if stop.release_rest else ask_what_is_left(ready.queue),
    )
    return DryRun(
        summary,
        {table: pd.concat(rows).head(show_rows) for table, rows in findings.first_rows.items()},
    )


def _try_batches(
    consumer: Consumer,
    settings: Settings,
    reader: EventReader,
    schemas: list[FrameSchema],
    keyring: Keyring,
    findings: _Findings,
    show_rows: int,
) -> None:
    while (messages := consumer.take()) is not None:
        # Held to the end: a message released now would be received again at once.
        findings.messages += messages
        limits = settings.batch
        for part in reader.parts(messages, limits.rows, limits.bytes):
            _try(part, settings, schemas, keyring, findings, show_rows)
        for message in messages:
            message.body = ""  # no longer needed; saves memory until the end
        # Not a break: what is being received now must be held too, or it would come again.
        if settings.run.max_messages is None:
            consumer.stop.request("one batch")
        elif consumer.is_quiet:
            # The queue's own count may be minutes old, and still have the messages held here.
            consumer.stop.request("idle")


def _try(
    part: Events,
    settings: Settings,
    schemas: list[FrameSchema],
    keyring: Keyring,
    findings: _Findings,
    show_rows: int,
) -> None:
    batch = prepare(part, settings, schemas, keyring, run_id=str(uuid.uuid4()))
    loaded: list[str] = []
    for of_table in batch.parts:
        ids = of_table.masked["message_id"]
        rows = of_table.masked[~ids.isin(batch.rejects["message_id"])]
        loaded += rows["message_id"].tolist()
        first_rows = findings.first_rows.setdefault(of_table.table.full_name, [])
        first_rows.append(rows.head(show_rows))
    planned = Stored(loaded, batch.rejects, batch.events.empty)
    counts, events = batch.counts(planned, batch.rejects["message_id"].nunique())
    findings.planned = findings.planned.plus(counts)
    findings.events = findings.events.plus(events)
    found = batch.findings(check_counts(batch.rejects) + batch.broken_checks)
    findings.released = findings.released.plus(found)
