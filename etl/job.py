"""The job from Python: settings in, summary out, for a schedule, a Lambda or a notebook.

from etl import config, job
summary = job.run(config.load(Path("config.yaml"), os.environ), os.environ)
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from contextlib import closing, nullcontext
from functools import partial

import sqlalchemy as sa

from etl import ledger, quarantine, worker
from etl.config import Settings
from etl.errors import EtlError
from etl.monitoring.monitor import Monitor
from etl.postgres.engine import open_engine, transaction
from etl.postgres.sign_of_life import signs_of_life
from etl.postgres.variables import with_database_url
from etl.postgres.watchdog import Watchdog
from etl.preflight import check_keys_and_queue, prepare_database, warn_of_dead_letters
from etl.quarantine import reasons
from etl.runs import Run, Share, Summary, WorkerResult
from etl.sqs.dead_letters import DeadLetters
from etl.sqs.limits import Phase, Stop
from etl.sqs.queue import QueueState
from etl.sqs.quota import open_quota
from etl.sqs.remainder import ask_what_is_left
from etl.workers.fork_server import ForkServer
from etl.workers.pool import check_may_start_processes, run_workers
from etl.workers.snapshot import ProgressDisplay

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    watch: ProgressDisplay | None = None,
    server: ForkServer | None = None,
) -> Summary:
    """Drain the queue once.

    It may be called in any thread, by several threads at once, and inside a running event loop,
    which it blocks (use ``asyncio.to_thread``). It leaves signals, logging and the standard streams
    to the program. If ``run.workers`` is above 1, that many new processes do the work. The one that
    starts them imports the main module, so a script needs ``if __name__ == "__main__":``.

    :param environment: where the keyring, the AWS configuration and DATABASE_URL come from; without
        a DATABASE_URL in it, the one of the settings is used. Settings in it are not read again.
        libpq's own variables, such as PGPASSWORD, are read from the environment of the process.
    :param stop: asks for an early end, from a signal handler or another thread
    :param watch: called with a function that returns the current snapshot, and the queue; the
        context manager that it returns spans the run
    :param server: starts the workers, if there are several; by default a new one. It is closed.
    :returns: the summary; its ``exit_code`` is 0 if the run ended as it should
    :raises ConfigurationError: nothing was received
    :raises Outage: the database or the queue was away from the beginning; nothing was received
    """
    began = time.monotonic()
    with Monitor(settings, environment) as monitor:
        settings = with_database_url(settings, environment)
        if settings.run.workers > 1:
            server = server or open_fork_server(settings, environment)
        stop = stop or Stop()
        stop.request_after(settings.run.max_seconds)
        with closing(server) if server else nullcontext():
            summary = _run(settings, environment, stop, watch, server, monitor, began)
        monitor.ended(summary)
    return summary


def open_fork_server(
    settings: Settings, environment: Mapping[str, str], *, is_fork: bool = False
) -> ForkServer:
    """Start what starts the workers of a run.

    :param environment: as of :func:`run`
    :param is_fork: share what this process has imported; for a program that has no threads yet
    :raises UsageError: this process may not start others, or cannot count messages
    """
    check_may_start_processes()
    work = partial(worker.work_in_own_process, environment=dict(environment))
    return ForkServer(open_quota(settings.run.max_messages), work, is_fork=is_fork)


def _run(
    settings: Settings,
    environment: Mapping[str, str],
    stop: Stop,
    watch: ProgressDisplay | None,
    server: ForkServer | None,
    monitor: Monitor,
    began: float,
) -> Summary:
    ready = check_keys_and_queue(settings, environment, stop)
    monitor.note_queue(ready.queue_state, warn_of_dead_letters(ready))
    watch = monitor.watching(watch)
    engine = open_engine(settings.database)
    watchdog = Watchdog(engine, settings.database.answer_seconds)
    this_run = Run(str(uuid.uuid4()), settings.config_hash)
    try:
        prepare_database(settings, engine, ready.keyring, this_run, stop)
        if monitor.is_on:
            with watchdog.limited():
                monitor.note_ledger(ledger.estimated_ids(engine))
        # Connections may be few: this one would be idle while the workers need theirs.
        engine.dispose()
        with signs_of_life(settings.database, this_run.run_id):
            if server is None:
                quota = open_quota(settings.run.max_messages)
                result = worker.work(settings, ready, Share(this_run), quota, stop, watch)
            else:
                result = run_workers(settings, ready.queue, this_run, server, stop, watch, engine)
            stop.phase = Phase.WORKING
            is_hurried = stop.release_rest or result.stop_reason == "max_seconds"
            # After a problem or a signal, SQS may be away or the process may have little time.
            is_quick = result.exit_code or stop.release_rest
            left = None if is_quick else ask_what_is_left(ready.queue, result.stop_reason)
            # An empty queue may be so because its messages have become dead letters.
            dead_letters = ready.dead_letters() if left is not None and not left.visible else None
            with watchdog.limited():
                summary = _finish(engine, this_run, result, left, dead_letters, began)
        # A stop by a signal or by the clock means that the time is needed for something else.
        if summary.exit_code == 0 and not is_hurried:
            with watchdog.limited():
                _remove_old(settings, engine, stop)
        return summary
    finally:
        engine.dispose()


def _remove_old(settings: Settings, engine: sa.Engine, stop: Stop) -> None:
    """Remove what is older than its retention. After a failure, the next run tries again."""
    pruner = ledger.Pruner(engine, settings.job_name, settings.ledger.retention_days)
    pruner.remove_all(lambda: stop.release_rest or stop.is_time_up)
    try:
        with transaction(engine) as connection:
            quarantine.remove_samples(
                connection, settings.job_name, settings.quarantine.sample_days
            )
    except EtlError as error:
        log.warning("could not remove old samples of refused messages: %s", error)


def _finish(
    engine: sa.Engine,
    this_run: Run,
    result: WorkerResult,
    left: QueueState | None,
    dead_letters: DeadLetters | None,
    began: float,
) -> Summary:
    problem = result.problem
    exit_code = result.exit_code
    try:
        this_run.finish(engine, result.totals, result.stop_reason, problem, exit_code)
    except EtlError as error:
        log.error("the run's row in etl.runs could not be finished: %s", error)  # noqa: TRY400
        problem = problem or str(error)
        exit_code = exit_code or 1
    return Summary(
        run_id=this_run.run_id,
        counts=result.totals.counts,
        events=result.totals.events,
        reasons=reasons(result.totals.findings.checks),
        notes=reasons(result.totals.findings.notes),
        stop_reason=result.stop_reason,
        seconds=round(time.monotonic() - began, 3),
        work_seconds=round(result.work.seconds, 3),
        waiting_seconds=round(result.work.waiting_seconds, 3),
        batches=result.totals.batches,
        exit_code=exit_code,
        problem=problem,
        not_acknowledged=result.not_acknowledged,
        left=left,
        dead_letters=dead_letters,
    )
