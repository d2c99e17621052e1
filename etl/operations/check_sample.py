"""What a configuration would do with the messages of a sample: the stages of a run, offline."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from etl.batch import Batch, prepare
from etl.checks.configured import check_table
from etl.config import Column, Settings, Table, parse_path
from etl.crypto.keyring import Keyring
from etl.operations import draft_personal
from etl.operations.draft_fields import values_by_path
from etl.operations.sample import Sample
from etl.postgres.findings import Findings
from etl.quarantine import check_counts
from etl.reading.events import Bodies
from etl.reading.pointers import is_pointer, read_pointer
from etl.reading.reader import EventReader
from etl.reading.unreadable import Unreadable
from etl.sqs.message import Message
from etl.validate import frame_schemas

MASKED = "(masked)"
HIDDEN = "(not shown)"


@dataclass(frozen=True)
class Event:
    """What would become of one event."""

    place: str  # in the sample
    table: str | None  # its name; None if no table takes the event, or it could not be read
    row: dict[str, Any] | None  # as the table would hold it; None if it would not be loaded
    failed: list[tuple[str, str]]  # column and check, as in the quarantine
    is_repeated: bool = False  # an earlier event of the sample has its ledger key

    @property
    def would_load(self) -> bool:
        """Whether a run would load it."""
        return self.row is not None and not self.is_repeated


@dataclass
class Trial:
    """What would become of the events of a sample, in their order."""

    messages: int
    pointers: int = 0  # messages whose bodies are in S3, which is not asked
    events: list[Event] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    # What the values of a column seem to be that is not masked: its rows do not show them. By
    # table and column.
    looks: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def loaded(self) -> int:
        """Events that a run would load."""
        return sum(event.would_load for event in self.events)

    @property
    def repeated(self) -> int:
        """Events that the ledger would take for an earlier one."""
        return sum(event.is_repeated for event in self.events)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, also those of events that would be skipped."""
        return [e.row for e in self.events if e.table == table and e.row is not None]

    @property
    def quarantined(self) -> int:
        """Events that fail a check."""
        return sum(event.row is None for event in self.events)


def try_sample(settings: Settings, sample: Sample) -> Trial:
    """Read, check and mask the messages as a run does. Needs no queue, no database, no keyring.

    :raises SettingsError: the columns cannot be checked or stored
    """
    for table in settings.tables:
        check_table(table)
    schemas = frame_schemas(settings)
    # The tokens are thrown away with their key.
    keyring = Keyring.new()
    run_id = str(uuid.uuid4())
    trial = Trial(len(sample.messages))
    pointers = _Pointers(settings.queue.payload_buckets)
    reader = EventReader(settings, pointers if settings.queue.payloads == "s3" else None)
    keys: set[str] = set()
    for start in range(0, len(sample.messages), settings.batch.rows):
        messages = sample.messages[start : start + settings.batch.rows]
        batch = prepare(reader.events(messages), settings, schemas, keyring, run_id)
        ids = [message.message_id for message in messages]
        trial.events += _events(batch, ids, sample.places, keys)
        found = batch.findings(check_counts(batch.rejects) + batch.broken_checks)
        trial.findings = trial.findings.plus(found)
    trial.pointers = pointers.found
    for table in settings.tables:
        _hide_what_looks_personal(trial, table)
    return trial


class _Pointers:
    """Sets the pointers to bodies in S3 aside, if they are right."""

    def __init__(self, buckets: Collection[str]) -> None:
        self._buckets = buckets
        self.found = 0

    def bodies(self, messages: Sequence[Message], _max_bytes: float) -> Iterator[Bodies]:
        """Yield the other messages."""
        others = Bodies()
        for message in messages:
            if not is_pointer(message.body):
                others.add(message)
                continue
            try:
                read_pointer(message.body, self._buckets)
            except Unreadable as finding:
                others.faults.append((message, finding.check))
            else:
                self.found += 1
        yield others


