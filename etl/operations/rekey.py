"""Bring every stored token and every sealed body under the primary key.

The rows themselves are the only state. Each batch is a transaction of its own that reads what is
still under another key and replaces exactly that. So a kill at any moment costs the batches in
hand, a change that came in between is never overwritten, and several of these may run beside each
other, beside a load, or beside whatever else the database does.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import Event
from typing import Any, TypeVar

import sqlalchemy as sa

from etl.backoff import Backoff
from etl.config import Settings, Table
from etl.crypto import siv
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, DatabaseUnavailable
from etl.operations import remask, reseal
from etl.postgres.engine import open_engine, transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.tables import check_tables

# While the server updates one batch, the next one is masked.
AT_ONCE = 2
# A table that nobody writes to needs one pass. Whoever still writes tokens of another key after so
# many will not stop by itself.
MAX_PASSES = 5

QUARANTINE = "quarantine"

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Tally:
    """What came under the primary key, and what no key of the keyring opens."""

    rows: int = 0
    entries: int = 0  # of the quarantine
    unopened: Counter[str] = field(default_factory=Counter)  # column, or "quarantine" -> values

    def plus(self, other: Tally) -> Tally:
        """Add up two tallies."""
        return Tally(
            self.rows + other.rows, self.entries + other.entries, self.unopened + other.unopened
        )


@dataclass(frozen=True)
class RekeyProgress:
    """Where it stands, for a progress display; `done` of `total` steps of this pass."""

    number: int  # of the pass, from 1
    done: int
    total: int
    tally: Tally


@dataclass(frozen=True)
class RekeyResult:
    """How it ended."""

    key_id: str
    rows: int
    entries: int
    unopened: dict[str, int]  # column, or "quarantine" -> values that no key of the keyring opens
    remaining: int  # values of other keys that were written during the last pass
    passes: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 if everything is under the primary key."""
        return 1 if self.unopened or self.remaining else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome as ``rekey --json`` prints it."""
        return asdict(self)


Watch = Callable[[RekeyProgress], None]


@dataclass(frozen=True)
class _Work:
    """What every batch needs."""

    source: sa.Engine
    table: Table
    keyring: Keyring
    retry_seconds: float
    given_up: Event  # one batch has failed for good, so the others need not wait out an outage

    def batch(self, work: Callable[[sa.Connection], Answer]) -> Answer:
        """Do a batch in a transaction of its own, and again after an outage or a deadlock.

        After a COMMIT whose reply was lost nobody needs to know whether it happened: the batch is
        read again, and is what is left of it.
        """
        backoff = Backoff(self.retry_seconds, self.given_up.is_set)
        while True:
            try:
                with transaction(self.source) as connection:
                    return work(connection)
            except DatabaseUnavailable as error:
                if self.given_up.is_set():
                    raise
                backoff.pause(error)
            except RowRefused as error:
                raise DatabaseRefused(
                    f"the database refuses tokens of the primary key: {error.check}; look at the "
                    "constraints and triggers of the table"
                ) from None


def rekey(settings: Settings, keyring: Keyring, watch: Watch = lambda _: None) -> RekeyResult:
    """Mask every token anew, and seal every quarantined body, that is not of the primary key.

    :param watch: told after each step where it stands
    :raises TableError: a table is missing or not as configured, or a column is too narrow
    :raises DatabaseRefused: a privilege is missing, or a constraint refuses the new tokens
    :raises DatabaseUnavailable: an outage that lasted; what is done is done, so start again
    """
    began = time.monotonic()
    siv.check_vectors()
    source = open_engine(settings.database, AT_ONCE)
    work = _Work(source, settings.table, keyring, settings.database.retry_seconds, Event())
    try:
        check_tables(source, settings.table)
        done, remaining, number = Tally(), 0, 0
        while number < MAX_PASSES and (remaining or not number):
            number += 1
            # Each pass meets again what no key opens.
            done = _pass(work, number, Tally(done.rows, done.entries), watch)
            remaining = max(work.batch(partial(_others, work)) - done.unopened.total(), 0)
    finally:
        source.dispose()
    return RekeyResult(
        key_id=keyring.primary,
        rows=done.rows,
        entries=done.entries,
        unopened=dict(done.unopened),
        remaining=remaining,
        passes=number,
        seconds=round(time.monotonic() - began, 3),
    )


def _pass(work: _Work, number: int, done: Tally, watch: Watch) -> Tally:
    """Go once through the table, as long as it is now, and then through the quarantine."""
    parts = work.batch(lambda connection: remask.parts(connection, work.table))
    batches = [
        partial(_remask, work, part, first)
        for part in parts
        for first in range(0, part.blocks, remask.BLOCKS)
    ]
    steps = len(batches) + 1
    with ThreadPoolExecutor(AT_ONCE, "rekey") as pool:
        try:
            for at, tally in enumerate(pool.map(work.batch, batches), 1):
                done = done.plus(tally)
                watch(RekeyProgress(number, at, steps, done))
        except BaseException:
            work.given_up.set()
            pool.shutdown(cancel_futures=True)
            raise
    done = done.plus(_reseal(work))
    watch(RekeyProgress(number, steps, steps, done))
    return done


def _remask(work: _Work, part: remask.Part, first: int, connection: sa.Connection) -> Tally:
    rows, unopened = remask.remask_blocks(connection, work.table, part, first, work.keyring)
    return Tally(rows=rows, unopened=unopened)


def _reseal(work: _Work) -> Tally:
    done, after = Tally(), 0
    while True:
        entries, unopened, last = work.batch(
            partial(reseal.reseal_entries, after=after, keyring=work.keyring)
        )
        if last is None:
            return done
        done = done.plus(Tally(entries=entries, unopened=Counter({QUARANTINE: unopened})))
        after = last


def _others(work: _Work, connection: sa.Connection) -> int:
    tokens = remask.count_others(connection, work.table, work.keyring)
    return tokens + reseal.count_others(connection, work.keyring)
