"""Quarantine: rejects kept in the database, their reasons readable and their bodies sealed."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from etl.config import QuarantineSettings, Settings
from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal
from etl.errors import EtlError, QuarantineBudget
from etl.fieldtypes import utc
from etl.postgres.engine import transaction
from etl.postgres.findings import Check
from etl.postgres.queries import queries
from etl.reading.event_ids import is_event
from etl.sqs.message import Message

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def store(
    connection: sa.Connection,
    rejects: pd.DataFrame,
    messages: Mapping[str, Message],
    keyring: Keyring,
    run_id: str,
    settings: Settings,
    *,
    is_sample: bool = False,
) -> int:
    """Store the rejects, in the caller's transaction; return how many messages they are.

    Each entry belongs to the job of the settings, and names the fields that they mask.

    Columns in: ``message_id``, ``column``, ``check``, one row for each failed check. Each message
    becomes one entry with all of its reasons, in the order of its first row.

    :param is_sample: the messages stay in the queue, and these entries only show them
    """
    if rejects.empty:
        return 0
    by_id = by_message(rejects)
    rejected = [messages[message_id] for message_id in by_id]
    masked = sorted(settings.masked_fields)
    masked_in_events = sorted(settings.masked_in_events)
    bodies = seal([m.to_seal for m in rejected], [m.message_id for m in rejected], keyring)
    connection.execute(
        queries()["store_reject"],
        [
            {
                "message_id": message.message_id,
                "job": settings.job_name,
                "run_id": run_id,
                "sent_at": None if message.sent_ms is None else utc(message.sent_ms),
                "reasons": json.dumps(by_id[message.message_id]),
                # The entry of an event has nothing around it.
                "masked_fields": masked_in_events if is_event(message) else masked,
                "body": body,
                "is_sample": is_sample,
            }
            for message, body in zip(rejected, bodies, strict=True)
        ],
    )
    return len(rejected)


def with_sample(
    error: QuarantineBudget,
    engine: sa.Engine,
    rejects: pd.DataFrame,
    messages: Mapping[str, Message],
    keyring: Keyring,
    run_id: str,
    settings: Settings,
) -> QuarantineBudget:
    """Replace the job's sample of refused messages, in a transaction of its own.

    The messages are released, and each further look at them would cost one of their receives.

    :param rejects: of the batch, besides those of the error; columns as of :func:`store`
    :returns: the error with all rejects, which says how to look at the sample if one was stored
    """
    import pandas as pd

    refused = pd.concat([rejects, error.rejects], ignore_index=True).drop_duplicates()
    chosen = _choose(refused, settings.quarantine.sample_messages)
    sample = refused[refused["message_id"].isin(chosen)]
    try:
        with transaction(engine) as connection:
            remove_samples(connection, settings.job_name)
            kept = store(connection, sample, messages, keyring, run_id, settings, is_sample=True)
    except EtlError as problem:
        log.warning("no sample of the refused messages was kept: %s", problem)
        return QuarantineBudget(str(error), refused)
    look = f"; {kept} of them are kept, see: etl quarantine list --samples --entries"
    return QuarantineBudget(f"{error}{look if kept else ''}", refused)


def _choose(rejects: pd.DataFrame, maximum: int) -> set[str]:
    """Choose message ids so that every reason is there, if there is room, and then a second one."""
    turn = rejects.groupby(["column", "check"], sort=False).cumcount()
    in_turn = rejects.loc[turn.sort_values(kind="stable").index, "message_id"]
    return set(in_turn.drop_duplicates().head(maximum))


def remove_samples(connection: sa.Connection, job: str, older_than_days: int = 0) -> None:
    """Remove the job's samples of that age, in the caller's transaction."""
    parameters = {"job": job, "older_than_days": older_than_days}
    connection.execute(queries()["remove_samples"], parameters)


def by_message(rejects: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """The reasons as they are stored, by message id, in the order of each message's first row."""
    found: dict[str, list[dict[str, str]]] = {}
    for message_id, column, check in rejects.itertuples(index=False):
        found.setdefault(message_id, []).append({"column": column, "check": check})
    return found


def check_counts(rejects: pd.DataFrame) -> Counter[Check]:
    """Messages by column and check."""
    if rejects.empty:
        return Counter()
    counted: Iterable[Any] = rejects.groupby(["column", "check"], sort=True).size().items()
    return Counter({check: int(count) for check, count in counted})


