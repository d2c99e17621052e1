"""Stored entries of the quarantine: find, read, unseal and close them.

Every entry belongs to a job. Jobs may share a database, and no command works on entries of another
job than its own.

An entry is open while it has its body. A closed entry stays as a tombstone, which says why.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa

from etl.crypto.keyring import Keyring
from etl.crypto.seal import unseal_each
from etl.errors import UsageError
from etl.postgres.engine import transaction
from etl.postgres.queries import filled, queries
from etl.postgres.tables import query_frame
from etl.sqs.attributes import without_attributes
from etl.sqs.message import Message

# At most this many entries are handled in one transaction, and fewer if their bodies exceed the
# bytes of a batch. All of them commit together, and a kill loses the work of the whole page.
PAGE_ENTRIES = 500

CLOSING_COLUMNS = ["closed_at", "closed_as", "closed_by", "note"]  # filled in tombstones only

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)

ClosedAs = Literal["replayed", "already handled", "discarded", "forgotten"]


@dataclass(frozen=True)
class Selection:
    """Which entries to work on: those that meet every given condition; by default all."""

    job: str | None = field(default=None, kw_only=True)  # its name; None: entries of every job
    ids: tuple[int, ...] = ()
    run_id: str | None = None
    check: str | None = None  # a check, or "column: check"
    older_days: float | None = None
    newer_days: float | None = None
    # Only samples of what a budget stop refused, or only entries that are none; None: both.
    samples: bool | None = field(default=None, kw_only=True)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the query fragment ``selected_entries``."""
        reasons: list[dict[str, str]] = []
        if self.check is not None:
            column, separator, check = self.check.partition(": ")
            reasons = [{"column": column, "check": check} if separator else {"check": self.check}]
        return {
            "job": self.job,
            "ids": list(self.ids) or None,
            "run_id": self.run_id,
            "reasons": json.dumps(reasons),
            "older_days": self.older_days,
            "newer_days": self.newer_days,
            "samples": self.samples,
        }


@dataclass(frozen=True)
class QuarantineEntry:
    """An open entry with its sealed body."""

    quarantine_id: int
    job: str
    message_id: str
    run_id: str
    sent_at: dt.datetime | None
    quarantined_at: dt.datetime
    reasons: list[dict[str, str]]
    masked_fields: list[str]  # of the event, as configured when it was quarantined
    body: bytes

    @property
    def facts(self) -> dict[str, Any]:
        """Everything except the body, for JSON."""
        return {
            "quarantine_id": self.quarantine_id,
            "job": self.job,
            "message_id": self.message_id,
            "run_id": str(self.run_id),
            "sent_at": self.sent_at and self.sent_at.isoformat(),
            "quarantined_at": self.quarantined_at.isoformat(),
            "reasons": self.reasons,
            "masked_fields": self.masked_fields,
        }


def check_job(engine: sa.Engine, selection: Selection) -> None:
    """Check that the entries or the run that are asked for by id exist, and are those of the job.

    :raises UsageError: one of them does not exist, or belongs to another job; names it and the job
    """
    if not (selection.ids or selection.run_id):
        return
    parameters = {**selection.parameters, "ids": list(selection.ids)}
    missing = query_frame(engine, "missing_entries", parameters)
    if not missing.empty:
        raise UsageError(
            f"{missing['what'].iloc[0]} does not exist; nothing was done; see: etl quarantine list "
            "--entries"
        )
    if selection.job is None:
        return
    others = query_frame(engine, "entries_of_other_jobs", parameters)
    if not others.empty:
        what, job = others.iloc[0]
        raise UsageError(
            f"{what} belongs to the job {job!r}, and this is the configuration of "
            f"{selection.job!r}; nothing was done; use the configuration of that job"
        )


def count_by_reason(
    engine: sa.Engine, selection: Selection, *, closed: bool = False
) -> pd.DataFrame:
    """Count entries: ``job``, ``column``, ``check``, ``messages``, ``oldest``, ``newest``."""
    parameters = {**selection.parameters, "closed": closed}
    return query_frame(engine, _selecting_query("quarantine_reasons"), parameters)


def count_masked(engine: sa.Engine, selection: Selection) -> dict[tuple[str, ...], int]:
    """Count the open entries by the fields that were masked when they were quarantined."""
    query = _selecting_query("entries_by_masked_fields")
    counts = query_frame(engine, query, selection.parameters)
    return dict(zip(map(tuple, counts["masked_fields"]), counts["entries"], strict=True))


