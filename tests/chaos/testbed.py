"""A campaign's testbed (services, a database, a queue, a history and workers) and its result."""

from __future__ import annotations

import datetime as dt
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

from etl.embedded.postgres import EmbeddedPostgres
from tests.chaos import checker
from tests.chaos.producer import History, Producer
from tests.chaos.proxy import Proxy
from tests.chaos.strict_sqs import StrictSqs
from tests.chaos.workers import PLAIN_RUN, WorkerPlan, Workers

Result = dict[str, Any]

TICK_SECONDS = 0.1
REPORT_SECONDS = 20.0
# A campaign that has not emptied its queue by then is given up.
MAX_DRAIN_SECONDS = 1800.0
# The strict SQS redelivers a message 0.2 s after its delete.
QUIET_SECONDS = 1.5
MAX_EXAMPLES = 5


class NotDrained(Exception):  # noqa: N818  (a state, not a mistake)
    """The queue was not emptied in a time that is longer than any fault could explain."""


@dataclass(frozen=True)
class Size:
    """How much of a campaign to run."""

    share: float = 1.0

    def of(self, full: int, minimum: int = 1) -> int:
        """The share of a number, rounded up, but at least *minimum*."""
        return max(minimum, -int(-full * self.share // 1))


@dataclass(frozen=True)
class OtherJob:
    """Another job on the campaign's database: its queue, what was sent there, and its table."""

    history: History
    producer: Producer
    table: str  # schema and name, which are also the name of the job


@dataclass
class Testbed:
    """Everything that a campaign works with."""

    __test__ = False  # pytest collects classes whose names begin with Test

    name: str
    postgres: EmbeddedPostgres
    sqs: StrictSqs
    database_url: str
    environment: dict[str, str]
    producer: Producer
    history: History
    workers: Workers
    proxy: Proxy  # between the workers and the database
    folder: Path
    other_jobs: list[OtherJob] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    days: set[dt.date] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)  # the faults that the campaign injected
    figures: dict[str, Any] = field(default_factory=dict)
    _reported: float = field(default_factory=time.monotonic)

    def send(self, count: int) -> None:
        """Send the next messages."""
        self.days.add(dt.datetime.now(dt.UTC).date())
        # Over a second connection, since another thread may be using the first.
        producer = Producer(self.environment["ETL_QUEUE__URL"])
        producer.send(self.history, count)
        producer.close()
        self.days.add(dt.datetime.now(dt.UTC).date())

    def keep_queue_filled(self, minimum: int, count: int) -> None:
        """Send *count* messages if fewer than *minimum* are visible."""
        if self.producer.visible() < minimum:
            self.send(count)

    @contextmanager
    def sending(self, count: int) -> Iterator[threading.Thread]:
        """Send in the background; all messages have been sent at the end of the block."""
        thread = threading.Thread(target=self.send, args=(count,))
        thread.start()
        try:
            yield thread
        finally:
            thread.join()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement on the campaign's database; returns its rows."""
        with closing(psycopg2.connect(self.database_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def drain(self) -> None:
        """Keep the workers running until the queue stays empty, then stop them.

        :raises NotDrained: the queue is not emptied
        """
        self.run_until_empty(self.keep_workers_running, MAX_DRAIN_SECONDS)
        self.workers.stop()

    def keep_workers_running(self, plan: WorkerPlan = PLAIN_RUN) -> None:
        """Restart the workers that have ended."""
        self.workers.reap()
        self.workers.fill(plan)

    def run_until_empty(
        self,
        step: Callable[[], None],
        max_seconds: float,
        all_sent: Callable[[], bool] = lambda: True,
    ) -> None:
        """Repeat *step* until everything has been sent and the queue stays empty.

        :raises NotDrained: the queue is not emptied
        """
        end = time.monotonic() + max_seconds
        empty_since = None
        while True:
            step()
            self.report_progress()
            now = time.monotonic()
            if not all_sent() or self.left():
                empty_since = None
                if now > end:
                    raise NotDrained(f"the queue still holds {self.left()} messages")
            else:
                empty_since = empty_since or now
                if now - empty_since > QUIET_SECONDS:
                    return
            time.sleep(TICK_SECONDS)

    def left(self) -> int:
        """Messages in the queues of all jobs: visible, in flight or delayed."""
        return self.producer.left() + sum(job.producer.left() for job in self.other_jobs)

    def dead(self) -> int:
        """Messages in the dead-letter queues of all jobs."""
        producers = [self.producer, *(job.producer for job in self.other_jobs)]
        return sum(producer.dead() for producer in producers)

    def report_progress(self) -> None:
        """Print the state of the campaign on standard error, from time to time."""
        now = time.monotonic()
        if now - self._reported > REPORT_SECONDS:
            self._reported = now
            fired = ", ".join(f"{kind} {count}" for kind, count in sorted(self.fired.items()))
            sys.stderr.write(
                f"{self.name}: {now - self.started:.0f} s, {self.history.sent:,} sent, "
                f"{self.left():,} in the queue; injected so far: {fired or 'nothing'}\n"
            )

    def result(self, planned: dict[str, int]) -> Result:
        """Stop everything and check: the campaign's JSON line.

        :param planned: how many faults of each kind must have fired
        """
        self.workers.stop()
        seconds = time.monotonic() - self.started
        self.fired += self.sqs.fired() + self.proxy.fired
        findings = self._findings()
        crashes = self.workers.crashes
        verdict = "fail" if crashes else checker.verdict(findings, self.fired, planned)
        return {
            "campaign": self.name,
            "seed": self.history.messages.seed,
            "sent": self.history.sent + sum(job.history.sent for job in self.other_jobs),
            "faults": dict(sorted(self.fired.items())),
            "lost": findings.lost,
            "duplicated": findings.duplicated,
            "unexpected": findings.unexpected,
            "wrong": findings.wrong,
            "leaked": findings.leaked,
            "left": findings.left,
            "dead": findings.dead,
            "crashes": len(crashes),
            "verdict": verdict,
            "planned": planned,
            "seconds": round(seconds),
            "peak_mb": round(self.workers.peak_mb),
            **self.figures,
            **({"examples": findings.examples} if findings.examples else {}),
        }

    def _findings(self) -> checker.Findings:
        keyring = self.environment["ETL_KEYRING"]
        findings = checker.check(self.history, self.database_url, keyring, self.days)
        for job in self.other_jobs:
            findings = findings.plus(
                checker.check(job.history, self.database_url, keyring, self.days, job.table)
            )
        jobs = ", ".join(f"'{job}'" for job in [checker.TABLE, *(j.table for j in self.other_jobs)])
        for (message_id,) in self.sql(
            f"select message_id from etl.quarantine where job not in ({jobs})"
        ):
            findings.add("unexpected", message_id)
        findings.left = self.left()
        findings.dead = self.dead()
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        leaks = checker.leaks(
            self.history.messages.canary.values,
            self.database_url,
            [*files, self.postgres.log_path],
        )
        findings.leaked = len(leaks)
        if leaks:
            findings.examples["leaked"] = sorted(map(str, leaks))[:MAX_EXAMPLES]
        if self.workers.crashes:
            findings.examples["crashes"] = self.workers.crashes[:MAX_EXAMPLES]
        return findings


def json_line(result: Result) -> str:
    """The result as one JSON line."""
    return json.dumps(result, ensure_ascii=False)


def fail_unless(kept: bool, result: Result) -> Result:
    """The result, as a fail unless the campaign's extra promise was kept."""
    return result if kept else {**result, "verdict": "fail"}
