"""Runs: their counts, their results, and their rows in ``etl.runs``."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from dataclasses import asdict, astuple, dataclass, field

import sqlalchemy as sa

from etl.config import Settings
from etl.logs import visible
from etl.postgres import jobs
from etl.postgres.engine import transaction
from etl.postgres.event_counts import EventCounts
from etl.postgres.findings import Findings
from etl.postgres.queries import queries
from etl.sqs.dead_letters import DeadLetters
from etl.sqs.queue import QueueState
from etl.sqs.work import Work
from etl.version import __version__

MAX_PROBLEM_CHARACTERS = 2000  # of the problem's sentence in etl.runs


@dataclass
class Counts:
    """What became of the deliveries. A message delivered three times counts three times."""

    received: int = 0
    loaded: int = 0
    already_handled: int = 0
    quarantined: int = 0
    released: int = 0
    # Of the loaded ones (of their events, if messages are split), with table.on_conflict. So
    # loaded - updated - skipped rows were added.
    updated: int = 0  # their row replaced another one
    skipped: int = 0  # their row was not stored, because of another one with the same key

    @property
    def accounted(self) -> int:
        """Deliveries whose outcome is known."""
        return self.loaded + self.already_handled + self.quarantined + self.released

    @property
    def adds_up(self) -> bool:
        """Whether every delivery has exactly one outcome."""
        return self.received == self.accounted

    def plus(self, other: Counts) -> Counts:
        """Add two counts."""
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Totals:
    """The totals of one batch, of one worker, or of a whole run."""

    counts: Counts = field(default_factory=Counts)
    findings: Findings = field(default_factory=Findings)  # committed with the batches
    batches: int = 0
    released_findings: Findings = field(default_factory=Findings)  # of messages that were released
    events: EventCounts = field(default_factory=EventCounts)
    tables: frozenset[str] = frozenset()  # that rows were loaded into

    def plus(self, other: Totals) -> Totals:
        """Add two totals."""
        return Totals(
            counts=self.counts.plus(other.counts),
            findings=self.findings.plus(other.findings),
            batches=self.batches + other.batches,
            released_findings=self.released_findings.plus(other.released_findings),
            events=self.events.plus(other.events),
            tables=self.tables | other.tables,
        )


@dataclass(frozen=True)
class WorkerResult:
    """How a worker ended, or all workers of a run together."""

    totals: Totals
    stop_reason: str
    not_acknowledged: int = 0
    problem: str | None = None
    exit_code: int = 0
    work: Work = field(default_factory=Work)


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    run_id: str
    counts: Counts
    events: EventCounts = field(default_factory=EventCounts)
    reasons: dict[str, int] = field(default_factory=dict)  # "column: check" -> messages
    notes: dict[str, int] = field(default_factory=dict)  # "column: note" -> messages
    stop_reason: str = ""
    seconds: float = 0.0
    # Of the seconds: those in which a message was being received, loaded or deleted; and those in
    # which the run waited for messages. The rest is what it checked and did before and after.
    work_seconds: float = 0.0
    waiting_seconds: float = 0.0
    batches: int = 0
    exit_code: int = 0
    problem: str | None = None  # what ended the run before its work was done
    not_acknowledged: int = 0  # handled, but still in the queue; the ledger knows them
    left: QueueState | None = None  # in the queue at the end, approximately; None: not known
    would: Counts | None = None  # of a dry run: what a run would have done
    # Of a dry run: how often its messages were received, at the most, this look included.
    receive_count: int | None = None
    max_receive_count: int | None = None  # of the queue, for a dry run
    dead_letters: DeadLetters | None = None  # if the queue was empty at the end

    def as_dict(self) -> dict[str, object]:
        """The summary as ``run --json`` prints it."""
        values = asdict(self)
        counts = values.pop("counts")
        would = values.pop("would")
        if self.dead_letters is not None:
            values["dead_letters"] = self.dead_letters.messages
        events = values.pop("events")
        if self.events:
            values["events"] = events
        left = values.pop("left")
        if would is not None:
            counts["would_load"] = would["loaded"]
            counts["would_quarantine"] = would["quarantined"]
        states = ("visible", "in_flight", "delayed")
        values["left"] = left and {state: left[state] for state in states}
        return {"run_id": values.pop("run_id"), **counts, **values}


@dataclass(frozen=True)
class Run:
    """One run and its row in ``etl.runs``."""

    run_id: str  # a UUID
    config_hash: str
    command: str = "run"

    def start(
        self,
        engine: sa.Engine,
        settings: Settings,
        before: Callable[[sa.Connection], None] = lambda _: None,
    ) -> None:
        """Enter the run, and its job if it is new.

        Raises as :func:`etl.postgres.engine.transaction` does.

        :param before: done first, in the same transaction
        """
        with transaction(engine) as connection:
            before(connection)
            jobs.register(connection, settings)
            connection.execute(
                queries()["start_run"],
                {
                    "run_id": self.run_id,
                    "job": settings.job_name,
                    "command": self.command,
                    "version": __version__,
                    "config_hash": self.config_hash,
                    "host": socket.gethostname(),
                },
            )

    def add(
        self,
        connection: sa.Connection,
        counts: Counts,
        findings: Findings,
        events: EventCounts | None = None,
    ) -> None:
        """Add a batch's counts and findings, in the batch's transaction."""
        connection.execute(queries()["add_to_run"], {"run_id": self.run_id, **asdict(counts)})
        if events:
            events.add_to_run(connection, self.run_id)
        findings.add_to_run(connection, self.run_id)

    def committed(self, engine: sa.Engine) -> tuple[Counts, int]:
        """The counts and the number of batches in the row. Raises as ``transaction`` does."""
        with transaction(engine) as connection:
            row = connection.execute(queries()["run_counts"], {"run_id": self.run_id}).one()
        *counts, batches = row
        return Counts(*counts), batches

    def committed_events(self, engine: sa.Engine) -> EventCounts:
        """The counts of events in the row. Raises as ``transaction`` does."""
        with transaction(engine) as connection:
            run_id = {"run_id": self.run_id}
            return EventCounts(*connection.execute(queries()["run_events"], run_id).one())

    def finish(
        self,
        engine: sa.Engine,
        totals: Totals,
        stop_reason: str,
        problem: str | None = None,
        exit_code: int = 0,
    ) -> None:
        """Set the final counts and why the run ended. Raises as ``transaction`` does.

        :param problem: the sentence that is printed
        """
        end = {
            "run_id": self.run_id,
            "batches": totals.batches,
            "stop_reason": stop_reason,
            "problem": None if problem is None else visible(problem)[:MAX_PROBLEM_CHARACTERS],
            "exit_code": exit_code,
        }
        with transaction(engine) as connection:
            totals.released_findings.add_to_run(connection, self.run_id, are_released=True)
            connection.execute(queries()["finish_run"], {**end, **asdict(totals.counts)})


@dataclass(frozen=True)
class Share:
    """A worker's share of a run."""

    run: Run
    index: int = 0
    workers: int = 1
    ends_at: float = math.inf  # monotonic seconds; this clock is the same in all processes
    first_batch: int = 0  # more than any worker committed before this one replaced another

    def batch_number(self, batches: int) -> int:
        """The number of the next batch after *batches*; no other worker uses or used it.

        The ledger needs it to tell whether this very batch was committed before.
        """
        return (self.first_batch + batches) * self.workers + self.index + 1
