"""What is checked before the first receive: keys, contexts, queue, columns, tables.

Every receive counts towards the queue's ``maxReceiveCount``. So a run that would fail anyway must
fail here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from etl.backoff import Backoff
from etl.checks.configured import check_table
from etl.config import Settings
from etl.crypto import siv
from etl.crypto.keyring import Keyring, load_keyring
from etl.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from etl.postgres import first_use
from etl.postgres.creation import create_tables
from etl.postgres.row_key import check_tokens_of_key
from etl.postgres.target import check_target
from etl.postgres.watchdog import Watchdog
from etl.reading.reader import BodySource
from etl.runs import Run
from etl.sqs.attributes import wanted_attributes
from etl.sqs.client import open_queue
from etl.sqs.dead_letters import DeadLetters, count_dead_letters
from etl.sqs.first_answer import first_answer, until_stopped
from etl.sqs.limits import Stop
from etl.sqs.queue import Queue, QueueState
from etl.text import counted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """What a worker needs and was checked: the keys and the queue."""

    keyring: Keyring
    queue: Queue
    queue_state: QueueState  # at the start
    payloads: BodySource | None = None  # where bodies are that are not in the queue

    def dead_letters(self) -> DeadLetters | None:
        """Count the dead letters; None if there is no such queue, or it cannot be asked."""
        return count_dead_letters(self.queue, self.queue_state.redrive)


def check_keys_and_queue(settings: Settings, environment: Mapping[str, str], stop: Stop) -> Ready:
    """Check the cipher, the keyring, the columns, the queue and the buckets. Receives nothing.

    Waits out an outage of SQS or S3, but no longer than the run may last, and not after a signal.

    :raises ConfigurationError: one of them cannot be used
    :raises EtlError: the cipher fails its test vectors
    :raises QueueUnavailable: the outage lasts too long, or the run is asked to stop
    :raises PayloadsUnavailable: so does that of S3
    """
    siv.check_vectors()
    keyring = until_stopped(lambda: load_keyring(environment), stop, "Secrets Manager")
    for table in settings.tables:
        check_table(table)
    queue = until_stopped(
        lambda: open_queue(settings.queue, environment, wanted_attributes(settings.tables)),
        stop,
        "the service that gives the AWS credentials",
    )
    state = _queue_state(queue, settings.queue.retry_seconds, stop)
    if settings.queue.payloads == "none":
        return Ready(keyring, queue, state)
    from etl.reading.payloads import open_payloads

    payloads = open_payloads(settings.queue, environment, stop)
    payloads.check()
    return Ready(keyring, queue, state, payloads)


def _queue_state(queue: Queue, retry_seconds: float, stop: Stop) -> QueueState:
    """Ask for the queue's own numbers.

    :raises ConfigurationError: its visibility timeout is 0, or there is no such queue, no
        permission, no credentials
    :raises QueueUnavailable: SQS does not answer
    """
    state = first_answer(queue.state, retry_seconds, stop)
    if state.visibility_seconds < 1:
        raise ConfigurationError(
            "the queue's visibility timeout is 0 s, so every message would come back at once; "
            "set it to 30 s or more"
        )
    return state


def warn_of_dead_letters(ready: Ready) -> DeadLetters | None:
    """Say how many messages wait in the dead-letter queue, if any do, and return what is known."""
    dead_letters = ready.dead_letters()
    if dead_letters is not None and dead_letters.messages:
        messages = counted(dead_letters.messages, "message")
        log.warning("dead-letter queue %s holds %s", dead_letters.queue, messages)
    return dead_letters


def prepare_database(
    settings: Settings, engine: sa.Engine, keyring: Keyring, run: Run, stop: Stop
) -> None:
    """Create what is absent, check the tables, and enter the run. Waits out an outage.

    A lock is waited for like an answer: no longer than the run may last, and not after a signal.
    The first use of a key or of a masked column is recorded in the transaction that enters the run.
    A run can be entered again, by a process that has just loaded the keyring.

    :raises ConfigurationError: a table is missing or does not fit, a privilege is missing, or
        keyring or contexts are not those of their first use
    :raises DatabaseUnavailable: the outage lasts too long, or the run is asked to stop
    """
    backoff = Backoff(settings.database.retry_seconds, lambda: stop.ends_retries)
    watchdog = Watchdog(engine, settings.database.answer_seconds)
    while True:
        try:
            with watchdog.limited(lambda: stop.ends_retries):
                _prepare(settings, engine, keyring, run)
        except DatabaseUnavailable as error:
            if not stop.ends_retries:
                backoff.pause(error)
            if stop.ends_retries:
                raise _given_up(error, stop) from None
        except DatabaseRefused as error:
            # Nothing has been received yet, so this is a matter of the configuration.
            raise ConfigurationError(str(error)) from None
        else:
            backoff.end()
            return


def _prepare(settings: Settings, engine: sa.Engine, keyring: Keyring, run: Run) -> None:
    for table in settings.tables:
        if settings.database.create_tables:
            create_tables(engine, table, settings.job_name, settings.masked_fields)
        check_target(engine, table)
        check_tokens_of_key(engine, table, keyring.primary, keyring.key_ids)
    run.start(engine, settings, lambda connection: first_use.record(connection, settings, keyring))


def _given_up(error: DatabaseUnavailable, stop: Stop) -> DatabaseUnavailable:
    given_up = DatabaseUnavailable(
        f"{error}; nothing was received, and {stop.reason} has ended the wait for the database "
        "(if it was a wait for another session's lock, see pg_blocking_pids)"
    )
    given_up.stop_reason = str(stop.reason)
    return given_up
