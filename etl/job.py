"""The job from Python: settings in, summary out, for a schedule, a Lambda or a notebook.

from etl import config, job
summary = job.run(config.load(Path("config.yaml"), os.environ), os.environ)
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import sqlalchemy as sa

from etl import keyring as keyrings
from etl import ledger, pipeline, postgres, siv
from etl.acknowledge import release
from etl.backoff import Backoff
from etl.config import Settings
from etl.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    EtlError,
    NotReconciled,
    SettingsError,
)
from etl.heartbeat import Heartbeat
from etl.quarantine import reason_counts
from etl.receiver import Limits, Receiver, Stop
from etl.runs import Counts, Run, Summary
from etl.schema import frame_schema
from etl.sqs import Message, Queue

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

# The read timeout must outlast a long poll, and a call that hangs must not outlast the visibility.
CONNECT_SECONDS, ANSWER_SECONDS = 5, 10


@dataclass(frozen=True)
class Snapshot:
    """Where a run stands, for a progress display."""

    received: int
    loaded: int
    already_handled: int
    quarantined: int
    buffered: int
    seconds: float


Watch = Callable[[Callable[[], Snapshot], Queue], Any]


def sqs_client(settings: Settings) -> SQSClient:
    """Make a boto3 client from the standard AWS variables, with time limits that suit the job.

    :raises QueueRefused: no region is set
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    try:
        return boto3.client(
            "sqs",
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=settings.queue.wait_seconds + ANSWER_SECONDS,
                retries={"mode": "standard", "total_max_attempts": 3},
                # Receivers, acknowledgements and the heartbeat each want a connection.
                max_pool_connections=2 * settings.queue.receivers + 2,
            ),
        )
    except NoRegionError:
        raise SettingsError("no AWS region: set AWS_REGION") from None


def open_queue(settings: Settings) -> Queue:
    """Make the queue of the settings; calls nothing yet.

    :raises SettingsError: no queue URL, or no region
    """
    if not settings.queue.url:
        raise SettingsError("no queue: set 'queue.url' in the configuration, or ETL_QUEUE__URL")
    return Queue(sqs_client(settings), settings.queue.url)


def limits(settings: Settings) -> Limits:
    """The receiver's limits from the settings."""
    run, batch = settings.run, settings.batch
    idle = math.inf if run.forever else run.idle_seconds
    return Limits(
        rows=batch.rows,
        bytes=batch.bytes,
        seconds=batch.seconds,
        idle_seconds=idle,
        max_messages=run.max_messages,
        max_seconds=run.max_seconds,
        # A poll longer than the idle time would only delay the end of the run.
        wait_seconds=min(settings.queue.wait_seconds, max(1, int(min(idle, 20)))),
        retry_seconds=settings.queue.retry_seconds,
    )


