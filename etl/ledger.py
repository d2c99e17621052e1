"""The ledger: which messages have been handled; at-least-once delivery becomes exactly-once effect.

An id enters the ledger in the transaction that stores the message's row or quarantine entry, so
that either both are there or none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from etl.postgres.queries import queries


class CommittedBeforeError(Exception):
    """An earlier attempt at this very batch has committed, though its reply was lost."""


def claim(
    connection: sa.Connection, message_ids: Sequence[str], run_id: str, batch: int
) -> set[str]:
    """Enter the ids; returns those that were not handled before.

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
    """Enter the further keys of messages whose ids were claimed in this transaction.

    :param keys: by message id
    :returns: in order, the first message of each set of keys that are all new
    """
    first: dict[tuple[str, ...], str] = {}
    for message_id in message_ids:
        first.setdefault(keys[message_id], message_id)
    # Ids before keys, and each of them sorted: one order for all workers.
    fresh = _enter(connection, {key for each in first for key in each}, run_id, batch)
    return [message_id for each, message_id in first.items() if fresh.issuperset(each)]


def _enter(connection: sa.Connection, ids: Collection[str], run_id: str, batch: int) -> set[str]:
    ordered = sorted(ids)
    parameters = {
        "message_ids": json.dumps(ordered), "ids": len(ordered), "run_id": run_id, "batch": batch
    }  # fmt: skip
    fresh = connection.execute(queries()["claim_messages"], parameters).scalar_one()
    return set(ordered if fresh is None else fresh)


def free(connection: sa.Connection, keys: Collection[str]) -> None:
    """Take back keys that were claimed in this transaction."""
    connection.execute(queries()["free_keys"], {"keys": json.dumps(list(keys))})


def prune(connection: sa.Connection, retention_days: int) -> int:
    """Forget ids older than *retention_days*; returns how many."""
    result = connection.execute(queries()["prune_ledger"], {"retention_days": retention_days})
    return result.rowcount
