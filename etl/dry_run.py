"""A run that takes nothing: receive, check, mask, show, release."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from etl import pipeline, worker
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import load_keyring
from etl.quarantine import reason_counts
from etl.runs import Counts, Summary
from etl.schema import frame_schema
from etl.sqs.acknowledge import release
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Stop
from etl.sqs.queue import Message, open_queue
from etl.sqs.receiver import Receiver


@dataclass(frozen=True)
class DryRun:
    """What a run would do: the summary, and the first masked rows."""

    summary: Summary
    masked: pd.DataFrame


def dry_run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    show_rows: int = 10,
) -> DryRun:
    """Receive, check and mask; release everything; write nothing, and need no database.

    Stops after one batch unless the settings say ``run.max_messages``. A receive counts towards the
    queue's ``maxReceiveCount`` all the same.

    :raises ConfigurationError: nothing was received
    """
    stop = stop or Stop()
    siv.check_vectors()
    keyring = load_keyring(environment)
    queue = open_queue(settings.queue)
    heartbeat = Heartbeat(queue, worker.visibility_seconds(queue))
    receiver = Receiver(
        queue,
        heartbeat,
        worker.limits(settings),
        settings.queue.receivers,
        stop,
        worker.quota(settings.run.max_messages or settings.batch.rows),
    )
    schema = frame_schema(settings.table.columns)
    would, reasons = Counts(), Counter[str]()
    shown: list[pd.DataFrame] = []
    held: list[Message] = []
    began = time.monotonic()
    heartbeat.start()
    receiver.start()
    with worker.threads(settings.queue.receivers) as (pool, _):
        try:
            while (messages := receiver.take()) is not None:
                # Held to the end: what is released at once would be received again at once.
                held += messages
                batch = pipeline.prepare(messages, settings, schema, keyring)
                reasons.update(reason_counts(batch.rejects))
                would.loaded += len(batch.masked)
                would.quarantined += batch.rejects["message_id"].nunique()
                shown.append(batch.masked.head(show_rows))
                for message in messages:
                    message.body = ""  # seen; what is held to the end is small
        finally:
            stop.request("error")
            held += receiver.end()
            release(queue, heartbeat, held, pool)
            heartbeat.stop()
    receiver.raise_error()
    summary = Summary(
        run_id="",
        counts=Counts(received=receiver.received, released=sum(m.deliveries for m in held)),
        would=would,
        reasons=dict(reasons.most_common()),
        stop_reason=stop.reason or "",
        seconds=round(time.monotonic() - began, 3),
    )
    rows = pd.concat(shown).head(show_rows) if shown else pd.DataFrame()
    return DryRun(summary, rows)
