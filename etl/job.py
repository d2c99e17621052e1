"""The job from Python: settings in, summary out, for a schedule, a Lambda or a notebook.

from etl import config, job
summary = job.run(config.load(Path("config.yaml"), os.environ), os.environ)
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping

import sqlalchemy as sa

from etl import ledger, worker, worker_pool
from etl.backoff import Backoff
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import load_keyring
from etl.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, EtlError
from etl.postgres.engine import open_engine, transaction
from etl.postgres.tables import check_tables, create_tables
from etl.runs import Run, Summary
from etl.sqs.limits import Stop
from etl.sqs.queue import open_queue
from etl.worker import Result, Share, Watch

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    stop: Stop | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Drain the queue once.

    With ``run.workers`` above 1 the work is done in as many processes, which read the keyring from
    their own environment, the one that this process was started with.

    :param environment: where the keyring comes from
    :param stop: to ask for an early end from a signal handler or another thread
    :param watch: called with a function that tells where the run stands, and the queue; the
        context manager that it returns spans the run
    :returns: the summary; its ``exit_code`` is 0 when the run ended as it should
    :raises ConfigurationError: nothing was received
    :raises Outage: the database or the queue was away from the beginning; nothing was received
    """
    began = time.monotonic()
    stop = stop or Stop()
    siv.check_vectors()
    keyring = load_keyring(environment)
    queue = open_queue(settings.queue)
    worker.visibility_seconds(queue)
    engine = open_engine(settings.database)
    one_run = Run(str(uuid.uuid4()), settings.fingerprint)
    try:
        _begin(settings, engine, one_run, stop)
        allowed = worker.quota(settings.run.max_messages)
        if settings.run.workers == 1:
            share = Share(one_run)
            result = worker.work(settings, keyring, queue, share, allowed, stop, watch)
        else:
            result = worker_pool.work(settings, queue, one_run, allowed, stop, watch, engine)
        return _finish(settings, engine, one_run, result, began)
    finally:
        engine.dispose()


def _begin(settings: Settings, engine: sa.Engine, one_run: Run, stop: Stop) -> None:
    """Make and check the tables and enter the run, waiting out an outage of the database."""
    backoff = Backoff(settings.database.retry_seconds, lambda: stop.give_back)
    while True:
        try:
            if settings.database.create_tables:
                create_tables(engine, settings.table)
            check_tables(engine, settings.table)
            one_run.start(engine)
        except DatabaseUnavailable as error:
            if stop.give_back:
                raise
            backoff.pause(error)
        except DatabaseRefused as error:
            # Nothing was received yet, so it is a matter of the configuration.
            raise ConfigurationError(str(error)) from None
        else:
            return


def _finish(
    settings: Settings, engine: sa.Engine, one_run: Run, result: Result, began: float
) -> Summary:
    problem, exit_code = result.problem, result.exit_code
    try:
        one_run.finish(engine, result.counts, result.batches, result.stop_reason)
        _prune(engine, settings.ledger.retention_days)
    except EtlError as error:
        log.error("the run's row in etl.runs could not be finished: %s", error)  # noqa: TRY400
        problem, exit_code = problem or str(error), exit_code or error.exit_code
    return Summary(
        run_id=one_run.run_id,
        counts=result.counts,
        reasons=dict(result.reasons.most_common()),
        stop_reason=result.stop_reason,
        seconds=round(time.monotonic() - began, 3),
        batches=result.batches,
        exit_code=exit_code,
        problem=problem,
        not_acknowledged=result.not_acknowledged,
    )


def _prune(engine: sa.Engine, retention_days: int) -> None:
    with transaction(engine) as connection:
        gone = ledger.prune(connection, retention_days)
    if gone:
        log.info("forgot %d message ids older than %d days", gone, retention_days)
