"""The parent of the workers: starts them, forwards a stop to all of them, and hears how they end.

The parent receives nothing itself. A worker that dies is reported. Its messages come back by
themselves, and the ledger knows what it had committed. In a run that goes on forever it is
replaced, since nobody else would do so. A bounded run ends with exit code 1, and its schedule
starts the next one.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe, wait
from typing import Any

import sqlalchemy as sa

from etl.config import Settings
from etl.errors import EtlError, UsageError
from etl.runs import Run, Share, WorkerResult
from etl.sqs import visibility
from etl.sqs.limits import Phase, Stop
from etl.sqs.queue import Queue
from etl.text import counted
from etl.workers.fork_server import ForkServer
from etl.workers.process import REPORT_SECONDS, Order
from etl.workers.restarts import MAX_PAUSE_SECONDS, WINDOW_SECONDS, Restarts
from etl.workers.results import DIED, Worker, WorkTogether, sum_results, sum_snapshots
from etl.workers.snapshot import ProgressDisplay, Snapshot

log = logging.getLogger(__name__)

NOTE_SECONDS = 1.0  # between two looks at how long the workers worked


def run_workers(
    settings: Settings,
    queue: Queue,
    run: Run,
    server: ForkServer,
    stop: Stop,
    watch: ProgressDisplay | None,
    engine: sa.Engine,
) -> WorkerResult:
    """Drain the queue with ``settings.run.workers`` processes; return how they ended together.

    :param watch: as of :func:`etl.job.run`
    :param server: starts the processes; it is closed at the end
    """
    pool = _Pool(settings, run, server, stop, engine, queue)
    try:
        for index in range(settings.run.workers):
            pool.start(index)
        with watch(lambda: sum_snapshots(pool.all), queue) if watch else nullcontext():
            pool.listen()
    finally:
        pool.close()
    result = sum_results(pool.ended, run, engine, stop, pool.gave_up)
    return replace(result, work=pool.work_together.work(pool.all))


def check_may_start_processes() -> None:
    """Check that this process may start workers; multiprocessing would fail in the middle of a run.

    :raises UsageError: it is itself starting, or a daemon
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        raise UsageError(
            "run.workers above 1 starts processes that import the main module, and importing it "
            "starts a run: put the call under if __name__ == '__main__':"
        )
    if process.daemon:
        raise UsageError(
            "a daemonic process, such as a worker of a multiprocessing.Pool, may not start others: "
            "set run.workers to 1"
        )


def first_batch(committed: int, replaced: int) -> int:
    """Where a worker that replaces another one begins to count its batches.

    Each worker that died may have one more batch on its way, which is committed only later.

    :param committed: batches of the run so far
    :param replaced: workers that were replaced before this one
    """
    return committed + replaced + 1


