"""A run that changes nothing: receive, check, mask, show, release."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from etl import pipeline
from etl.config import Settings
from etl.postgres import first_use
from etl.preflight import Ready, check_keys_and_queue
from etl.quarantine import reason_counts
from etl.runs import Counts, Summary
from etl.sqs.consumer import Consumer, open_consumer
from etl.sqs.limits import Stop, open_quota
from etl.sqs.message import Message


@dataclass(frozen=True)
class DryRun:
    """What a run would do: the summary, and the first masked rows."""

    summary: Summary
    masked: pd.DataFrame


@dataclass
class _Findings:
    """What the dry run has seen so far."""

    planned: Counts = field(default_factory=Counts)  # what a run would have done
    reasons: Counter[str] = field(default_factory=Counter)
    first_rows: list[pd.DataFrame] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)


def dry_run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    show_rows: int = 10,
) -> DryRun:
    """Receive, check and mask, then release everything. Writes nothing and needs no database.

    If there is a database, keyring and contexts must be those of their first use.

    Stops after one batch unless ``run.max_messages`` is set. Each receive still counts towards the
    queue's ``maxReceiveCount``.

    :raises ConfigurationError: nothing was received
    """
    stop = stop or Stop()
    ready = check_keys_and_queue(settings, environment)
    first_use.check_if_reachable(settings, ready.keyring)
    quota = open_quota(settings.run.max_messages or settings.batch.rows)
    consumer = open_consumer(settings, ready.queue, ready.queue_state, stop, quota)
    findings = _Findings()
    began = time.monotonic()
    with consumer:
        try:
            _try_batches(consumer, settings, ready, findings, show_rows)
        finally:
            consumer.release(findings.messages)
    consumer.raise_error()
    summary = Summary(
        run_id="",
        counts=Counts(received=consumer.received, released=consumer.released),
        would=findings.planned,
        reasons=dict(findings.reasons.most_common()),
        stop_reason=stop.reason or "",
        seconds=round(time.monotonic() - began, 3),
    )
    frames = findings.first_rows
    return DryRun(summary, pd.concat(frames).head(show_rows) if frames else pd.DataFrame())


def _try_batches(
    consumer: Consumer, settings: Settings, ready: Ready, findings: _Findings, show_rows: int
) -> None:
    while (messages := consumer.take()) is not None:
        # Held to the end: a message released now would be received again at once.
        findings.messages += messages
        batch = pipeline.prepare(messages, settings, ready.schema, ready.keyring)
        rows = batch.masked[~batch.masked["message_id"].isin(batch.rejects["message_id"])]
        findings.planned.loaded += len(rows)
        findings.planned.quarantined += batch.rejects["message_id"].nunique()
        findings.reasons.update(reason_counts(batch.rejects))
        findings.first_rows.append(rows.head(show_rows))
        for message in messages:
            message.body = ""  # no longer needed; saves memory until the end
