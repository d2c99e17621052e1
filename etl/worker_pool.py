"""Several workers on one machine: processes that share one run, its row and its quota.

The parent receives nothing itself. Each worker reports its progress to it. The parent forwards a
stop to all of them, and adds up how they ended. A worker that dies is reported. Its messages
come back by themselves, and the ledger knows what it had committed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import reduce
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy as sa

from etl import logs
from etl.config import Settings
from etl.errors import EtlError
from etl.preflight import check_keys_and_queue
from etl.runs import ProgressDisplay, Run, Share, Snapshot, Totals, WorkerResult
from etl.sqs.limits import Quota, Stop
from etl.sqs.queue import Queue

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25  # between two reports of a worker

Work = Callable[..., WorkerResult]  # etl.worker.work, or a function with its parameters


@dataclass
class _Worker:
    """A worker as the parent sees it."""

    index: int
    process: BaseProcess
    pipe: Connection
    snapshot: Snapshot = field(default_factory=Snapshot)
    result: WorkerResult | None = None


def run_workers(
    settings: Settings,
    queue: Queue,
    run: Run,
    quota: Quota,
    stop: Stop,
    watch: ProgressDisplay | None,
    engine: sa.Engine,
    work_alone: Work,
) -> WorkerResult:
    """Drain the queue with ``settings.run.workers`` processes; return how they ended together.

    :param watch: as of :func:`etl.job.run`
    :param work_alone: what each process does
    """
    began = time.monotonic()
    # Spawned, not forked: the libraries have threads of their own, which a fork would lose.
    context = multiprocessing.get_context("spawn")
    workers: list[_Worker] = []
    for index in range(settings.run.workers):
        parent_end, worker_end = context.Pipe()
        share = Share(run, index, settings.run.workers, stop.ends_at)
        process = context.Process(
            target=_run_worker,
            args=(settings, share, quota, worker_end, work_alone),
            name=f"worker-{index}",
        )
        process.start()
        worker_end.close()
        workers.append(_Worker(index, process, parent_end))
    with watch(lambda: _sum_snapshots(workers, began), queue) if watch else nullcontext():
        _listen(workers, stop)
    return _sum_results(workers, run, engine, stop)


def _listen(workers: Sequence[_Worker], stop: Stop) -> None:
    """Read the workers' reports until all have ended; forward a stop in both directions."""
    is_stop_sent = False
    open_pipes: dict[Any, _Worker] = {worker.pipe: worker for worker in workers}
    while open_pipes:
        if stop.reason is not None and not is_stop_sent:
            is_stop_sent = True
            for worker in workers:
                _send_stop(worker, stop.reason, stop.release_rest)
        for pipe in wait(list(open_pipes), REPORT_SECONDS):
            worker = open_pipes[pipe]
            try:
                report = worker.pipe.recv()
            except (EOFError, OSError):
                del open_pipes[pipe]
                _note_end(worker)
                continue
            if isinstance(report, Snapshot):
                worker.snapshot = report
            else:
                worker.result = report
                if report.exit_code:
                    # What stopped one worker would stop the others, batch by batch.
                    stop.request(report.stop_reason, release_rest=True)


def _send_stop(worker: _Worker, reason: str, release_rest: bool) -> None:
    try:
        worker.pipe.send((reason, release_rest))
    except OSError:
        log.debug("worker %d has ended already", worker.index)


def _note_end(worker: _Worker) -> None:
    worker.process.join()
    if worker.result is None:
        code = worker.process.exitcode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        log.error("worker %d died %s; SQS will deliver its messages again", worker.index, how)


def _sum_snapshots(workers: Sequence[_Worker], began: float) -> Snapshot:
    snapshots = [worker.snapshot for worker in workers]
    return Snapshot(
        received=sum(s.received for s in snapshots),
        loaded=sum(s.loaded for s in snapshots),
        already_handled=sum(s.already_handled for s in snapshots),
        quarantined=sum(s.quarantined for s in snapshots),
        buffered=sum(s.buffered for s in snapshots),
        seconds=time.monotonic() - began,
    )


