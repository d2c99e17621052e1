"""One worker: a consumer and a database connection around the loop of pipeline.py."""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from etl import pipeline
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import EtlError, NotReconciled
from etl.postgres.engine import open_engine
from etl.postgres.watchdog import Watchdog
from etl.preflight import visibility_seconds
from etl.runs import Share, Snapshot, WorkerResult
from etl.schema import frame_schema
from etl.sqs.consumer import Consumer
from etl.sqs.limits import Limits, Quota, Stop
from etl.sqs.queue import Queue

log = logging.getLogger(__name__)

Watch = Callable[[Callable[[], Snapshot], Queue], AbstractContextManager[None]]

# With Python's default of 5 ms, threads that have an answer take the interpreter away from each
# other in the middle of their work.
SWITCH_SECONDS = 0.05

# Objects made before a collection, and collections before the next generation is examined. With
# Python's defaults, the collector walks a batch again and again while it is being gathered.
COLLECT_AFTER = (50_000, 20, 100)


def limits(settings: Settings) -> Limits:
    """The consumer's limits from the settings."""
    run = settings.run
    batch = settings.batch
    idle_seconds = math.inf if run.forever else run.idle_seconds
    return Limits(
        rows=batch.rows,
        bytes=batch.bytes,
        seconds=batch.seconds,
        idle_seconds=idle_seconds,
        max_seconds=run.max_seconds,
        # A poll longer than the idle time would only delay the end of the run.
        wait_seconds=min(settings.queue.wait_seconds, max(1, int(min(idle_seconds, 20)))),
        retry_seconds=settings.queue.retry_seconds,
    )


def work(
    settings: Settings,
    keyring: Keyring,
    queue: Queue,
    share: Share,
    quota: Quota,
    stop: Stop,
    watch: Watch | None = None,
) -> WorkerResult:
    """Drain the queue until one of the limits is reached.

    An :class:`EtlError` does not leave here: the result tells it.
    """
    began = time.monotonic()
    receivers = settings.queue.receivers
    consumer = Consumer(queue, visibility_seconds(queue), limits(settings), receivers, stop, quota)
    engine = open_engine(settings.database)
    job = pipeline.Drain(
        settings=settings,
        consumer=consumer,
        engine=engine,
        watchdog=Watchdog(engine, settings.database.answer_seconds),
        keyring=keyring,
        schema=frame_schema(settings.table.columns),
        share=share,
    )
    try:
        with watch(lambda: _snapshot(job, began), queue) if watch else nullcontext():
            problem = _drain(job)
    finally:
        engine.dispose()
    return _result(job, problem)


def work_in_own_process(*arguments: Any) -> WorkerResult:
    """Do :func:`work` in a process that does nothing else."""
    tune_interpreter()
    return work(*arguments)


def tune_interpreter() -> None:
    """Set up Python's interpreter for a batch job, once its libraries are imported.

    The defaults suit a program that must answer quickly. This one has a few threads, of which one
    computes and the others wait for answers, and it makes thousands of objects that live until the
    end of their batch.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT_AFTER)
    # What the libraries made stays, so no collection needs to examine it.
    gc.collect()
    gc.freeze()


def _snapshot(job: pipeline.Drain, began: float) -> Snapshot:
    counts = job.totals.counts
    return Snapshot(
        received=job.consumer.received,
        loaded=counts.loaded,
        already_handled=counts.already_handled,
        quarantined=counts.quarantined,
        buffered=job.consumer.buffered,
        seconds=time.monotonic() - began,
    )


def _drain(job: pipeline.Drain) -> EtlError | None:
    """Run the loop; return what ended it early."""
    with job.consumer:
        try:
            pipeline.drain(job)
        except EtlError as error:
            # The message is ours and complete; a traceback would add nothing.
            log.error("%s", error)  # noqa: TRY400
            return error
    return None


def _result(job: pipeline.Drain, problem: EtlError | None) -> WorkerResult:
    # Two independent numbers: the receiver counted what came, the loop what became of it.
    consumer = job.consumer
    counts = replace(job.totals.counts, received=consumer.received, released=consumer.released)
    if not counts.adds_up:
        problem = NotReconciled(
            f"received {counts.received} but accounted for {counts.accounted}: this is a bug; "
            "nothing is lost, since only handled messages are deleted"
        )
        log.error("%s", problem)
    return WorkerResult(
        totals=replace(job.totals, counts=counts),
        stop_reason=problem.stop_reason if problem else consumer.stop.reason or "idle",
        not_acknowledged=consumer.not_acknowledged,
        problem=str(problem) if problem else None,
        exit_code=problem.exit_code if problem else 0,
    )
