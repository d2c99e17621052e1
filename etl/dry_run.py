"""A look at the queue: receive, check, mask, show, release.

Each look counts towards the queue's ``maxReceiveCount``, and at the end of it SQS moves a message
to the dead-letter queue, whoever received it. So a look leaves enough receives for the run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pandas as pd

from etl.batch import prepare
from etl.config import Settings
from etl.errors import UsageError
from etl.postgres import first_use
from etl.preflight import Ready, check_keys_and_queue, warn_of_dead_letters
from etl.quarantine import reason_counts
from etl.runs import Counts, Summary, ask_what_is_left
from etl.sqs.consumer import Consumer, open_consumer
from etl.sqs.limits import Stop, open_quota
from etl.sqs.message import Message
from etl.sqs.run_limits import run_limits

# After a look a message has this many receives left: one for a run that fails, and one for the run
# that loads it.
RECEIVES_TO_LEAVE = 2
# A long poll of this length asks all servers of SQS. Then the queue's own count decides.
IDLE_SECONDS = 1.0


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
    """Receive, check and mask, then release everything. Writes nothing and needs no database.

    If there is a database, keyring and contexts must be those of their first use.

    Stops after one batch unless ``run.max_messages`` is set, and as soon as the queue says that it
    is empty, even if ``run.forever`` is set.

    :param use_last_receives: look also at messages of which SQS allows few further receives
    :raises ConfigurationError: nothing was received
    :raises LastReceives: the look was given up at its first messages
    :raises LeftMessages: somebody ended the release early
    """
    stop = stop or Stop()
    stop.request_after(settings.run.max_seconds)
    ready = check_keys_and_queue(settings, environment)
    first_use.check_if_reachable(settings, ready.keyring, lambda: stop.ends_retries)
    warn_of_dead_letters(ready)
    maximum = ready.queue_state.max_receive_count
    to_leave = 0 if use_last_receives else RECEIVES_TO_LEAVE
    if maximum is not None and 1 + to_leave > maximum:
        raise UsageError(
            f"the queue's maxReceiveCount is {maximum}, so a look leaves a message too few "
            "receives: SQS would move it to the dead-letter queue after one failed run; to look "
            "all the same, add --use-last-receives"
        )
    # One thread: it must not receive more messages before it has seen the counts of the first.
    one_receiver = {"queue": settings.queue.model_copy(update={"receivers": 1})}
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
            _try_batches(consumer, settings, ready, findings, show_rows)
        finally:
            consumer.release(findings.messages)
    consumer.raise_error()
    if consumer.left is not None:
        raise consumer.left
    reason = stop.reason or "idle"
    summary = Summary(
        run_id="",
        counts=Counts(received=consumer.received, released=consumer.released),
        would=findings.planned,
        reasons=dict(findings.reasons.most_common()),
        stop_reason=reason,
        seconds=round(time.monotonic() - began, 3),
        receive_count=findings.receive_count,
        max_receive_count=maximum,
        dead_letters=None if consumer.received else ready.dead_letters(),
        left=None if stop.release_rest else ask_what_is_left(ready.queue),
    )
    frames = findings.first_rows
    return DryRun(summary, pd.concat(frames).head(show_rows) if frames else pd.DataFrame())


def _try_batches(
    consumer: Consumer, settings: Settings, ready: Ready, findings: _Findings, show_rows: int
) -> None:
    while (messages := consumer.take()) is not None:
        # Held to the end: a message released now would be received again at once.
        findings.messages += messages
        batch = prepare(messages, settings, ready.schema, ready.keyring)
        rows = batch.masked[~batch.masked["message_id"].isin(batch.rejects["message_id"])]
        findings.planned.loaded += len(rows)
        findings.planned.quarantined += batch.rejects["message_id"].nunique()
        findings.reasons.update(reason_counts(batch.rejects))
        findings.first_rows.append(rows.head(show_rows))
        for message in messages:
            message.body = ""  # no longer needed; saves memory until the end
        if settings.run.max_messages is None:
            # Not a break: what is being received now must be held too, or it would come again.
            consumer.stop.request("one batch")