@dataclass
class _Pool:
    """The workers of a run, and those that will replace dead ones."""

    settings: Settings
    run: Run
    server: ForkServer
    stop: Stop
    engine: sa.Engine
    queue: Queue
    all: list[Worker] = field(default_factory=list)  # that were ever started
    ended: list[Worker] = field(default_factory=list)
    work_together: WorkTogether = field(default_factory=WorkTogether)
    gave_up: str | None = None  # why no more workers are started
    _open: dict[Any, Worker] = field(default_factory=dict)  # by pipe
    _due: dict[int, float] = field(default_factory=dict)  # indexes to start again, and when
    _told: Order | None = None
    _replaced: int = 0  # workers so far
    _noted_at: float = 0.0  # monotonic seconds
    _has_warned: bool = False

    def __post_init__(self) -> None:
        self._restarts = Restarts(self.settings.run.workers)

    def start(self, index: int, first_batch: int = 0) -> None:
        """Start a worker."""
        if not self.server.is_alive:
            self.server.close()
            self.server = ForkServer(self.server.quota, self.server.work_alone)
        parent_end, worker_end = Pipe()
        share = Share(self.run, index, self.settings.run.workers, self.stop.ends_at, first_batch)
        process = self.server.start(self.settings, share, worker_end)
        worker_end.close()
        worker = Worker(index, process, parent_end)
        self.all.append(worker)
        self._open[parent_end] = worker

    def close(self) -> None:
        """End what is left of the run, if this process was interrupted, and wait for its end."""
        for worker in self.all:
            worker.pipe.close()
        self.server.close()

    def listen(self) -> None:
        """Read the workers' reports until all have ended; forward a stop in both directions."""
        while self._open or self._due:
            self._note_work()
            self._forward_stop()
            self._start_due()
            for pipe in wait(list(self._open), REPORT_SECONDS):
                worker = self._open[pipe]
                try:
                    report = worker.pipe.recv()
                except (EOFError, OSError):
                    del self._open[pipe]
                    self._note_end(worker)
                    continue
                if isinstance(report, Snapshot):
                    worker.snapshot = report
                    self._warn_of_visibility(report.needed_visibility)
                else:
                    worker.result = report
                    if report.exit_code:
                        # What stopped one worker would stop the others, batch by batch.
                        self.stop.request(report.stop_reason, release_rest=True)
        self._note_work()

    def _note_work(self) -> None:
        now = time.monotonic()
        if now - self._noted_at >= NOTE_SECONDS or not self._open:
            self._noted_at = now
            self.work_together.note([worker.work_seconds for worker in self.all])

    def _warn_of_visibility(self, needed_seconds: int) -> None:
        """Say once for all workers that the visibility timeout is too short."""
        if needed_seconds and not self._has_warned:
            self._has_warned = True
            visibility.warn(self.queue.url, needed_seconds)

    def _forward_stop(self) -> None:
        stop = self.stop
        if stop.reason is None:
            return
        self._due.clear()
        if stop.release_rest:
            # From now on a signal is for the workers, which know what they are doing.
            stop.phase = Phase.RELEASING
        order = Order(stop.reason, stop.release_rest, stop.leave_rest, stop.leave_hint)
        if order != self._told:
            self._told = order
            for worker in self._open.values():
                try:
                    worker.pipe.send(order)
                except OSError:
                    log.debug("worker %d has ended already", worker.index)

    def _note_end(self, worker: Worker) -> None:
        worker.process.join()
        worker.has_ended()
        self.ended.append(worker)
        is_wanted = self.settings.run.forever and self.stop.reason is None
        if worker.result is not None:
            # A worker that got a signal of its own has ended cleanly, and is missing all the same.
            if is_wanted and worker.result.stop_reason == "SIGTERM":
                self._replace(worker, "was ended by SIGTERM")
            return
        if self.stop.leave_rest:
            log.warning("worker %d was ended at once", worker.index)
        elif is_wanted:
            self._replace(worker, f"died {worker.how_it_died}")
        else:
            log.error(
                "worker %d died %s; SQS will deliver its messages again",
                worker.index,
                worker.how_it_died,
            )

    def _replace(self, worker: Worker, what: str) -> None:
        now = time.monotonic()
        pause = self._restarts.died(now)
        if pause is None:
            self.gave_up = (
                f"{counted(len(self._restarts), 'worker')} died within {WINDOW_SECONDS / 60:g} "
                f"minutes, and the last one {what}"
            )
            log.error("%s; the run ends", self.gave_up)
            self.stop.request(DIED, release_rest=True)
            return
        worker.is_replaced = True
        self._due[worker.index] = now + pause
        log.error(
            "worker %d %s and is replaced in %g s; what it held comes back after the visibility "
            "timeout",
            worker.index,
            what,
            pause,
        )

    def _start_due(self) -> None:
        now = time.monotonic()
        for index in [index for index, due_at in self._due.items() if due_at <= now]:
            try:
                _, batches = self.run.committed(self.engine)
            except EtlError as error:
                log.warning("cannot replace worker %d yet: %s", index, error)
                self._due[index] = now + MAX_PAUSE_SECONDS
                continue
            del self._due[index]
            self.start(index, first_batch(batches, self._replaced))
            self._replaced += 1
