"""What is checked before the first receive: keys, queue, columns, tables.

Every receive counts towards the queue's ``maxReceiveCount``. So a run that would fail anyway must
fail here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from etl.backoff import Backoff
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import Keyring, load_keyring
from etl.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, QueueRefused
from etl.postgres.tables import create_tables
from etl.postgres.target import check_target
from etl.runs import Run
from etl.schema import frame_schema
from etl.sqs.client import open_queue
from etl.sqs.limits import Stop
from etl.sqs.queue import Queue


@dataclass(frozen=True)
class Ready:
    """What a worker needs and was checked: keys, queue, and the schema of the raw frame."""

    keyring: Keyring
    queue: Queue
    visibility_seconds: int
    schema: Any  # pandera's DataFrameSchema


def check_keys_and_queue(settings: Settings, environment: Mapping[str, str]) -> Ready:
    """Check the cipher, the keyring, the columns and the queue. Receives nothing.

    :raises ConfigurationError: one of them cannot be used
    :raises EtlError: the cipher fails its test vectors
    :raises QueueUnavailable: SQS does not answer for now
    """
    siv.check_vectors()
    keyring = load_keyring(environment)
    schema = frame_schema(settings.table.columns)
    queue = open_queue(settings.queue)
    return Ready(keyring, queue, _visibility_seconds(queue), schema)


def _visibility_seconds(queue: Queue) -> int:
    """Ask for the queue's visibility timeout.

    :raises ConfigurationError: it is 0, or there is no such queue, no permission, no credentials
    :raises QueueUnavailable: SQS does not answer for now
    """
    try:
        seconds = queue.state().visibility_seconds
    except QueueRefused as error:
        raise ConfigurationError(f"{error}; check 'queue.url' and the AWS variables") from None
    if seconds < 1:
        raise ConfigurationError(
            "the queue's visibility timeout is 0 s, so every message would come back at once; "
            "set it to 30 s or more"
        )
    return seconds


def prepare_database(settings: Settings, engine: sa.Engine, run: Run, stop: Stop) -> None:
    """Create what is absent, check the tables, and enter the run. Waits out an outage.

    :raises ConfigurationError: a table is missing or does not fit, or a privilege is missing
    :raises DatabaseUnavailable: the outage lasts too long, or the run is asked to stop
    """
    backoff = Backoff(settings.database.retry_seconds, lambda: stop.release_rest)
    while True:
        try:
            if settings.database.create_tables:
                create_tables(engine, settings.table)
            check_target(engine, settings.table)
            run.start(engine)
        except DatabaseUnavailable as error:
            if stop.release_rest:
                raise
            backoff.pause(error)
        except DatabaseRefused as error:
            # Nothing has been received yet, so this is a matter of the configuration.
            raise ConfigurationError(str(error)) from None
        else:
            return
