"""The ledger of handled messages: it turns at-least-once delivery into exactly-once effect.

An id enters the ledger in the transaction that stores the message's row or quarantine entry. So
either both are there or neither is. Ids belong to the job of the run that enters them: jobs that
share a database do not see each other's.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import sqlalchemy as sa

from etl.errors import EtlError
from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.text import counted

log = logging.getLogger(__name__)

# Ids that one transaction removes: it takes about 10 ms and locks nothing that a batch needs.
PRUNE_ROWS = 10_000
# What is left after this time is removed by the next runs.
MAX_PRUNE_SECONDS = 60.0


class CommittedBeforeError(Exception):
    """An earlier attempt at this same batch was committed, but its reply was lost."""


def claim(
    connection: sa.Connection, message_ids: Sequence[str], run_id: str, batch: int
) -> set[str]:
    """Enter the ids; return those that the run's job has not handled before.

    Waits for another worker that is about to commit some of the same ids.

    :param message_ids: distinct
    :raises CommittedBeforeError: the ledger has ids of this run's same batch
    """
    fresh = _enter(connection, message_ids, run_id, batch)
    if len(fresh) < len(message_ids):
        stale = [message_id for message_id in message_ids if message_id not in fresh]
        parameters = {"message_ids": json.dumps(stale), "run_id": run_id, "batch": batch}
        if connection.execute(queries()["committed_before"], parameters).scalar_one():
            raise CommittedBeforeError
    return fresh


def claim_keys(
    connection: sa.Connection,
    message_ids: Sequence[str],
    keys: Mapping[str, tuple[str, ...]],
    run_id: str,
    batch: int,
) -> list[str]:
    """Enter the additional keys of messages whose ids were claimed in this transaction.

    :param keys: by message id
    :returns: the first message with each set of keys that are all new, in order
    """
    first: dict[tuple[str, ...], str] = {}
    for message_id in message_ids:
        first.setdefault(keys[message_id], message_id)
    # All workers enter ids before keys, and each of them sorted, so that none locks another out.
    fresh = _enter(connection, {key for keys in first for key in keys}, run_id, batch)
    return [message_id for keys, message_id in first.items() if fresh.issuperset(keys)]


def _enter(connection: sa.Connection, ids: Collection[str], run_id: str, batch: int) -> set[str]:
    ordered = sorted(ids)
    parameters = {
        "message_ids": json.dumps(ordered),
        "id_count": len(ordered),
        "run_id": run_id,
        "batch": batch,
    }
    fresh = connection.execute(queries()["claim_messages"], parameters).scalar_one()
    return set(ordered if fresh is None else fresh)


def free(connection: sa.Connection, keys: Collection[str], run_id: str) -> None:
    """Remove keys that the run has claimed in this transaction."""
    parameters = {"keys": json.dumps(list(keys)), "run_id": run_id}
    connection.execute(queries()["free_keys"], parameters)


def estimated_ids(engine: sa.Engine) -> int | None:
    """About how many ids the ledger has, of all jobs; None if the database does not say.

    Counting them would read the whole table.
    """
    try:
        with transaction(engine) as connection:
            ids: int | None = connection.execute(queries()["estimated_ids"]).scalar()
    except EtlError as error:
        log.debug("cannot tell how many ids the ledger has: %s", error)
        return None
    return ids


class Pruner:
    """Removes a job's old ids from the ledger, in small pieces that are committed one by one.

    Ids of an earlier version, which may be of any job, are removed too.

    An id that stays too long does no harm. So a failure is a warning, and ends the pruning of this
    run.
    """

    def __init__(self, engine: sa.Engine, job: str, retention_days: int) -> None:
        self._engine = engine
        self._job = job
        self._retention_days = retention_days
        self._has_failed = False
        self.removed = 0

    def remove_some(self, limit: int) -> bool:
        """Remove at most *limit* of the old ids; return whether there may be more of them."""
        if self._has_failed:
            return False
        parameters = {
            "job": self._job,
            "retention_days": self._retention_days,
            "limit": limit,
        }
        try:
            with transaction(self._engine) as connection:
                removed = connection.execute(queries()["prune_ledger"], parameters).rowcount
        except EtlError as error:
            self._has_failed = True
            log.warning(
                "could not remove ids older than %s from the ledger (the next run will try "
                "again): %s",
                counted(self._retention_days, "day"),
                error,
            )
            return False
        self.removed += removed
        return removed == limit

    def remove_all(self, is_interrupted: Callable[[], bool]) -> None:
        """Remove piece after piece until no old id is left, or until interrupted or out of time."""
        end = time.monotonic() + MAX_PRUNE_SECONDS
        while not is_interrupted() and self.remove_some(PRUNE_ROWS):
            if time.monotonic() >= end:
                log.info("more ids are older than the retention; the next runs will remove them")
                break
        if self.removed:
            log.info(
                "removed %s older than %s from the ledger",
                counted(self.removed, "id"),
                counted(self._retention_days, "day"),
            )
