"""What the workers of a run did together, and how the run ended."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from multiprocessing.connection import Connection

import sqlalchemy as sa

from etl.errors import EtlError
from etl.runs import Run, Totals, WorkerResult
from etl.sqs.limits import Stop
from etl.sqs.work import Work
from etl.workers.process import Child
from etl.workers.snapshot import Snapshot

log = logging.getLogger(__name__)

DIED = "worker died"  # the stop reason


@dataclass
class Worker:
    """A worker process as the parent sees it, also after it has ended."""

    index: int  # among those that work at the same time
    process: Child
    pipe: Connection
    snapshot: Snapshot = field(default_factory=Snapshot)
    result: WorkerResult | None = None
    is_replaced: bool = False  # or will be

    @property
    def how_it_died(self) -> str:
        """How the process ended, in words."""
        code = self.process.exitcode or 0
        return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"

    @property
    def work_seconds(self) -> float:
        """How long it worked so far, as far as it has told."""
        return self.result.work.seconds if self.result else self.snapshot.work_seconds

    def has_ended(self) -> None:
        """Note that it holds no message any more."""
        counts = asdict(self.result.totals.counts) if self.result else None
        self.snapshot = self.snapshot.ended(counts)


class WorkTogether:
    """How long any of the workers worked.

    Each worker tells how long it worked, and not when. In each second or so, those that worked
    least count as part of the one that worked most.
    """

    def __init__(self) -> None:
        self._known: list[float] = []  # seconds of each worker, when last noted
        self.seconds = 0.0

    def note(self, seconds: Sequence[float]) -> None:
        """Note how long each worker has worked so far, the first one first."""
        known = [*self._known, *[0.0] * (len(seconds) - len(self._known))]
        self.seconds += max((new - old for new, old in zip(seconds, known, strict=True)), default=0)
        self._known = list(seconds)

    def work(self, workers: Sequence[Worker]) -> Work:
        """The work of all, once they have ended; they waited as long as none of them worked."""
        results = [worker.result.work for worker in workers if worker.result]
        longest = max((work.seconds + work.waiting_seconds for work in results), default=0.0)
        return Work(self.seconds, max(longest - self.seconds, 0.0))


def sum_snapshots(workers: Sequence[Worker]) -> Snapshot:
    """How far the run has come."""
    return reduce(Snapshot.plus, (worker.snapshot for worker in workers), Snapshot())


def sum_results(
    workers: Sequence[Worker], run: Run, engine: sa.Engine, stop: Stop, gave_up: str | None
) -> WorkerResult:
    """How the workers ended together.

    :param workers: all that were started, in the order in which they ended
    :param gave_up: why no more workers were started, or None
    """
    results = [worker.result for worker in workers if worker.result is not None]
    problems = [result for result in results if result.exit_code]
    dead = [worker for worker in workers if worker.result is None]
    # Workers can end for different reasons. The last one to end is the end of the run.
    last = (problems[:1] or results[-1:] or [WorkerResult(Totals(), DIED)])[0]
    total = WorkerResult(
        totals=reduce(Totals.plus, (result.totals for result in results), Totals()),
        stop_reason=str(stop.reason) if stop.release_rest else last.stop_reason,
        not_acknowledged=sum(result.not_acknowledged for result in results),
    )
    if dead:
        total = replace(total, totals=_with_dead_workers(total.totals, run, engine))
    missing = [worker for worker in dead if not worker.is_replaced]
    if gave_up or (missing and not stop.leave_rest):
        problem = gave_up or f"{len(missing)} of {_slots(workers)} workers died"
        whose = "its" if len(missing) == 1 else "their"
        problem += (
            f"; SQS will deliver {whose} messages again after the visibility timeout, so nothing "
            "is lost"
        )
        return replace(total, stop_reason=DIED, problem=problem, exit_code=1)
    if problems:
        worst = max(problems, key=lambda result: result.exit_code)
        reason = worst.stop_reason
        return replace(total, stop_reason=reason, problem=worst.problem, exit_code=worst.exit_code)
    if missing:
        problem = (
            f"interrupted again: {len(missing)} of {_slots(workers)} workers were ended in the "
            "middle of a batch; their messages come back after the visibility timeout"
        )
        return replace(total, problem=problem, exit_code=1)
    return total


def _slots(workers: Sequence[Worker]) -> int:
    return len({worker.index for worker in workers})


def _with_dead_workers(totals: Totals, run: Run, engine: sa.Engine) -> Totals:
    """Take what dead workers had committed from the run's row, to which each batch adds."""
    try:
        committed, batches = run.committed(engine)
        events = run.committed_events(engine)
    except EtlError as error:
        log.error("the counts of the dead workers are not known: %s", error)  # noqa: TRY400
        committed, batches, events = totals.counts, totals.batches, totals.events
    # Releases are not committed with a batch; the living workers reported theirs.
    counts = replace(committed, released=totals.counts.released)
    counts.received = counts.accounted
    return replace(totals, counts=counts, batches=batches, events=events)