def reasons(checks: Counter[Check]) -> dict[str, int]:
    """Messages by reason (``column: check``), the most frequent reason first."""
    return {f"{column}: {check}": count for (column, check), count in checks.most_common()}


def outcomes(
    message_ids: Iterable[str], loaded: Collection[str], rejects: pd.DataFrame
) -> list[bool]:
    """Say of each new message of a batch, in order, whether it is rejected.

    Messages that are neither loaded nor rejected were handled before, so they say nothing.
    """
    bad = frozenset(rejects["message_id"])
    new = bad.union(loaded)
    return [message_id in bad for message_id in message_ids if message_id in new]


class Budget:
    """How many messages of one worker may fail a check before the run stops.

    ``max_fraction`` applies to the whole run, and to every ``window_messages`` messages in a row:
    the good messages of the past do not pay for a producer's mistake of today. How the messages
    are cut into batches makes no difference to the second rule.

    A batch is checked in its transaction, perhaps several times, and counted once, by
    :meth:`settle`, when it is committed.
    """

    def __init__(self, settings: QuarantineSettings) -> None:
        self._settings = settings
        # As the setting is written: 0.29 as a double is a little less than 29 of 100.
        self._max_fraction = Fraction(str(settings.max_fraction))
        window = settings.window_messages
        # A fraction of fewer messages than min_messages means nothing.
        self._window = None if window is None else max(window, settings.min_messages)
        self._recent: list[bool] = []  # the last messages of the window, True for a reject
        self._seen = 0  # messages loaded or quarantined
        self._quarantined = 0
        self._checked: list[bool] = []

    def max_rejects(self, messages: int) -> int:
        """How many rejects the next batch may have, at most, if all of its other messages load.

        :param messages: of the batch
        """
        seen = self._seen + messages
        if seen < self._settings.min_messages:
            return self._allowed(self._settings.min_messages)
        allowed = min(self._allowed(seen) - self._quarantined, messages)
        if self._window is not None and seen >= self._window:
            full_windows, rest = divmod(messages, self._window)
            before = self._recent[max(len(self._recent) + rest - self._window, 0) :] if rest else []
            in_rest = min(self._allowed(self._window) - sum(before), rest)
            allowed = min(allowed, full_windows * self._allowed(self._window) + in_rest)
        return max(allowed, 0)

    def check(self, batch: Sequence[bool], rejects: pd.DataFrame) -> None:
        """Stop before a producer's mistake moves the whole queue into quarantine.

        :param batch: of each message that the batch loads or rejects, whether it is rejected
        :param rejects: of the batch; columns as of :func:`store`
        :raises QuarantineBudget: too many messages of the run, or in a row, failed a check
        """
        seen = self._seen + len(batch)
        quarantined = self._quarantined + sum(batch)
        if seen >= self._settings.min_messages and quarantined > self._allowed(seen):
            raise self._exceeded(f"{quarantined} of {seen} messages", rejects)
        if self._window is not None:
            worst = _most_in_a_row([*self._recent, *batch], self._window)
            if worst > self._allowed(self._window):
                raise self._exceeded(f"{worst} of {self._window} messages in a row", rejects)
        self._checked = list(batch)

    def settle(self) -> None:
        """Count the batch that was checked last: its transaction is committed."""
        self._seen += len(self._checked)
        self._quarantined += sum(self._checked)
        if self._window is not None:
            recent = [*self._recent, *self._checked]
            self._recent = recent[max(len(recent) - self._window + 1, 0) :]
        self._checked = []

    def _allowed(self, messages: int) -> int:
        return math.floor(messages * self._max_fraction)

    def _exceeded(self, share: str, rejects: pd.DataFrame) -> QuarantineBudget:
        counts = list(reasons(check_counts(rejects)).items())
        often = ", ".join(f"{reason} ({count})" for reason, count in counts[:5])
        return QuarantineBudget(
            f"{share} failed a check, more than quarantine.max_fraction "
            f"({self._settings.max_fraction:g}) allows; this batch was released; most frequent: "
            f"{often}",
            rejects,
        )


def _most_in_a_row(rejected: Sequence[bool], window: int) -> int:
    """The largest number of rejects among *window* messages in a row; 0 if there are fewer."""
    if len(rejected) < window:
        return 0
    sums = np.cumsum([0, *rejected])
    return int((sums[window:] - sums[:-window]).max())
