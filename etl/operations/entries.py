"""The entries of the quarantine once they are stored: find, open, keep and close them.

An entry is open while it has its body. Closed it stays as a tombstone: replayed, already handled,
discarded or forgotten.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa

from etl.crypto.keyring import Keyring
from etl.crypto.seal import unseal_each
from etl.postgres.engine import transaction
from etl.postgres.queries import filled, queries
from etl.postgres.tables import query_frame
from etl.sqs.message import Message

# Entries handled in one transaction, if their bodies are no more than the bytes of a batch. Each of
# them waits for the others, and a kill throws their work away.
PAGE_ENTRIES = 500

CLOSING = ["closed_at", "closed_as", "closed_by", "note"]  # columns that only tombstones fill

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)

Fate = Literal["replayed", "already handled", "discarded", "forgotten"]


@dataclass(frozen=True)
class Selection:
    """Which entries are meant: those that all of it applies to; all of them by default."""

    ids: tuple[int, ...] = ()
    run_id: str | None = None
    check: str | None = None  # a check, or "column: check"
    older_days: float | None = None
    newer_days: float | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What the queries want to know."""
        reason: list[dict[str, str]] = []
        if self.check is not None:
            column, divider, check = self.check.partition(": ")
            reason = [{"column": column, "check": check} if divider else {"check": self.check}]
        return {
            "ids": list(self.ids) or None,
            "run_id": self.run_id,
            "reasons": json.dumps(reason),
            "older_days": self.older_days,
            "newer_days": self.newer_days,
        }


@dataclass(frozen=True)
class QuarantineEntry:
    """An open entry with its sealed body."""

    quarantine_id: int
    message_id: str
    run_id: str
    sent_at: dt.datetime | None
    quarantined_at: dt.datetime
    reasons: list[dict[str, str]]
    body: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """All but the body."""
        return {
            "quarantine_id": self.quarantine_id,
            "message_id": self.message_id,
            "run_id": str(self.run_id),
            "sent_at": self.sent_at and self.sent_at.isoformat(),
            "quarantined_at": self.quarantined_at.isoformat(),
            "reasons": self.reasons,
        }


def reasons(engine: sa.Engine, chosen: Selection, *, closed: bool = False) -> pd.DataFrame:
    """Entries by reason: ``column``, ``check``, ``messages``, ``oldest``, ``newest``."""
    return query_frame(
        engine, _query("quarantine_reasons"), {**chosen.parameters, "closed": closed}
    )


def listed(
    engine: sa.Engine, chosen: Selection, limit: int, *, closed: bool = False, after: int = 0
) -> pd.DataFrame:
    """The entries, oldest first, without their bodies; a row an entry, ``reasons`` as one text."""
    parameters = {**chosen.parameters, "closed": closed, "after": after, "limit": limit}
    found = query_frame(engine, _query("quarantine_entries"), parameters)
    found["reasons"] = [
        "; ".join(f"{one['column']}: {one['check']}" for one in each) for each in found["reasons"]
    ]
    return found


def pages(engine: sa.Engine, chosen: Selection, max_bytes: int) -> Iterator[list[int]]:
    """The ids of the open entries, in order, each once, a page after the other.

    :param max_bytes: of the bodies of a page, unless one alone has more
    """
    after = 0
    while True:
        found = listed(engine, chosen, PAGE_ENTRIES, after=after)
        if found.empty:
            return
        fits = int((found["sealed_bytes"].cumsum() <= max_bytes).sum())
        page = found["quarantine_id"].tolist()[: max(fits, 1)]
        yield page
        after = page[-1]


def _query(name: str) -> sa.TextClause:
    return sa.text(filled(name, {"selected": queries()["selected_entries"].text}))


def read(
    connection: sa.Connection, ids: Sequence[int], *, lock: bool = False
) -> list[QuarantineEntry]:
    """Those of the entries that are still open, in order.

    :param lock: hold them to the end of the transaction, and leave out those that another holds
    """
    statement = queries()["quarantine_bodies"]
    if lock:
        statement = sa.text(f"{statement.text} for update skip locked")
    found = connection.execute(statement, {"ids": list(ids)})
    return [QuarantineEntry(**{**row, "body": bytes(row["body"])}) for row in found.mappings()]


def opened(
    found: Sequence[QuarantineEntry], keyring: Keyring
) -> list[tuple[QuarantineEntry, str | None]]:
    """Each entry with the body that was quarantined, None if no key of the keyring opens it."""
    bodies = unseal_each([one.body for one in found], [one.message_id for one in found], keyring)
    texts = (body.decode(errors="replace") if isinstance(body, bytes) else body for body in bodies)
    return list(zip(found, texts, strict=True))


def message(entry: QuarantineEntry, body: str) -> Message:
    """The message of an entry, as it was received."""
    sent_ms = None if entry.sent_at is None else round((entry.sent_at - _EPOCH) / _MILLISECOND)
    # What came damaged stays so: its right MD5 is not known any more.
    damaged = any(one["check"] == "MD5 of body" for one in entry.reasons)
    return Message(entry.message_id, body, "", sent_ms, "" if damaged else None)


def superseded(connection: sa.Connection, ids: Sequence[int], run_id: str) -> set[str]:
    """Messages of these entries that some other run has handled in the meantime."""
    parameters = {"ids": list(ids), "run_id": run_id}
    return set(connection.execute(queries()["superseded_entries"], parameters).scalars())


def keep(connection: sa.Connection, reasons: Mapping[int, Any]) -> None:
    """Note the reasons for which entries stay, in the caller's transaction."""
    kept = [{"id": number, "reasons": why} for number, why in reasons.items()]
    connection.execute(queries()["keep_entries"], {"kept": json.dumps(kept)})


def close(
    connection: sa.Connection, ids: Collection[int], fate: Fate, note: str | None = None
) -> list[int]:
    """Leave tombstones of those that are open, in the caller's transaction; returns which."""
    parameters = {"ids": list(ids), "closed_as": fate, "note": note}
    return sorted(connection.execute(queries()["close_entries"], parameters).scalars())


def discard(engine: sa.Engine, chosen: Selection, reason: str, max_bytes: int) -> int:
    """Give entries up, page by page; returns how many. What another command holds is waited for."""
    discarded = 0
    for page in pages(engine, chosen, max_bytes):
        with transaction(engine) as connection:
            discarded += len(close(connection, page, "discarded", reason))
    return discarded
