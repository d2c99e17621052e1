"""Several workers on one machine: processes that share one run, its row and its budget.

The parent receives nothing itself. It hears from each worker where it stands, asks all to stop
when it is asked to, and adds up how they ended. A worker that dies is reported; its messages come
back by themselves, and the ledger has what it had committed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy as sa

from etl import logs, worker
from etl.config import Settings
from etl.crypto.keyring import load_keyring
from etl.errors import EtlError
from etl.runs import Counts, Run, Snapshot
from etl.sqs.limits import Quota, Stop
from etl.sqs.queue import Queue, open_queue
from etl.worker import Result, Share, Watch, tune_interpreter

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25  # how often a worker tells where it stands
NOTHING = Snapshot(0, 0, 0, 0, 0, 0.0)


@dataclass
class _Worker:
    """A worker as the parent sees it."""

    index: int
    process: BaseProcess
    pipe: Connection
    snapshot: Snapshot = NOTHING
    result: Result | None = None


def work(
    settings: Settings,
    queue: Queue,
    run: Run,
    allowed: Quota,
    stop: Stop,
    watch: Watch | None,
    engine: sa.Engine,
) -> Result:
    """Drain the queue with ``settings.run.workers`` processes; returns how they ended together."""
    began = time.monotonic()
    # Spawned, not forked: the libraries have threads of their own, which a fork would lose.
    context = multiprocessing.get_context("spawn")
    group: list[_Worker] = []
    for index in range(settings.run.workers):
        ours, theirs = context.Pipe()
        share = Share(run, index, settings.run.workers)
        process = context.Process(
            target=_work, args=(settings, share, allowed, theirs), name=f"worker-{index}"
        )
        process.start()
        theirs.close()
        group.append(_Worker(index, process, ours))
    with watch(lambda: _together(group, began), queue) if watch else nullcontext():
        _listen(group, stop)
    for one in group:
        one.process.join()
    return _sum(group, run, engine, stop)


def _listen(group: Sequence[_Worker], stop: Stop) -> None:
    """Hear the workers until each has ended; pass a stop on, in either direction."""
    told = False
    waiting: dict[Any, _Worker] = {one.pipe: one for one in group}
    while waiting:
        if stop.reason is not None and not told:
            told = True
            for one in group:
                _tell(one, (stop.reason, stop.give_back))
        for pipe in wait(list(waiting), REPORT_SECONDS):
            one = waiting[pipe]
            try:
                heard = one.pipe.recv()
            except (EOFError, OSError):
                del waiting[pipe]
                _mourn(one)
                continue
            if isinstance(heard, Snapshot):
                one.snapshot = heard
            else:
                one.result = heard
                if heard.exit_code:
                    # What stopped one would stop the others batch by batch.
                    stop.request(heard.stop_reason, give_back=True)


def _tell(one: _Worker, words: tuple[str, bool]) -> None:
    try:
        one.pipe.send(words)
    except OSError:
        log.debug("worker %d has ended already", one.index)


def _mourn(one: _Worker) -> None:
    one.process.join()
    if one.result is None:
        code = one.process.exitcode or 0
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with {code}"
        log.error(
            "worker %d died %s; the messages that it held come back after the visibility timeout",
            one.index,
            how,
        )


def _together(group: Sequence[_Worker], began: float) -> Snapshot:
    every = [one.snapshot for one in group]
    return Snapshot(
        received=sum(s.received for s in every),
        loaded=sum(s.loaded for s in every),
        already_handled=sum(s.already_handled for s in every),
        quarantined=sum(s.quarantined for s in every),
        buffered=sum(s.buffered for s in every),
        seconds=time.monotonic() - began,
    )


def _sum(group: Sequence[_Worker], run: Run, engine: sa.Engine, stop: Stop) -> Result:
    ended = [one.result for one in group if one.result is not None]
    problems = [result for result in ended if result.exit_code]
    total = Result(
        counts=Counts(),
        stop_reason=(problems or ended or [Result(Counts(), "worker died")])[0].stop_reason,
    )
    for result in ended:
        total = replace(
            total,
            counts=total.counts.plus(result.counts),
            reasons=Counter(total.reasons + result.reasons),
            batches=total.batches + result.batches,
            not_acknowledged=total.not_acknowledged + result.not_acknowledged,
        )
    if len(ended) < len(group):
        return _with_the_dead(total, len(group) - len(ended), run, engine)
    if problems:
        worst = max(problems, key=lambda result: result.exit_code)
        total = replace(total, problem=worst.problem, exit_code=worst.exit_code)
    elif stop.reason is not None:
        total = replace(total, stop_reason=stop.reason)
    return total


def _with_the_dead(total: Result, dead: int, run: Run, engine: sa.Engine) -> Result:
    """Take what the dead had committed from the run's row, where each batch adds its counts."""
    problem = f"{dead} of the workers died; what they held comes back, and nothing is lost"
    try:
        committed, batches = run.committed(engine)
    except EtlError as error:
        log.error("the counts of the dead workers are not known: %s", error)  # noqa: TRY400
        committed, batches = total.counts, total.batches
    # Releases are not committed with a batch; the living reported theirs.
    counts = replace(committed, released=total.counts.released)
    counts.received = counts.accounted
    return replace(
        total,
        counts=counts,
        batches=batches,
        stop_reason="worker died",
        problem=problem,
        exit_code=1,
    )


def _work(settings: Settings, share: Share, allowed: Quota, pipe: Connection) -> None:
    """What a worker's process does."""
    logs.hide_values_in_tracebacks()
    logs.start(settings.log.level, settings.log.format)
    tune_interpreter()
    stop = Stop()
    # Ctrl-C reaches the whole group; it is the parent that tells what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.request("SIGTERM", give_back=True))
    threading.Thread(target=_obey, args=(pipe, stop), name="obey", daemon=True).start()
    try:
        result = worker.work(
            settings,
            load_keyring(os.environ),
            open_queue(settings.queue),
            share,
            allowed,
            stop,
            lambda snapshot, _queue: _Reports(pipe, snapshot),
        )
    except EtlError as error:
        result = Result(Counts(), error.stop_reason, problem=str(error), exit_code=error.exit_code)
    except Exception as error:  # noqa: BLE001
        # A bug. multiprocessing prints what leaves here itself, with the message and its values.
        sys.stderr.write(logs.places(error))
        sys.exit(1)
    pipe.send(result)


def _obey(pipe: Connection, stop: Stop) -> None:
    """Stop when the parent says so, or is gone."""
    try:
        while True:
            reason, give_back = pipe.recv()
            stop.request(reason, give_back=give_back)
    except (EOFError, OSError):
        stop.request("parent gone", give_back=True)


class _Reports:
    """Tells the parent from time to time where this worker stands."""

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
