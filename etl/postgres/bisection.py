"""Inserts the rows of a batch, and finds those that the database refuses by halving.

Each part is tried within a savepoint. Whatever the reason of a refusal, a part that is accepted
shows that the table takes rows, so that the rows that are refused are at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pandas as pd
import psycopg2
import sqlalchemy as sa

from etl.errors import QuarantineBudget
from etl.frames import rejects
from etl.postgres.sqlstate import NOT_STORED, Refusal, refusal, translate
from etl.postgres.upsert import Outcome
from etl.text import counted

# So many rows are refused one by one, and then so many others are tried, before it is concluded
# that the table takes none. If it takes one row in seven, one of 20 is taken with 95 %.
PROBES = 20

# Inserts the rows from the first position up to the second; returns what the database did.
Insert = Callable[[int, int], Outcome]
# Adds to the refusal of a row, which has this message id, what can be found out about it.
Named = Callable[[str, Refusal], Refusal]


class NoRowTaken(Exception):  # noqa: N818  (a finding, caught by its callers)
    """The database refuses every row that was tried."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.check)
        self.refusal = refusal


@dataclass
class Trial:
    """What the database did with the rows of one batch.

    :param tries_all: try every row, whatever the database does with the others
    :param examined: looks up whether a row's values have led to its refusal
    """

    tries_all: bool = False
    examined: Callable[[Refusal], Refusal] = lambda found: found
    taken: int = 0
    updated: int = 0  # rows that have replaced another one
    skipped: int = 0  # rows that another one with the same key has kept out
    refused: dict[str, Refusal] = field(default_factory=dict)  # by message id

    @property
    def has_taken_rows(self) -> bool:
        """Whether the table takes rows: it took one, or one that it took before is in the way."""
        return self.taken > 0 or any(found.is_conflict for found in self.refused.values())


def insert_rows(
    connection: sa.Connection,
    message_ids: Sequence[str],
    insert: Insert,
    max_rejects: int,
    trial: Trial,
    named: Named = lambda _, found: found,
) -> None:
    """Insert all rows that the database accepts, and enter in *trial* what became of each.

    The number of statements is bounded: by *max_rejects* times the depth of the halving, and by
    three times PROBES if no row is accepted.

    :raises QuarantineBudget: more than *max_rejects* rows are refused
    :raises NoRowTaken: PROBES rows or more are refused, and none is accepted
    :raises DatabaseUnavailable: an outage
    :raises DatabaseRefused: the transaction as such is refused
    """
    refused = 0
    is_probed = False
    # A stack instead of recursion: rows stay in order, and the budget can end it at once.
    parts = [(0, len(message_ids))]
    while parts:
        start, stop = parts.pop()
        if start == stop:
            continue
        found = _attempt(connection, insert, start, stop, trial)
        if found is None:
            trial.taken += stop - start
            continue
        if stop - start > 1:
            middle = (start + stop) // 2
            parts += [(middle, stop), (start, middle)]
            continue
        found = named(message_ids[start], found)
        trial.refused[message_ids[start]] = found
        refused += 1
        if refused > max_rejects:
            raise QuarantineBudget(
                f"the database refused more than {counted(max_rejects, 'row')} of a batch, the "
                f"last one with {found.check}; look at the constraints and triggers of the target "
                "table",
                rejects((row, "row", why.check) for row, why in trial.refused.items()),
            )
        if refused >= PROBES and not (is_probed or trial.tries_all or trial.has_taken_rows):
            is_probed = True
            if not _takes_any(connection, insert, parts, trial):
                raise NoRowTaken(found)


def _takes_any(
    connection: sa.Connection, insert: Insert, parts: list[tuple[int, int]], trial: Trial
) -> bool:
    """Whether the database accepts one of PROBES rows, spread over the parts that are left.

    The first rows of a batch may be alike, such as those of one producer.
    """
    rows = [row for start, stop in parts for row in range(start, stop)]
    step = max(len(rows) / PROBES, 1)
    spread = [rows[int(position * step)] for position in range(min(len(rows), PROBES))]
    for row in spread:
        found = _attempt(connection, insert, row, row + 1, trial, is_probe=True)
        if found is None or found.is_conflict:
            return True
    return False


def _attempt(
    connection: sa.Connection,
    insert: Insert,
    start: int,
    stop: int,
    trial: Trial,
    *,
    is_probe: bool = False,
) -> Refusal | None:
    """Try to insert a part; return how it was refused. A probe is taken back in any case."""
    savepoint = connection.begin_nested()
    found: Refusal | None = None
    outcome = Outcome(0)
    try:
        outcome = insert(start, stop)
        if outcome.taken != stop - start:
            # Without an error: a trigger returned null, or a rule did something else instead.
            found = NOT_STORED
    except (sa.exc.SQLAlchemyError, psycopg2.Error, pd.errors.DatabaseError, ValueError) as error:
        found = refusal(error)
        if found is None:
            raise translate(error) from None
    if found is None and not is_probe:
        savepoint.commit()
        trial.updated += outcome.updated
        trial.skipped += outcome.skipped
    else:
        savepoint.rollback()
    return None if found is None else trial.examined(found)
