"""Fixtures of all tests: an embedded Postgres and SQS, and for each test a database and a queue."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa

from etl import config
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.postgres.engine import driver_url
from tests import fork_server
from tests.fork_server import EtlProcess

ROOT = Path(__file__).resolve().parents[1]
# One key for all tests, made at import, so that no key is in the repository.
KEYRING = Keyring.new("k1")

# No test passes or fails by the clock. Hypothesis itself does the same where CI is set.
hypothesis.settings.register_profile(
    "no clock",
    hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("no clock")


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """Start one Postgres for the whole session."""
    with EmbeddedPostgres() as server:
        yield server


@pytest.fixture(scope="session")
def sqs() -> Iterator[EmbeddedSqs]:
    """Start one SQS for the whole session."""
    with EmbeddedSqs() as server:
        yield server


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """Create an empty database for one test."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """Open the test's database, to look at what the job did."""
    test_engine = sa.create_engine(driver_url(database_url))
    yield test_engine
    test_engine.dispose()


@pytest.fixture
def queue_url(sqs: EmbeddedSqs) -> str:
    """Create a queue for one test, with a dead-letter queue."""
    return sqs.create_queue(f"test-{uuid.uuid4().hex[:12]}", max_receive_count=100)


@pytest.fixture
def keyring() -> Keyring:
    """Return the keyring that all tests use."""
    return KEYRING


@dataclass
class Job:
    """The command line, run on one queue and one database."""

    environment: dict[str, str]
    queue_url: str
    client: Any
    engine: sa.Engine
    arguments: tuple[str, ...] = field(default=("--idle-seconds", "1", "--json"))

    def start(self, *arguments: str, stdin: int | None = None, **more: str) -> EtlProcess:
        """Start a command as a process."""
        return fork_server.start(arguments, {**self.environment, **more}, stdin)

    def command(
        self, *arguments: str, piped: str | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with *piped* as its standard input."""
        return fork_server.run(arguments, {**self.environment, **more}, piped)

    def run(self, *arguments: str, code: int = 0, **more: str) -> dict[str, Any]:
        """Run the job to its end and expect the exit code *code*; return its summary."""
        completed = self.command("run", *self.arguments, *arguments, **more)
        assert completed.returncode == code, completed.stderr
        summary: dict[str, Any] = json.loads(completed.stdout)
        return summary

    def send(self, *bodies: str) -> list[str]:
        """Send message bodies; return their message ids in the same order."""
        ids: dict[int, str] = {}
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(position), "MessageBody": body}
                for position, body in enumerate(bodies[start : start + 10])
            ]
            answer = self.client.send_message_batch(QueueUrl=self.queue_url, Entries=entries)
            assert not answer.get("Failed")
            for entry in answer["Successful"]:
                ids[start + int(entry["Id"])] = entry["MessageId"]
        return [ids[position] for position in sorted(ids)]

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        """Return the rows of a query on the database."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement), parameters)]

    def left(self) -> int:
        """Return the number of messages in the queue, visible or in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        return sum(int(value) for value in answer["Attributes"].values())


@pytest.fixture
def environment(sqs: EmbeddedSqs, database_url: str, queue_url: str) -> dict[str, str]:
    """Return every variable that a job reads, and none of the caller's except PATH."""
    return {
        "PATH": os.environ["PATH"],
        **sqs.environment,
        "DATABASE_URL": database_url,
        "ETL_QUEUE__URL": queue_url,
        "ETL_QUEUE__WAIT_SECONDS": "1",
        "ETL_KEYRING": KEYRING.dump(),
    }


@pytest.fixture
def job(sqs: EmbeddedSqs, environment: dict[str, str], queue_url: str, engine: sa.Engine) -> Job:
    """Return the command line, set up for the test's queue and database."""
    return Job(environment, queue_url, sqs.client(), engine)


@pytest.fixture
def settings(environment: dict[str, str]) -> Callable[..., config.Settings]:
    """Return a function that makes settings; ``section__key=value`` changes one of them."""

    def make(**changes: Any) -> config.Settings:
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        return config.load(ROOT / "config.yaml", environment, dotted)

    return make