def list_entries(
    engine: sa.Engine, selection: Selection, limit: int, *, closed: bool = False, after: int = 0
) -> pd.DataFrame:
    """List the entries, oldest first, one in each row, with their reasons as one text.

    Columns out: all columns of ``etl.quarantine``, with ``sealed_bytes`` in place of the body.

    :param after: id of the last entry to skip
    """
    parameters = {**selection.parameters, "closed": closed, "after": after, "limit": limit}
    entries = query_frame(engine, _selecting_query("quarantine_entries"), parameters)
    entries["reasons"] = [
        "; ".join(f"{reason['column']}: {reason['check']}" for reason in reasons)
        for reasons in entries["reasons"]
    ]
    return entries


def id_pages(
    engine: sa.Engine, selection: Selection, max_bytes: int, max_entries: int = PAGE_ENTRIES
) -> Iterator[list[int]]:
    """Yield the ids of the open entries in order, page by page, each id once.

    :param max_bytes: maximum size of the bodies of a page, unless it holds only one entry
    :param max_entries: of a page
    """
    after = 0
    while True:
        entries = list_entries(engine, selection, max_entries, after=after)
        if entries.empty:
            return
        count = int((entries["sealed_bytes"].cumsum() <= max_bytes).sum())
        page = entries["quarantine_id"].tolist()[: max(count, 1)]
        yield page
        after = page[-1]


def _selecting_query(name: str) -> sa.TextClause:
    return sa.text(filled(name, {"selected": queries()["selected_entries"].text}))


def read_open(
    connection: sa.Connection, ids: Sequence[int], *, lock: bool = False
) -> list[QuarantineEntry]:
    """Read those of the entries that are still open, in order.

    :param lock: lock them until the transaction ends, and skip entries that another one has locked
    """
    statement = queries()["quarantine_bodies"]
    if lock:
        statement = sa.text(f"{statement.text} for update skip locked")
    rows = connection.execute(statement, {"ids": list(ids)}).mappings()
    return [QuarantineEntry(**{**row, "body": bytes(row["body"])}) for row in rows]


def unseal_entries(
    entries: Sequence[QuarantineEntry], keyring: Keyring
) -> list[tuple[QuarantineEntry, str | None]]:
    """Pair each entry with the body that was quarantined, or None if no key opens it."""
    bodies = unseal_each(
        [entry.body for entry in entries], [entry.message_id for entry in entries], keyring
    )
    texts = (body.decode(errors="replace") if isinstance(body, bytes) else body for body in bodies)
    return list(zip(entries, texts, strict=True))


def as_message(entry: QuarantineEntry, text: str) -> Message:
    """Rebuild the message of an entry as it was received, from the text that was sealed."""
    sent_ms = None if entry.sent_at is None else round((entry.sent_at - _EPOCH) / _MILLISECOND)
    # A damaged message stays damaged: its right MD5 is no longer known.
    checks = {reason["check"] for reason in entry.reasons}
    body, attributes = without_attributes(text)
    md5 = "" if "MD5 of body" in checks else None
    message = Message(entry.message_id, body, "", sent_ms, md5, attributes=attributes)
    message.has_damaged_attributes = "MD5 of attributes" in checks
    return message


def superseded(connection: sa.Connection, ids: Sequence[int], run_id: str) -> set[str]:
    """Return the message ids of those entries whose message another run has handled since."""
    parameters = {"ids": list(ids), "run_id": run_id}
    return set(connection.execute(queries()["superseded_entries"], parameters).scalars())


def update_reasons(connection: sa.Connection, reasons: Mapping[int, Any]) -> None:
    """Store new reasons for entries that stay open, by entry id, in the caller's transaction."""
    updates = [{"id": entry_id, "reasons": new} for entry_id, new in reasons.items()]
    connection.execute(queries()["update_reasons"], {"updates": json.dumps(updates)})


def close(
    connection: sa.Connection, ids: Collection[int], closed_as: ClosedAs, note: str | None = None
) -> list[int]:
    """Turn open entries into tombstones, in the caller's transaction; returns their ids."""
    parameters = {"ids": list(ids), "closed_as": closed_as, "note": note}
    return sorted(connection.execute(queries()["close_entries"], parameters).scalars())


def discard(engine: sa.Engine, selection: Selection, reason: str, max_bytes: int) -> int:
    """Discard entries, page by page, and wait for those that another command has locked.

    :returns: the number of entries discarded
    :raises UsageError: an entry belongs to another job; nothing is discarded
    """
    check_job(engine, selection)
    discarded = 0
    for page in id_pages(engine, selection, max_bytes):
        with transaction(engine) as connection:
            discarded += len(close(connection, page, "discarded", reason))
    return discarded
