"""Starts the services of a campaign: Postgres behind a proxy, the strict SQS, and workers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from etl import config
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url
from tests.chaos.messages import Messages
from tests.chaos.producer import History, Producer
from tests.chaos.proxy import FaultPolicy, Proxy, no_faults, via_proxy
from tests.chaos.strict_sqs import StrictSqs
from tests.chaos.testbed import Testbed
from tests.chaos.workers import Workers
from tests.conftest import ROOT


@contextmanager
def open_testbed(
    name: str,
    messages: Messages,
    *,
    worker_count: int = 4,
    visibility_seconds: int = 30,
    max_receive_count: int = 1000,
    settings: dict[str, str] | None = None,
    policy: FaultPolicy = no_faults,
    libraries: Mapping[str, str] | None = None,
    server_settings: Mapping[str, str] | None = None,
) -> Iterator[Testbed]:
    """Start the services and create a database and a queue; all of them end with the block.

    :param settings: environment variables of the workers
    :param policy: chooses the faults of what the workers send to the database
    :param libraries: see `workers.Workers`
    :param server_settings: of Postgres
    """
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        postgres = stack.enter_context(EmbeddedPostgres(settings=server_settings))
        sqs = stack.enter_context(StrictSqs(messages.seed))
        proxy = stack.enter_context(Proxy(postgres.port, policy))
        database_url = _new_database(postgres)
        queue_url = sqs.create_queue(
            "chaos.fifo" if messages.groups else "chaos",
            max_receive_count=max_receive_count,
            visibility_seconds=visibility_seconds,
        )
        worker_url = via_proxy(database_url, proxy.port)
        environment = _worker_environment(folder, sqs, worker_url, queue_url) | (settings or {})
        yield Testbed(
            name,
            postgres,
            sqs,
            database_url,
            environment,
            stack.enter_context(closing(Producer(queue_url))),
            History(messages),
            stack.enter_context(Workers(environment, folder, worker_count, libraries)),
            proxy,
            folder,
        )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _worker_environment(
    folder: Path, sqs: StrictSqs, database_url: str, queue_url: str
) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(folder),
        "HOME": str(folder),
        "ETL_QUEUE__WAIT_SECONDS": "1",
        "ETL_QUEUE__TRANSPORT": os.environ.get("ETL_QUEUE__TRANSPORT", "curl"),
        "ETL_KEYRING": Keyring.new("k1").dump(),
        "ETL_QUARANTINE__MAX_FRACTION": "1",
        **sqs.environment,
        "DATABASE_URL": database_url,
        "ETL_QUEUE__URL": queue_url,
    }


def _new_database(postgres: EmbeddedPostgres) -> str:
    database_url = postgres.new_database()
    make_tables(database_url)
    return database_url


def make_tables(database_url: str, name: str | None = None) -> None:
    """Create the tables, as ``init`` does, with another name for the target if one is given."""
    engine = sa.create_engine(driver_url(database_url), poolclass=sa.NullPool)
    create_tables(engine, config.load(ROOT / "config.yaml", {}, {"table.name": name}).table)
    engine.dispose()
