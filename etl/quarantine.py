"""Quarantine: rejects kept in the database, with the reasons in the open and the body sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal
from etl.fieldtypes import utc
from etl.postgres.queries import queries
from etl.sqs.queue import Message


def store(
    connection: sa.Connection,
    rejects: pd.DataFrame,
    messages: Mapping[str, Message],
    keyring: Keyring,
    run_id: str,
) -> int:
    """Keep the rejects, in the caller's transaction; returns how many messages they are.

    Columns in: ``message_id``, ``column``, ``check``, a row for each failed check. Each message
    becomes one entry with all its reasons, in the order of its first row.
    """
    if rejects.empty:
        return 0
    reasons = by_message(rejects)
    rejected = [messages[message_id] for message_id in reasons]
    bodies = seal([m.body for m in rejected], [m.message_id for m in rejected], keyring)
    connection.execute(
        queries()["store_reject"],
        [
            {
                "message_id": message.message_id,
                "run_id": run_id,
                "sent_at": None if message.sent_ms is None else utc(message.sent_ms),
                "reasons": json.dumps(reasons[message.message_id]),
                "body": body,
            }
            for message, body in zip(rejected, bodies, strict=True)
        ],
    )
    return len(rejected)


def by_message(rejects: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """Reasons as they are stored, by message id, in the order of its first row."""
    reasons: dict[str, list[dict[str, str]]] = {}
    for message_id, column, check in rejects.itertuples(index=False):
        reasons.setdefault(message_id, []).append({"column": column, "check": check})
    return reasons


def reason_counts(rejects: pd.DataFrame) -> dict[str, int]:
    """Messages for each reason, most frequent first, as ``column: check``."""
    if rejects.empty:
        return {}
    counted: Sequence[Any] = rejects.groupby(["column", "check"], sort=True).size().items()  # type: ignore[assignment]
    pairs = sorted(counted, key=lambda pair: -pair[1])
    return {f"{column}: {check}": int(count) for (column, check), count in pairs}
