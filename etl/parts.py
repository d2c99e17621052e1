"""The part of a batch that goes to one table, and how its rows are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import NamedTuple

import pandas as pd
import sqlalchemy as sa

from etl import ledger, load
from etl.config import BatchCheck, LoadSettings, Table
from etl.frames import rejects
from etl.postgres import conflicts, verdict
from etl.postgres.bisection import NoRowTaken, Trial


class BatchId(NamedTuple):
    """How the ledger recognises a batch."""

    run_id: str
    number: int  # within the run


@dataclass(frozen=True)
class Part:
    """What of a batch goes to one table. Events that could not be read are in no part."""

    table: Table
    staging: str  # name of the table in which its rows wait
    masked: pd.DataFrame  # may hold rows of messages that are also in rejects
    rejects: pd.DataFrame  # message_id, column, check
    # By message id; empty if ``ledger.key`` is message_id.
    fingerprints: Mapping[str, tuple[str, ...]]
    messages: int  # for the checks of the whole batch
    broken: list[BatchCheck]  # those of them that it fails and that stop a run


@dataclass(frozen=True)
class StagedPart:
    """A part whose rows wait in a staging table of the transaction."""

    connection: sa.Connection
    part: Part
    max_rejects: int
    trial: Trial  # what the table did with the rows
    refused: pd.DataFrame  # by the staging table, as rejects

    def merge(self, ids: list[str], batch_id: BatchId) -> tuple[list[str], pd.DataFrame]:
        """Move rows to the table; return the ids of the loaded ones, and the refused rows.

        Of several messages with the same fingerprints only the first is loaded.

        :raises DatabaseRefused: no row is accepted, and that is the table's fault
        """
        keys = self.part.fingerprints
        if not keys:
            refusals = self._move(ids) if ids else rejects(())
            refused = set(refusals["message_id"])
            return [message_id for message_id in ids if message_id not in refused], refusals
        loaded: list[str] = []
        frames = [rejects(())]
        while ids:
            new = ledger.claim_keys(self.connection, ids, keys, *batch_id)
            frames.append(self._move(new))
            refused = set(frames[-1]["message_id"])
            loaded += [message_id for message_id in new if message_id not in refused]
            freed = {keys[message_id] for message_id in refused}
            free_keys = [key for of_message in freed for key in of_message]
            ledger.free(self.connection, free_keys, batch_id.run_id)
            # Another message with the key of a refused row may be good, so it gets its turn.
            ids = [i for i in ids if i not in refused and keys[i] in freed]
        return loaded, pd.concat(frames, ignore_index=True)

    def _move(self, ids: list[str]) -> pd.DataFrame:
        with _naming_the_table(self.connection, self.part):
            return load.merge(
                self.connection,
                ids,
                self.part.table,
                len(self.part.masked) - len(self.refused),
                self.max_rejects,
                self.trial,
                self.part.staging,
            )

    def doubt(self) -> verdict.Doubt | None:
        """Whether the table may be at fault, as of :func:`etl.postgres.verdict.doubt`."""
        return verdict.doubt(self.connection, self.trial, self.part.table, self.part.staging)


@dataclass(frozen=True)
class Stored:
    """The batch's new messages: loaded, or rejected.

    A message in neither was handled before, under its id or another key.
    """

    loaded: list[str]  # event ids
    rejects: pd.DataFrame
    empty: list[str]  # ids of new messages without an event
    doubts: list[verdict.Doubt] = field(default_factory=list)
    updated: int = 0  # of the loaded ones, those whose row has replaced another one
    skipped: int = 0  # of the loaded ones, those whose row was kept out by another one
    tables: frozenset[str] = frozenset()  # that rows were loaded into


def stage(
    connection: sa.Connection,
    part: Part,
    settings: LoadSettings,
    max_rejects: int,
    *,
    tries_all: bool,
) -> StagedPart:
    """Put the rows of a part into a staging table, in the caller's transaction.

    :param max_rejects: give up when the database refuses more rows than this
    :param tries_all: see :class:`etl.postgres.bisection.Trial`
    :raises DatabaseRefused: no row is accepted, and that is the table's fault
    """
    trial = Trial(tries_all, cache(partial(conflicts.examined, connection, part.table)))
    with _naming_the_table(connection, part):
        refused = load.stage(
            connection, part.masked, part.table, settings, max_rejects, part.staging
        )
    return StagedPart(connection, part, max_rejects, trial, refused)


@contextmanager
def _naming_the_table(connection: sa.Connection, part: Part) -> Iterator[None]:
    try:
        yield
    except NoRowTaken as found:
        raise verdict.table_refused(connection, part.table, found.refusal, part.staging) from None
