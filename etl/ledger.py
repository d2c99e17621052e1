"""The ledger: which messages have been handled; at-least-once delivery becomes exactly-once effect.

An id enters the ledger in the transaction that stores the message's row or quarantine entry, so
that either both are there or none.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa

from etl.postgres import queries


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
    ordered = sorted(message_ids)
    parameters = {"message_ids": json.dumps(ordered), "run_id": run_id, "batch": batch}
    fresh = set(connection.execute(queries()["claim_messages"], parameters).scalars())
    if len(fresh) < len(ordered):
        stale = [message_id for message_id in ordered if message_id not in fresh]
        parameters["message_ids"] = json.dumps(stale)
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
    ordered = sorted({key for each in first for key in each})
    parameters = {"message_ids": json.dumps(ordered), "run_id": run_id, "batch": batch}
    fresh = set(connection.execute(queries()["claim_messages"], parameters).scalars())
    return [message_id for each, message_id in first.items() if fresh.issuperset(each)]


def free(connection: sa.Connection, keys: Collection[str]) -> None:
    """Take back keys that were claimed in this transaction."""
    connection.execute(queries()["free_keys"], {"keys": json.dumps(list(keys))})


def prune(connection: sa.Connection, retention_days: int) -> int:
    """Forget ids older than *retention_days*; returns how many."""
    result = connection.execute(queries()["prune_ledger"], {"retention_days": retention_days})
    return result.rowcount
