"""The services that parts share: a database server, a keyring and a file of message bodies."""

from __future__ import annotations

import json
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench import messages, processes
from bench.stub import LOCAL, Network, Stub
from etl import config
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url

# The default of an installed Postgres; the embedded one uses less.
SERVER = {"shared_buffers": "128MB"}

# A session ends a moment after its client, and only then counts in the CPU time of the server.
SETTLE_SECONDS = 0.2


class WorkNotDone(Exception):  # noqa: N818  (it says what happened)
    """A program left messages or rows behind, so its speed means nothing."""


@dataclass(frozen=True)
class Options:
    """The sizes to measure with, and the label of a profile."""

    runs: int
    messages: int | None
    quick: bool
    label: str


@dataclass(frozen=True)
class Services:
    """A running database server, a keyring and a file of bodies."""

    server: EmbeddedPostgres
    keyring: Keyring
    bodies: Path

    def settings(self, url: str, **changes: Any) -> Settings:
        """Return the default settings for this database; ``section__key=value`` changes one."""
        dotted = {name.replace("__", "."): value for name, value in changes.items()}
        return config.load(processes.ROOT / "config.yaml", {"DATABASE_URL": url}, dotted)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create a database with empty tables; yield its URL and drop it afterwards."""
        url = self.server.new_database(f"bench_{secrets.token_hex(6)}")
        engine = sa.create_engine(driver_url(url))
        try:
            create_tables(engine, self.settings(url).table)
            yield url
        finally:
            engine.dispose()
            self.server.drop_database(url)


@contextmanager
def start(count: int, settings: Mapping[str, str] = SERVER) -> Iterator[Services]:
    """Start a server with these settings and write bodies for up to *count* messages."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        EmbeddedPostgres(settings=settings) as server,
    ):
        bodies = Path(folder, "bodies")
        messages.write_bodies(bodies, count)
        yield Services(server, Keyring.new("k1"), bodies)


def consume(
    services: Services,
    command: Sequence[str],
    count: int,
    variables: Mapping[str, str],
    *,
    network: Network = LOCAL,
    body_bytes: int = 0,
    memory: bool = False,
    stores: bool = True,
) -> dict[str, Any]:
    """Let a program drain a new queue into a new database; return what that cost.

    :param variables: environment variables for the program
    :param network: what lies between the program and the queue
    :param body_bytes: lengthen every body to this size
    :param memory: measure the peak memory too
    :param stores: whether the program stores a row for every message
    :raises WorkNotDone: the program did not delete, or did not store, every message
    """
    with (
        services.database() as url,
        Stub(services.bodies, count, network, body_bytes=body_bytes) as stub,
    ):
        environment = {**stub.environment, "DATABASE_URL": url, **variables}
        cost, server_seconds = _run(services, command, environment, memory=memory)
        counts = stub.counts()
        rows = _count_rows(url)
    if counts["deleted"] != count or (stores and rows != count):
        raise WorkNotDone(
            f"{' '.join(command[1:])}: {count} messages, {counts['deleted']} deleted, {rows} rows"
        )
    return {
        "messages": count,
        "cpu_seconds": cost.cpu_seconds,
        "wall_seconds": cost.wall_seconds,
        "peak_mb": cost.peak_mb,
        "database_cpu_seconds": server_seconds,
        "stub_cpu_seconds": counts["cpu_seconds"],
        "receives": counts["receives"],
        "deletes": counts["deletes"],
        "extends": counts["extends"],
        "reported": _last_json(cost.output),
    }


def _run(
    services: Services, command: Sequence[str], environment: Mapping[str, str], *, memory: bool
) -> tuple[processes.Cost, float]:
    """Run a program with the keyring; return its cost, and the CPU seconds of the server."""
    seconds_before = processes.tree_cpu_seconds(services.server.pid or 0)
    with_keyring = {"ETL_KEYRING": services.keyring.dump(), **environment}
    cost = processes.run(command, with_keyring, memory=memory)
    time.sleep(SETTLE_SECONDS)
    return cost, processes.tree_cpu_seconds(services.server.pid or 0) - seconds_before


def _count_rows(url: str) -> int:
    engine = sa.create_engine(driver_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return int(connection.execute(sa.text("select count(*) from user_logins")).scalar_one())


def _last_json(output: str) -> Any:
    """Return the summary that a program printed last, or None."""
    lines = output.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return None
    summary: dict[str, Any] = json.loads(lines[-1])
    # It is random and tells a reader nothing.
    summary.pop("run_id", None)
    return summary
