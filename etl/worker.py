"""One worker: its receiver, heartbeat and connections around the loop of pipeline.py."""

from __future__ import annotations

import gc
import logging
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from etl import pipeline
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import ConfigurationError, EtlError, NotReconciled, QueueRefused
from etl.postgres.engine import open_engine
from etl.postgres.watchdog import Watchdog
from etl.runs import Counts, Run, Snapshot
from etl.schema import frame_schema
from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, NoQuota, Quota, SharedQuota, Stop
from etl.sqs.queue import Queue
from etl.sqs.receiver import Receiver

log = logging.getLogger(__name__)

Watch = Callable[[Callable[[], Snapshot], Queue], AbstractContextManager[None]]


@dataclass(frozen=True)
class Share:
    """A worker's part of a run: batches are numbered apart, so that the ledger can tell them."""

    run: Run
    index: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Result:
    """How a worker ended."""

    counts: Counts
    stop_reason: str
    reasons: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    not_acknowledged: int = 0
    problem: str | None = None
    exit_code: int = 0


def limits(settings: Settings) -> Limits:
    """The receiver's limits from the settings."""
    run, batch = settings.run, settings.batch
    idle = math.inf if run.forever else run.idle_seconds
    return Limits(
        rows=batch.rows,
        bytes=batch.bytes,
        seconds=batch.seconds,
        idle_seconds=idle,
        max_seconds=run.max_seconds,
        # A poll longer than the idle time would only delay the end of the run.
        wait_seconds=min(settings.queue.wait_seconds, max(1, int(min(idle, 20)))),
        retry_seconds=settings.queue.retry_seconds,
    )


def quota(max_messages: int | None) -> Quota:
    """The budget of a run from its setting."""
    return NoQuota() if max_messages is None else SharedQuota(max_messages)


@contextmanager
def threads(count: int) -> Iterator[tuple[Executor, Executor]]:
    """Make the threads that talk to SQS when the receivers do not, and one that waits for them."""
    with (
        ThreadPoolExecutor(count, "acknowledge") as pool,
        ThreadPoolExecutor(1, "background") as background,
    ):
        yield pool, background


def visibility_seconds(queue: Queue) -> int:
    """Ask for the queue's visibility timeout, before anything is received.

    :raises ConfigurationError: it is 0, or there is no such queue, no permission, no credentials
    :raises QueueUnavailable: SQS does not answer for now
    """
    try:
        seconds = queue.state().visibility_seconds
    except QueueRefused as error:
        raise ConfigurationError(f"{error}; check 'queue.url' and the AWS variables") from None
    if seconds < 1:
        raise ConfigurationError(
            "the queue's visibility timeout is 0 s, so every message would come again at once; "
            "set it to 30 s or more"
        )
    return seconds


def work(
    settings: Settings,
    keyring: Keyring,
    queue: Queue,
    share: Share,
    allowed: Quota,
    stop: Stop,
    watch: Watch | None = None,
) -> Result:
    """Drain the queue until one of the limits; never raises an EtlError, but tells it."""
    began = time.monotonic()
    engine = open_engine(settings.database)
    heartbeat = Heartbeat(queue, visibility_seconds(queue))
    receivers = settings.queue.receivers
    with threads(receivers) as (pool, background):
        errands = CallQueue(pool, receivers)
        receiver = Receiver(queue, heartbeat, limits(settings), receivers, stop, allowed, errands)
        drain = pipeline.Drain(
            settings=settings,
            queue=queue,
            heartbeat=heartbeat,
            receiver=receiver,
            stop=stop,
            pool=pool,
            errands=errands,
            background=background,
            engine=engine,
            patience=Watchdog(engine, settings.database.answer_seconds),
            keyring=keyring,
            schema=frame_schema(settings.table.columns),
            run=share.run,
            number=lambda batches: batches * share.workers + share.index + 1,
        )
        try:
            with watch(lambda: _snapshot(drain, began), queue) if watch else nullcontext():
                problem = _drain(drain)
        finally:
            engine.dispose()
    return _result(drain, problem)


def _snapshot(drain: pipeline.Drain, began: float) -> Snapshot:
    return Snapshot(
        received=drain.receiver.received,
        loaded=drain.counts.loaded,
        already_handled=drain.counts.already_handled,
        quarantined=drain.counts.quarantined,
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
        # The message is ours and whole; a traceback would add nothing.
        log.error("%s", error)  # noqa: TRY400
        problem = error
    finally:
        # Also when a bug ended the loop: nothing should wait out its timeout.
        drain.stop.request("error")
        pipeline.give_back(drain, drain.receiver.end())
        drain.heartbeat.stop()
    return problem


def _result(drain: pipeline.Drain, problem: EtlError | None) -> Result:
    # Two independent numbers: the receiver counted what came, the loop what became of it.
    counts = replace(drain.counts, received=drain.receiver.received)
    if not counts.adds_up:
        problem = NotReconciled(
            f"received {counts.received} but accounted for {counts.accounted}: this is a bug; "
            "nothing is lost, since only handled messages are deleted"
        )
        log.error("%s", problem)
    return Result(
        counts=counts,
        stop_reason=problem.stop_reason if problem else drain.stop.reason or "idle",
        reasons=drain.reasons,
        batches=drain.batches,
        not_acknowledged=drain.not_acknowledged,
        problem=str(problem) if problem else None,
        exit_code=problem.exit_code if problem else 0,
    )


# At 5 ms, the default, threads with an answer at hand take the interpreter from each other in the
# middle of their work.
SWITCH_SECONDS = 0.05

# New objects before a collection, and collections before the next generation is looked at. With
# the defaults the collector walks a batch again and again while it gathers.
COLLECT = (50_000, 20, 100)


def tune_interpreter() -> None:
    """Set the interpreter of this process, once its libraries are imported."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(*COLLECT)
    # What the libraries made stays; no collection needs to look at it.
    gc.collect()
    gc.freeze()
