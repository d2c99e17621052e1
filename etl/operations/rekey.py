"""Brings every stored token and every sealed body of a job under the primary key.

The rows themselves are the only state. Each batch is one transaction, which reads the values that
are still under another key and replaces exactly those. A kill at any moment therefore loses the
current batches only, a change made between reading and writing is never overwritten, and several
rekeys may run at the same time as each other, as a load, or as any other work in the database.
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
from etl.operations.key_list import key_places
from etl.postgres import first_use
from etl.postgres.engine import transaction
from etl.postgres.sqlstate import RowRefused
from etl.postgres.target import check_changes, check_tables

# One batch is masked while the server updates the other.
MAX_BATCHES_AT_ONCE = 2
# A table that nobody writes to needs one pass. A job that still writes tokens of another key after
# this many has the old keyring and will not stop by itself.
MAX_PASSES = 5

QUARANTINE = "quarantine"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Tally:
    """The amounts brought under the primary key, and those that no key of the keyring opens."""

    rows: int = 0
    entries: int = 0  # of the quarantine
    unopened: Counter[str] = field(default_factory=Counter)  # column, or "quarantine" -> values

    def plus(self, other: Tally) -> Tally:
        """Add two tallies up."""
        return Tally(
            self.rows + other.rows, self.entries + other.entries, self.unopened + other.unopened
        )


@dataclass(frozen=True)
class RekeyProgress:
    """The state of a rekey, for a progress display."""

    number: int  # of the pass, from 1
    done: int  # steps of this pass
    total: int  # steps of this pass
    tally: Tally


@dataclass(frozen=True)
class RekeyResult:
    """The outcome of a rekey."""

    key_id: str
    rows: int
    entries: int
    unopened: dict[str, int]  # column, or "quarantine" -> values that no key of the keyring opens
    remaining: int  # values of other keys that other jobs wrote during the last pass
    passes: int
    seconds: float
    # Values of older keys that belong to other jobs, or to columns that this job masked earlier;
    # None where this role cannot count them.
    elsewhere: dict[str, int | None]
    one_way: list[str]  # columns of one-way tokens, which stay as they are

    @property
    def exit_code(self) -> int:
        """0 if everything of this job is under the primary key."""
        return 1 if self.unopened or self.remaining else 0

    def as_dict(self) -> dict[str, Any]:
        """The outcome as ``rekey --json`` prints it."""
        return asdict(self)


OnProgress = Callable[[RekeyProgress], None]


@dataclass(frozen=True)
class _Work:
    """The engine, tables, job, keyring and retry limit that all batches share."""

    engine: sa.Engine
    tables: tuple[Table, ...]
    job: str
    keyring: Keyring
    retry_seconds: float
    given_up: Event  # a batch has failed for good, so the others must not wait out an outage

    def place(self, table: Table, column: str) -> str:
        """A column as the outcome names it: with its table if there are several."""
        return column if len(self.tables) == 1 else f"{table.full_name}.{column}"

    def batch(self, work: Callable[[sa.Connection], Result]) -> Result:
        """Do a batch in one transaction, and repeat it after an outage or a deadlock.

        If the reply to a COMMIT is lost, it does not matter whether it happened: the repeated batch
        reads the rows again and handles what is left.
        """
        backoff = Backoff(self.retry_seconds, self.given_up.is_set)
        while True:
            try:
                with transaction(self.engine) as connection:
                    return work(connection)
            except DatabaseUnavailable as error:
                if self.given_up.is_set():
                    raise
                backoff.pause(error)
            except RowRefused as error:
                raise DatabaseRefused(
                    f"the database refused tokens of the primary key: {error.check}; look at the "
                    "constraints and triggers of the table"
                ) from None


def rekey_database(
    settings: Settings,
    engine: sa.Engine,
    keyring: Keyring,
    on_progress: OnProgress = lambda _: None,
) -> RekeyResult:
    """Mask every token and seal every body of the job that is not under the primary key.

    :param engine: should keep MAX_BATCHES_AT_ONCE connections open
    :param on_progress: called with the progress after each step
    :raises ConfigurationError: a table is missing or not as configured, a column is too narrow, or
        keyring or contexts are not those of their first use
    :raises DatabaseRefused: a privilege is missing, or a constraint refuses the new tokens
    :raises DatabaseUnavailable: an outage that lasted; committed batches stay, so start again
    """
    began = time.monotonic()
    siv.check_vectors()
    for table in settings.tables:
        check_tables(engine, table)
        check_changes(engine, table, "update")
    with transaction(engine) as connection:
        first_use.record(connection, settings, keyring)
    work = _Work(
        engine=engine,
        tables=settings.tables,
        job=settings.job_name,
        keyring=keyring,
        retry_seconds=settings.database.retry_seconds,
        given_up=Event(),
    )
    done = Tally()
    remaining = 0
    number = 0
    while number < MAX_PASSES and (remaining or not number):
        number += 1
        # Each pass finds the values that no key opens again, so they are counted anew.
        done = _pass(work, number, Tally(done.rows, done.entries), on_progress)
        remaining = max(work.batch(partial(_count_remaining, work)) - done.unopened.total(), 0)
    return RekeyResult(
        key_id=keyring.primary,
        rows=done.rows,
        entries=done.entries,
        unopened=dict(done.unopened),
        remaining=remaining,
        passes=number,
        seconds=round(time.monotonic() - began, 3),
        elsewhere=_older_keys_elsewhere(engine, settings, keyring),
        one_way=[
            work.place(table, column.name)
            for table in settings.tables
            for column in table.columns
            if column.is_one_way
        ],
    )


def _pass(work: _Work, number: int, done: Tally, on_progress: OnProgress) -> Tally:
    """Go once through the tables at their current size, and then through the quarantine."""
    batches = [
        partial(_remask, work, table, part, first)
        for table in work.tables
        for part in work.batch(partial(remask.table_parts, table=table))
        for first in range(0, part.blocks, remask.BLOCKS)
    ]
    steps = len(batches) + 1
    with ThreadPoolExecutor(MAX_BATCHES_AT_ONCE, "rekey") as pool:
        try:
            for step, tally in enumerate(pool.map(work.batch, batches), 1):
                done = done.plus(tally)
                on_progress(RekeyProgress(number, step, steps, done))
        except BaseException:
            work.given_up.set()
            pool.shutdown(cancel_futures=True)
            raise
    done = done.plus(_reseal(work))
    on_progress(RekeyProgress(number, steps, steps, done))
    return done


def _remask(
    work: _Work, table: Table, part: remask.Part, first: int, connection: sa.Connection
) -> Tally:
    rows, unopened = remask.remask_blocks(connection, table, part, first, work.keyring)
    by_place = {work.place(table, column): count for column, count in unopened.items()}
    return Tally(rows=rows, unopened=Counter(by_place))


def _reseal(work: _Work) -> Tally:
    done = Tally()
    after = 0
    while True:
        entries, unopened, last = work.batch(
            partial(reseal.reseal_entries, job=work.job, after=after, keyring=work.keyring)
        )
        if last is None:
            return done
        done = done.plus(Tally(entries=entries, unopened=Counter({QUARANTINE: unopened})))
        after = last


def _count_remaining(work: _Work, connection: sa.Connection) -> int:
    bodies = reseal.count_bodies_of_other_keys(connection, work.job, work.keyring)
    count = remask.count_tokens_of_other_keys
    return bodies + sum(count(connection, table, work.keyring) for table in work.tables)


def _older_keys_elsewhere(
    engine: sa.Engine, settings: Settings, keyring: Keyring
) -> dict[str, int | None]:
    elsewhere: dict[str, int | None] = {}
    for place in key_places(engine, settings, keyring):
        older = place.older(keyring.primary)
        if not place.is_own and older != 0:
            elsewhere[f"{place.name} of {', '.join(map(repr, place.jobs))}"] = older
    return elsewhere
