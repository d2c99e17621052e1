"""The part of a batch that goes to one table: its rows are checked and masked, and then stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from etl import fingerprints, ledger, load, mask, validate
from etl.checks import batches
from etl.config import BatchCheck, LoadSettings, Settings, Table
from etl.crypto.keyring import Keyring
from etl.frames import Note, rejects
from etl.postgres import conflicts, verdict
from etl.postgres.bisection import NoRowTaken, Trial
from etl.reading.without import take_out
from etl.schema import STAGING
from etl.sqs.message import Message


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
    fingerprints: dict[str, fingerprints.Fingerprints]
    messages: int  # for the checks of the whole batch
    broken: list[BatchCheck]  # those of them that it fails and that stop a run


def prepare(
    settings: Settings,
    raw: pd.DataFrame,
    schema: validate.FrameSchema,
    keyring: Keyring,
    readable: Sequence[Message],
    notes: Counter[Note],
    *,
    messages: int,
    number: int = 0,
    unwrap: Callable[[Message], str] | None = None,
) -> Part:
    """Check and mask the rows of a table.

    :param settings: of this table, as of :meth:`etl.config.Settings.of_each_table`
    :param raw: as of :func:`etl.extract.read`
    :param readable: the messages, and perhaps others
    :param notes: gets what was changed or warned of without a reject
    :param messages: of the batch, for this table
    :param number: of the part, from 0
    :param unwrap: as of :func:`etl.extract.read`
    """
    table = settings.table
    keys, unidentified = fingerprints.make(
        readable,
        raw,
        settings.ledger,
        keyring,
        job=settings.job_name,
        table=None if settings.routes is None else table.full_name,
        other_names=settings.other_names.get(settings.ledger.field or "", ()),
        unwrap=unwrap,
    )
    raw = take_out(raw, settings.hidden_within)
    valid, invalid = validate.split(raw, schema, table.columns, notes)
    broken = batches.broken(table, valid, messages)
    warned: dict[Any, int] = {
        (batches.BATCH, check.name): messages for check in broken if check.severity == "warn"
    }
    notes.update(warned)
    return Part(
        table=table,
        staging=f"{STAGING}_{number}" if number else STAGING,
        masked=mask.columns(valid, keyring, mask.masking_plan(table)),
        rejects=pd.concat([unidentified, invalid], ignore_index=True),
        fingerprints=keys,
        messages=messages,
        broken=[check for check in broken if check.severity == "stop"],
    )


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
