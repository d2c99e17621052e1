"""One worker: a consumer and a database connection around the loop of pipeline.py."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

from etl import ledger, pipeline
from etl.config import Settings
from etl.errors import (
    ConfigurationError,
    EtlError,
    LeftMessages,
    NotReconciled,
    Outage,
)
from etl.postgres.engine import open_engine
from etl.postgres.watchdog import Watchdog
from etl.preflight import Ready, check_keys_and_queue, prepare_database
from etl.quarantine import Budget
from etl.runs import Share, WorkerResult
from etl.sqs.consumer import open_consumer
from etl.sqs.limits import Stop
from etl.sqs.quota import Quota
from etl.workers.interpreter import tune_interpreter
from etl.workers.snapshot import ProgressDisplay, Snapshot

log = logging.getLogger(__name__)


def work(
    settings: Settings,
    ready: Ready,
    share: Share,
    quota: Quota,
    stop: Stop,
    watch: ProgressDisplay | None = None,
) -> WorkerResult:
    """Drain the queue until one of the limits is reached.

    An :class:`EtlError` during the drain is in the result, not raised.
    """
    consumer = open_consumer(settings, ready.queue, ready.queue_state, stop, quota)
    limit = settings.database.answer_seconds
    engine = open_engine(settings.database, max_seconds=limit)
    drain = pipeline.Drain(
        settings=settings,
        consumer=consumer,
        engine=engine,
        watchdog=Watchdog(engine, limit),
        keyring=ready.keyring,
        share=share,
        pruner=ledger.Pruner(engine, settings.job_name, settings.ledger.retention_days),
        budget=Budget(settings.quarantine),
        payloads=ready.payloads,
    )
    # Where SQS says that messages wait, the stages are loaded before the first of them is received.
    if ready.queue_state.visible:
        drain.load_stages()
    try:
        with watch(lambda: _snapshot(drain, quota), ready.queue) if watch else nullcontext():
            problem = _run(drain)
    finally:
        engine.dispose()
    return _result(drain, problem)


def work_in_own_process(
    settings: Settings,
    share: Share,
    quota: Quota,
    stop: Stop,
    watch: ProgressDisplay,
    *,
    environment: Mapping[str, str],
) -> WorkerResult:
    """Do :func:`work` in a process that does nothing else, and has checked nothing yet.

    The process has loaded the keyring itself, so it is compared with its first use once more.

    :param environment: as of :func:`etl.job.run`
    :raises ConfigurationError: nothing was received
    :raises QueueUnavailable: SQS was away for longer than the configuration allows
    :raises DatabaseUnavailable: so was the database
    """
    tune_interpreter()
    ready = check_keys_and_queue(settings, environment, stop)
    engine = open_engine(settings.database)
    try:
        prepare_database(settings, engine, ready.keyring, share.run, stop)
    finally:
        engine.dispose()
    return work(settings, ready, share, quota, stop, watch)


def _snapshot(drain: pipeline.Drain, quota: Quota) -> Snapshot:
    consumer = drain.consumer
    # In this order: each number that is read later includes all of those read before it, so that
    # nothing seems to be missing in between.
    counts = drain.totals.counts
    handled = counts.loaded + counts.already_handled + counts.quarantined
    released = consumer.released
    loading = consumer.workload.taken - handled
    return Snapshot(
        received=consumer.received,
        loaded=counts.loaded,
        already_handled=counts.already_handled,
        quarantined=counts.quarantined,
        released=released,
        loading=loading,
        to_delete=consumer.workload.to_delete,
        work_seconds=consumer.workload.work.seconds,
        quota_left=quota.left,
        seconds_left=consumer.stop.seconds_left,
        needed_visibility=consumer.needed_visibility,
        not_acknowledged=consumer.not_acknowledged,
        oldest_sent_ms=consumer.arrivals.oldest_sent_ms,
        updated=counts.updated,
        skipped=counts.skipped,
        checks=drain.totals.findings.checks,
    )


def _run(drain: pipeline.Drain) -> EtlError | None:
    """Run the loop; return what ended it early."""
    with drain.consumer:
        try:
            pipeline.run(drain)
        except EtlError as error:
            # The message is ours and complete; a traceback would add nothing.
            log.error("%s", error)  # noqa: TRY400
            drain.consumer.stop.request(error.stop_reason, release_rest=True)
            return error
    return None


def _result(drain: pipeline.Drain, problem: EtlError | None) -> WorkerResult:
    # Two independent numbers: the receiver counted what came, the loop what became of it.
    consumer = drain.consumer
    counts = replace(drain.totals.counts, received=consumer.received, released=consumer.released)
    if not counts.adds_up:
        problem = NotReconciled(
            f"received {counts.received} but accounted for {counts.accounted}: this is a bug; "
            "nothing is lost, since only handled messages are deleted"
        )
        log.error("%s", problem)
    problem = problem or consumer.left
    return WorkerResult(
        totals=replace(drain.totals, counts=counts),
        stop_reason=_stop_reason(consumer.stop, problem),
        not_acknowledged=consumer.not_acknowledged,
        problem=str(problem) if problem else None,
        exit_code=_exit_code(problem),
        work=consumer.workload.work,
    )


def _exit_code(problem: EtlError | None) -> int:
    # A configuration that became wrong after the preflight, such as a changed password: by now
    # messages may have been received.
    if isinstance(problem, ConfigurationError):
        return 1
    return problem.exit_code if problem else 0


def _stop_reason(stop: Stop, problem: EtlError | None) -> str:
    """What ended the run. An outage did not, if the run would have waited it out but for a stop."""
    if problem is None or isinstance(problem, LeftMessages | Outage):
        return str(stop.reason)
    return problem.stop_reason
