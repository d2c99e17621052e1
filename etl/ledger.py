"""The ledger of handled messages: it turns at-least-once delivery into exactly-once effect.

An id enters the ledger in the transaction that stores the message's row or quarantine entry. So
either both are there or neither is. Ids belong to the job of the run that enters them: jobs that
share a database do not see each other's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from etl.postgres.queries import queries


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


def prune(connection: sa.Connection, retention_days: int, job: str) -> int:
    """Remove the job's ids that are older than *retention_days*; return how many.

    Ids of an earlier version, which may be of any job, are removed too.
    """
    parameters = {"retention_days": retention_days, "job": job}
    return connection.execute(queries()["prune_ledger"], parameters).rowcount