def run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Drain the queue once.

    :param environment: where the keyring comes from
    :param stop: to ask for an early end from a signal handler or another thread
    :param watch: called with a function that tells where the run stands, and the queue; the
        context manager that it returns spans the run
    :returns: the summary; its ``exit_code`` is 0 when the run ended as it should
    :raises ConfigurationError: nothing was received
    """
    stop = stop or Stop()
    siv.self_test()
    keyring = keyrings.load(environment)
    queue = open_queue(settings)
    engine = postgres.engine(settings.database)
    one_run = Run(str(uuid.uuid4()), settings.fingerprint)
    try:
        heartbeat = Heartbeat(queue, _visibility_seconds(queue))
        _begin(settings, engine, one_run, stop)
        receiver = Receiver(queue, heartbeat, limits(settings), settings.queue.receivers, stop)
        with _threads(settings.queue.receivers) as (pool, background):
            drain = pipeline.Drain(
                settings, queue, heartbeat, receiver, stop, pool, background, engine, keyring,
                frame_schema(settings.table.columns), one_run,
            )  # fmt: skip
            began = time.monotonic()
            with watch(lambda: _snapshot(drain, began), queue) if watch else nullcontext():
                problem = _drain(drain)
        return _finish(drain, problem, began)
    finally:
        engine.dispose()


@contextmanager
def _threads(count: int) -> Iterator[tuple[Executor, Executor]]:
    with (
        ThreadPoolExecutor(count, "acknowledge") as pool,
        ThreadPoolExecutor(1, "background") as background,
    ):
        yield pool, background


def _begin(settings: Settings, engine: sa.Engine, one_run: Run, stop: Stop) -> None:
    """Make and check the tables and enter the run, waiting out an outage of the database."""
    backoff = Backoff(settings.database.retry_seconds, lambda: stop.give_back)
    while True:
        try:
            if settings.database.create_tables:
                postgres.create_tables(engine, settings.table)
            postgres.check_tables(engine, settings.table)
            one_run.start(engine)
        except DatabaseUnavailable as error:
            if stop.give_back:
                raise
            backoff.pause(error)
        else:
            return


def _visibility_seconds(queue: Queue) -> int:
    seconds = queue.state().visibility_seconds
    if seconds < 1:
        raise ConfigurationError(
            "the queue's visibility timeout is 0 s, so every message would come again at once; "
            "set it to 30 s or more"
        )
    return seconds


def _snapshot(drain: pipeline.Drain, began: float) -> Snapshot:
    counts = drain.counts
    return Snapshot(
        received=drain.receiver.received,
        loaded=counts.loaded,
        already_handled=counts.already_handled,
        quarantined=counts.quarantined,
        buffered=drain.receiver.buffered,
        seconds=time.monotonic() - began,
    )


def _drain(drain: pipeline.Drain) -> EtlError | None:
    """Run the loop, then give back what it did not take; returns what ended it early."""
    problem: EtlError | None = None
    drain.heartbeat.start()
    drain.receiver.start()
    try:
        pipeline.drain(drain)
    except EtlError as error:
        log.error("%s", error)  # noqa: TRY400  (the message is ours and whole; a traceback adds nothing)
        problem = error
    finally:
        # Also when a bug ended the loop: nothing should wait out its timeout.
        drain.stop.request(_reason(problem))
        pipeline.give_back(drain, drain.receiver.end())
        drain.heartbeat.stop()
    return problem


def _reason(problem: EtlError | None) -> str:
    names = {
        "DatabaseUnavailable": "database unavailable",
        "DatabaseRefused": "database refused",
        "QueueUnavailable": "queue unavailable",
        "QueueRefused": "queue refused",
        "QuarantineBudget": "quarantine budget",
    }
    return names.get(type(problem).__name__, "error")


def _finish(drain: pipeline.Drain, problem: EtlError | None, began: float) -> Summary:
    counts = replace(drain.counts, received=drain.receiver.received)
    if not counts.adds_up:
        problem = NotReconciled(
            f"received {counts.received} but accounted for {counts.accounted}: this is a bug; "
            "nothing is lost, since only handled messages are deleted"
        )
        log.error("%s", problem)
    stop_reason = _reason(problem) if problem else drain.stop.reason or "idle"
    try:
        drain.run.finish(drain.engine, counts, drain.batches, stop_reason)
        _prune(drain)
    except EtlError as error:
        log.error("the run's row in etl.runs could not be finished: %s", error)  # noqa: TRY400
        problem = problem or error
    return Summary(
        run_id=drain.run.run_id,
        counts=counts,
        reasons=dict(drain.reasons.most_common()),
        stop_reason=stop_reason,
        seconds=round(time.monotonic() - began, 3),
        batches=drain.batches,
        exit_code=problem.exit_code if problem else 0,
        problem=str(problem) if problem else None,
        not_acknowledged=drain.not_acknowledged,
    )


def _prune(drain: pipeline.Drain) -> None:
    with postgres.transaction(drain.engine) as connection:
        gone = ledger.prune(connection, drain.settings.ledger.retention_days)
    if gone:
        log.info("forgot %d message ids older than %d days",
                 gone, drain.settings.ledger.retention_days)  # fmt: skip


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
    keyring = keyrings.load(environment)
    queue = open_queue(settings)
    heartbeat = Heartbeat(queue, _visibility_seconds(queue))
    most = replace(limits(settings), max_messages=settings.run.max_messages or settings.batch.rows)
    receiver = Receiver(queue, heartbeat, most, settings.queue.receivers, stop)
    schema = frame_schema(settings.table.columns)
    counts, reasons, shown = Counts(), Counter[str](), []
    held: list[Message] = []
    began = time.monotonic()
    heartbeat.start()
    receiver.start()
    with _threads(settings.queue.receivers) as (pool, _):
        try:
            while (messages := receiver.take()) is not None:
                # Held to the end: what is released at once would be received again at once.
                held += messages
                batch = pipeline.prepare(messages, settings, schema, keyring)
                reasons.update(reason_counts(batch.rejects))
                counts.loaded += len(batch.masked)
                counts.quarantined += batch.rejects["message_id"].nunique()
                shown.append(batch.masked.head(show_rows))
        finally:
            stop.request("error")
            held += receiver.end()
            release(queue, heartbeat, held, pool)
            heartbeat.stop()
    receiver.raise_error()
    summary = Summary(
        run_id="",
        counts=Counts(received=receiver.received, released=sum(m.deliveries for m in held)),
        would=counts,
        reasons=dict(reasons.most_common()),
        stop_reason=stop.reason or "",
        seconds=round(time.monotonic() - began, 3),
    )
    rows = pd.concat(shown).head(show_rows) if shown else pd.DataFrame()
    return DryRun(summary, rows)