def _hide_what_looks_personal(trial: Trial, table: Table) -> None:
    rows = trial.rows(table.full_name)
    for column in table.columns:
        values = [row[column.name] for row in rows if row[column.name] is not None]
        if why := _looks(column, values):
            trial.looks[table.full_name, column.name] = why
            for row in rows:
                if row[column.name] is not None:
                    row[column.name] = HIDDEN


def _looks(column: Column, values: list[Any]) -> str | None:
    """Why values that would be stored in plain seem to be personal; None if they do not."""
    if column.hides_value or column.is_of_the_job:
        return None
    paths = [[step for step in parse_path(f) if type(step) is str] for f in column.fields]
    # Numbers too, which a phone number may be; but no times.
    if column.type == "boolean" or not any(isinstance(v, (str, int, list, dict)) for v in values):
        return None
    found = [values_by_path(tuple(path) or (column.name,), values) for path in paths]
    return draft_personal.why_personal({path: of for each in found for path, of in each.items()})


def _events(
    batch: Batch, ids: list[str], places: dict[str, str], keys: set[str]
) -> Iterator[Event]:
    rows: dict[str, dict[str, Any]] = {}
    tables: dict[str, str] = {}
    for part in batch.parts:
        rows |= _rows(part.masked, part.table)
        in_part = [*part.masked["message_id"], *part.rejects["message_id"]]
        tables |= dict.fromkeys(in_part, part.table.full_name)
    failed: dict[str, list[tuple[str, str]]] = {}
    for event_id, column, check in batch.rejects.itertuples(index=False):
        failed.setdefault(event_id, []).append((column, check))
    order = {message_id: number for number, message_id in enumerate(ids)}
    fingerprints = batch.fingerprints
    for event_id in sorted({**rows, **failed}, key=lambda i: _position(i, order)):
        place = places[ids[_position(event_id, order)[0]]]
        table = tables.get(event_id)
        if event_id in failed:
            yield Event(place, table, None, failed[event_id])
            continue
        ledger_keys = fingerprints.get(event_id, ())
        yield Event(place, table, rows[event_id], [], not keys.isdisjoint(ledger_keys))
        keys.update(ledger_keys)


def _position(event_id: str, order: dict[str, int]) -> tuple[int, int]:
    """Of the message, and of the event in it, whose number is in its id if there are several."""
    if event_id in order:
        return order[event_id], 0
    message_id, _, number = event_id.rpartition("#")
    return order[message_id], int(number)


def _rows(masked: pd.DataFrame, table: Table) -> dict[str, dict[str, Any]]:
    """The rows by event id. Of what is masked they tell only whether there is a value."""
    values: dict[str, list[Any]] = {}
    for column in table.columns:
        in_frame = masked[column.name]
        is_null = in_frame.isna().tolist()
        plain = [MASKED] * len(masked) if column.hides_value else in_frame.astype(object).tolist()
        values[column.name] = [
            None if null else value for null, value in zip(is_null, plain, strict=True)
        ]
    in_rows = zip(*values.values(), strict=True)
    return {
        event_id: dict(zip(values, row, strict=True))
        for event_id, row in zip(masked["message_id"].tolist(), in_rows, strict=True)
    }


def columns_with_counts(table: Table, trial: Trial) -> pd.DataFrame:
    """Each column of a table, its source, its type, and how many events would fill it."""
    from sqlalchemy.dialects import postgresql

    from etl.schema import sql_type

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    filled = Counter[str]()
    for event in trial.events:
        if event.would_load and event.row and event.table == table.full_name:
            filled.update(name for name, value in event.row.items() if value is not None)
    return pd.DataFrame(
        [
            {
                "column": column.name,
                "from": column.source,
                "type": sql_type(column).compile(dialect=dialect),
                "masked": column.hides_value,
                "nullable": column.nullable,
                "looks": trial.looks.get((table.full_name, column.name)),
                "values": filled[column.name],
            }
            for column in table.columns
        ]
    )
