"""Quarantine: rejects kept in the database, their reasons readable and their bodies sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import sqlalchemy as sa

from etl.config import QuarantineSettings, Settings
from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal
from etl.errors import QuarantineBudget
from etl.fieldtypes import utc
from etl.postgres.queries import queries
from etl.sqs.message import Message


def store(
    connection: sa.Connection,
    rejects: pd.DataFrame,
    messages: Mapping[str, Message],
    keyring: Keyring,
    run_id: str,
    settings: Settings,
) -> int:
    """Store the rejects, in the caller's transaction; return how many messages they are.

    Each entry belongs to the job of the settings, and names the fields that they mask.

    Columns in: ``message_id``, ``column``, ``check``, one row for each failed check. Each message
    becomes one entry with all of its reasons, in the order of its first row.
    """
    if rejects.empty:
        return 0
    reasons = by_message(rejects)
    rejected = [messages[message_id] for message_id in reasons]
    masked = sorted(settings.masked_fields)
    bodies = seal([m.body for m in rejected], [m.message_id for m in rejected], keyring)
    connection.execute(
        queries()["store_reject"],
        [
            {
                "message_id": message.message_id,
                "job": settings.job_name,
                "run_id": run_id,
                "sent_at": None if message.sent_ms is None else utc(message.sent_ms),
                "reasons": json.dumps(reasons[message.message_id]),
                "masked_fields": masked,
                "body": body,
            }
            for message, body in zip(rejected, bodies, strict=True)
        ],
    )
    return len(rejected)


def by_message(rejects: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """The reasons as they are stored, by message id, in the order of each message's first row."""
    reasons: dict[str, list[dict[str, str]]] = {}
    for message_id, column, check in rejects.itertuples(index=False):
        reasons.setdefault(message_id, []).append({"column": column, "check": check})
    return reasons


def reason_counts(rejects: pd.DataFrame) -> dict[str, int]:
    """Messages by reason (``column: check``), the most frequent reason first."""
    if rejects.empty:
        return {}
    counted: Sequence[Any] = rejects.groupby(["column", "check"], sort=True).size().items()  # type: ignore[assignment]
    pairs = sorted(counted, key=lambda pair: -pair[1])
    return {f"{column}: {check}": int(count) for (column, check), count in pairs}


def max_rejects(settings: QuarantineSettings, seen: int) -> int:
    """How many rejects the budget allows, if all other messages load.

    :param seen: messages that the run has loaded or quarantined, and those of the next batch
    """
    return max(int(max(seen, settings.min_messages) * settings.max_fraction), 0)


def check_budget(
    settings: QuarantineSettings, *, loaded: int, quarantined: int, reasons: dict[str, int]
) -> None:
    """Stop before a producer's mistake moves the whole queue into quarantine.

    :param loaded: messages of the run, including the batch
    :param quarantined: messages of the run, including the batch
    :param reasons: of the batch, most frequent first
    :raises QuarantineBudget: too many of the run's messages failed a check
    """
    seen = loaded + quarantined
    if seen >= settings.min_messages and quarantined > seen * settings.max_fraction:
        often = ", ".join(f"{reason} ({count})" for reason, count in list(reasons.items())[:5])
        raise QuarantineBudget(
            f"{quarantined} of {seen} messages failed a check, more than quarantine.max_fraction "
            f"({settings.max_fraction:g}) allows; this batch was released; most frequent: {often}"
        )
