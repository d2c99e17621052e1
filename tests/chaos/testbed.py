"""Where a campaign is played: services, a database, a queue, a history, workers; and its result."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy as sa

from etl import config
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.engine import driver_url
from etl.postgres.tables import create_tables
from tests.chaos import checker
from tests.chaos.messages import Messages
from tests.chaos.producer import History, Producer
from tests.chaos.proxy import Judge, Proxy, detour, passed
from tests.chaos.strict_sqs import StrictSqs
from tests.chaos.workers import JOB, Fleet, Life
from tests.conftest import ROOT

TICK_SECONDS = 0.1
SAY_SECONDS = 20.0
# After which a campaign that does not come to its end is given up; the checker then finds the rest.
MAX_DRAIN_SECONDS = 1800.0
# What the strict SQS delivers once more comes 0.2 s after the delete.
QUIET_SECONDS = 1.5


class Stuck(Exception):  # noqa: N818  (what it is, is in the name)
    """Nothing has moved for longer than any fault could explain."""


@dataclass
class Stage:
    """All that a campaign works with."""

    name: str
    seed: int
    postgres: EmbeddedPostgres
    sqs: StrictSqs
    database_url: str
    environment: dict[str, str]
    keyring: str
    producer: Producer
    history: History
    fleet: Fleet
    proxy: Proxy  # between the workers and the database
    folder: Path
    began: float = field(default_factory=time.monotonic)
    days: set[dt.date] = field(default_factory=set)
    fired: Counter[str] = field(default_factory=Counter)  # what the campaign did itself
    figures: dict[str, Any] = field(default_factory=dict)
    _said: float = field(default_factory=time.monotonic)

    def send(self, count: int) -> None:
        """Send the next messages."""
        self.days.add(dt.datetime.now(dt.UTC).date())
        # A connection of its own, for it may go on beside others.
        producer = Producer(self.environment["ETL_QUEUE__URL"])
        producer.send(self.history, count)
        producer.close()
        self.days.add(dt.datetime.now(dt.UTC).date())

    @contextmanager
    def sending(self, count: int) -> Iterator[threading.Thread]:
        """Send while the block lasts; at its end all is sent."""
        thread = threading.Thread(target=self.send, args=(count,))
        thread.start()
        try:
            yield thread
        finally:
            thread.join()

    def sql(self, statement: str, *, superuser: bool = False) -> list[tuple[Any, ...]]:
        """Do one statement on the campaign's database and return its rows."""
        with closing(psycopg2.connect(self._url(superuser=superuser))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def _url(self, *, superuser: bool) -> str:
        if not superuser:
            return self.database_url
        name = sa.make_url(self.database_url).database
        url = sa.make_url(self.postgres.superuser_url).set(database=name)
        return url.render_as_string(hide_password=False)

    def drain(self, life: Life = JOB, max_seconds: float = MAX_DRAIN_SECONDS) -> None:
        """Let the workers go on until the queue has been empty for a while, then stop them.

        :raises Stuck: it does not become empty
        """
        self.until_empty(lambda: self.keep_alive(life), max_seconds)
        self.fleet.stop()

    def keep_alive(self, life: Life = JOB) -> None:
        """Start again what has ended by itself."""
        self.fleet.ended()
        self.fleet.fill(life)

    def until_empty(
        self,
        each: Callable[[], None],
        max_seconds: float,
        all_sent: Callable[[], bool] = lambda: True,
    ) -> None:
        """Do *each* time and again until all is sent and the queue has been empty for a while.

        :raises Stuck: it does not become empty
        """
        end, empty_since = time.monotonic() + max_seconds, None
        while True:
            each()
            self.say()
            now = time.monotonic()
            if not all_sent() or any(self.producer.numbers()):
                empty_since = None
                if now > end:
                    raise Stuck(f"the queue holds {self.producer.numbers()} messages")
            else:
                empty_since = empty_since or now
                if now - empty_since > QUIET_SECONDS:
                    return
            time.sleep(TICK_SECONDS)

    def say(self) -> None:
        """Tell from time to time, on standard error, where the campaign stands."""
        now = time.monotonic()
        if now - self._said > SAY_SECONDS:
            self._said = now
            left = sum(self.producer.numbers())
            fired = ", ".join(f"{kind} {count}" for kind, count in sorted(self.fired.items()))
            sys.stderr.write(
                f"{self.name}: {now - self.began:.0f} s, {self.history.sent:,} sent, {left:,} in "
                f"the queue; {fired or 'nothing fired by the campaign yet'}\n"
            )

    def result(self, planned: dict[str, int]) -> dict[str, Any]:
        """Stop everything, check, and say what was found: the campaign's JSON line."""
        self.fleet.stop()
        seconds = time.monotonic() - self.began
        self.fired += self.sqs.fired() + self.proxy.fired
        findings = checker.check(self.history, self.database_url, self.keyring, self.days)
        findings.left = sum(self.producer.numbers())
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        found = checker.leaks(
            self.history.messages.canary.values,
            self.database_url,
            [*files, self.postgres.log_path],
        )
        findings.leaked = len(found)
        if found:
            findings.examples["leaked"] = sorted(map(str, found))[:5]
        if self.fleet.crashes:
            findings.examples["crashes"] = self.fleet.crashes[:5]
        said = checker.verdict(findings, self.fired, planned)
        return {
            "campaign": self.name,
            "seed": self.seed,
            "sent": self.history.sent,
            "faults": dict(sorted(self.fired.items())),
            "lost": findings.lost,
            "duplicated": findings.duplicated,
            "unexpected": findings.unexpected,
            "wrong": findings.wrong,
            "leaked": findings.leaked,
            "left": findings.left,
            "crashes": len(self.fleet.crashes),
            "verdict": "fail" if self.fleet.crashes else said,
            "planned": planned,
            "seconds": round(seconds),
            "peak_mb": round(self.fleet.peak_mb),
            **self.figures,
            **({"examples": findings.examples} if findings.examples else {}),
        }


@contextmanager
def opened(
    name: str,
    messages: Messages,
    *,
    workers: int = 4,
    visibility_seconds: int = 30,
    settings: dict[str, str] | None = None,
    judge: Judge = passed,
    libraries: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Start the services and make a database and a queue; all of it ends with the block.

    :param settings: environment variables of the workers
    :param judge: what becomes of what the workers ask the database
    :param libraries: see `fleet.Fleet`
    """
    keyring = Keyring.new("k1").dump()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with (
            EmbeddedPostgres() as postgres,
            StrictSqs(messages.seed) as sqs,
            Proxy(postgres.port, judge) as proxy,
        ):
            database_url = postgres.new_database()
            queue_url = sqs.create_queue(
                "chaos", max_receive_count=1000, visibility_seconds=visibility_seconds
            )
            environment = {
                "PATH": os.environ["PATH"],
                "TMPDIR": str(folder),
                "HOME": str(folder),
                **sqs.environment,
                "DATABASE_URL": detour(database_url, proxy.port),
                "ETL_QUEUE__URL": queue_url,
                "ETL_QUEUE__WAIT_SECONDS": "1",
                "ETL_KEYRING": keyring,
                "ETL_QUARANTINE__MAX_FRACTION": "1",
                **(settings or {}),
            }
            make_tables(database_url)
            producer = Producer(queue_url)
            with Fleet(environment, folder, workers, libraries) as fleet:
                yield Stage(
                    name, messages.seed, postgres, sqs, database_url, environment, keyring,
                    producer, History(messages), fleet, proxy, folder,
                )  # fmt: skip
            producer.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_tables(database_url: str) -> None:
    """Create the tables, as ``init`` does."""
    engine = sa.create_engine(driver_url(database_url), poolclass=sa.NullPool)
    create_tables(engine, config.load(ROOT / "config.yaml", {}).table)
    engine.dispose()


def line(result: dict[str, Any]) -> str:
    """The result as one JSON line."""
    return json.dumps(result, ensure_ascii=False)