def _sum_results(
    workers: Sequence[_Worker], run: Run, engine: sa.Engine, stop: Stop
) -> WorkerResult:
    results = [worker.result for worker in workers if worker.result is not None]
    problems = [result for result in results if result.exit_code]
    first = (problems or results or [WorkerResult(Totals(), "worker died")])[0]
    total = WorkerResult(
        totals=reduce(Totals.plus, (result.totals for result in results), Totals()),
        stop_reason=first.stop_reason,
        not_acknowledged=sum(result.not_acknowledged for result in results),
    )
    if len(results) < len(workers):
        dead = len(workers) - len(results)
        whose = "its" if dead == 1 else "their"
        problem = (
            f"{dead} of {len(workers)} workers died; SQS will deliver {whose} messages again after "
            "the visibility timeout, so nothing is lost"
        )
        return _add_dead_workers(replace(total, problem=problem, exit_code=1), run, engine)
    if problems:
        worst = max(problems, key=lambda result: result.exit_code)
        return replace(total, problem=worst.problem, exit_code=worst.exit_code)
    return total if stop.reason is None else replace(total, stop_reason=stop.reason)


def _add_dead_workers(total: WorkerResult, run: Run, engine: sa.Engine) -> WorkerResult:
    """Take what dead workers had committed from the run's row, to which each batch adds."""
    try:
        committed, batches = run.committed(engine)
    except EtlError as error:
        log.error("the counts of the dead workers are not known: %s", error)  # noqa: TRY400
        committed = total.totals.counts
        batches = total.totals.batches
    # Releases are not committed with a batch; the living workers reported theirs.
    counts = replace(committed, released=total.totals.counts.released)
    counts.received = counts.accounted
    return replace(
        total,
        totals=replace(total.totals, counts=counts, batches=batches),
        stop_reason="worker died",
    )


def _run_worker(
    settings: Settings, share: Share, quota: Quota, pipe: Connection, work_alone: Work
) -> None:
    """Run one worker: the target of its process."""
    logs.hide_values_in_tracebacks()
    logs.start(settings.log.level, settings.log.format)
    stop = Stop(share.ends_at)
    # Ctrl-C reaches the whole process group; the parent tells us what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.request("SIGTERM", release_rest=True))
    threading.Thread(target=_watch_parent, args=(pipe, stop), name="parent", daemon=True).start()
    try:
        result = work_alone(
            settings,
            check_keys_and_queue(settings, os.environ),
            share,
            quota,
            stop,
            lambda snapshot, _queue: _Reports(pipe, snapshot),
        )
    except EtlError as error:
        result = WorkerResult(
            Totals(), error.stop_reason, problem=str(error), exit_code=error.exit_code
        )
    except Exception as error:  # noqa: BLE001
        # A bug. multiprocessing would print its message, and the values in it.
        sys.stderr.write(logs.places(error))
        sys.exit(1)
    pipe.send(result)


def _watch_parent(pipe: Connection, stop: Stop) -> None:
    """Stop when the parent says so, or when it is gone."""
    try:
        while True:
            reason, release_rest = pipe.recv()
            stop.request(reason, release_rest=release_rest)
    except (EOFError, OSError):
        stop.request("parent process ended", release_rest=True)


class _Reports:
    """Sends the parent a snapshot every ``REPORT_SECONDS``."""

    def __init__(self, pipe: Connection, snapshot: Callable[[], Snapshot]) -> None:
        self._pipe = pipe
        self._snapshot = snapshot
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._report, name="reports")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        # Ended before the result is sent: a pipe takes one sender at a time.
        self._done.set()
        self._thread.join()

    def _report(self) -> None:
        while not self._done.wait(REPORT_SECONDS):
            try:
                self._pipe.send(self._snapshot())
            except OSError:
                return
