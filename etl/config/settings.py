"""All settings of a job, and what must hold between its sections."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import model_validator

from etl.config.column_type import TIMES
from etl.config.envelopes import mark, mark_attribute, places
from etl.config.hidden import Place, check_columns, within
from etl.config.job_tables import JobTables
from etl.config.messages import (
    BatchSettings,
    EventSettings,
    LedgerSettings,
    LoadSettings,
    QuarantineSettings,
    QueueSettings,
)
from etl.config.paths import Path as EventPath
from etl.config.program import (
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    ReportSettings,
    RunSettings,
    UnmaskSettings,
)
from etl.config.table import Table
from etl.errors import shown_name, suggestion

# How an entry of the quarantine tells apart what of it was masked under the name `Message`.
MASKED_NOTIFICATION = "sns:Message"
MASKED_MESSAGE = "none:Message"
# SQS allows 120,000 messages in flight per queue; this leaves some of them for other consumers.
MAX_IN_FLIGHT = 100_000


class Settings(JobTables):
    """All settings of a job."""

    queue: QueueSettings = QueueSettings()
    batch: BatchSettings = BatchSettings()
    event: EventSettings = EventSettings()
    load: LoadSettings = LoadSettings()
    ledger: LedgerSettings = LedgerSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    unmask: UnmaskSettings = UnmaskSettings()
    database: DatabaseSettings = DatabaseSettings()
    run: RunSettings = RunSettings()
    report: ReportSettings = ReportSettings()
    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _check_in_flight(self) -> Settings:
        # Each worker holds one batch that it is loading and one that it is gathering.
        in_flight = 2 * self.run.workers * self.batch.rows
        if in_flight > MAX_IN_FLIGHT:
            raise ValueError(
                f"run.workers and batch.rows would put up to {in_flight:,} messages in flight, "
                f"more than {MAX_IN_FLIGHT:,} (SQS allows 120,000); lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_report(self) -> Settings:
        columns = [column for table in self.tables for column in table.columns]
        for key in ("entity", "time"):
            name = getattr(self.report, key)
            names = [column.name for column in columns]
            if name is not None and name not in names:
                raise ValueError(
                    f"report.{key} is {shown_name(name)}, which is not a column of "
                    f"{'the table' if len(self.tables) == 1 else 'any table'}"
                    f"{suggestion(name, names)}"
                )
        for column in columns:
            if column.name == self.report.time and (column.array or column.type not in TIMES):
                raise ValueError(
                    f"report.time is {shown_name(self.report.time)}, which is not a 'date', "
                    "'timestamp' or 'datetime' column"
                )
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> Settings:
        if self.metrics.emf and self.log.format != "json":
            raise ValueError(
                "metrics.emf adds the metrics to JSON log lines, so log.format must be json"
            )
        return self

    @model_validator(mode="after")
    def _check_drop(self) -> Settings:
        why = dict.fromkeys(self.event.drop, "is listed in 'event.drop'")
        for table in self.tables:
            check_columns(table.columns, why)
        return self

    @model_validator(mode="after")
    def _name_ledger_key_as_its_column(self) -> Settings:
        """Write the ledger key with the first name of its column's field.

        So each of the names reads the same value, and gives it the same fingerprint.
        """
        for column in (column for table in self.tables for column in table.columns):
            if self.ledger.field in column.fields:
                ledger = self.ledger.model_copy(update={"key": f"field:{column.source}"})
                self.__dict__["ledger"] = ledger  # the model is frozen
        return self

    @model_validator(mode="after")
    def _check_split(self) -> Settings:
        if "s3" in self.queue.layers and self.event.split != "none":
            raise ValueError(
                "event.split must be none, because queue.envelope s3 already makes an event of "
                "each record"
            )
        return self

    def _with_table(self, table: Table) -> Self:
        names = [column.name for column in table.columns]
        report = {
            key: getattr(self.report, key)
            for key in ("entity", "time")
            if getattr(self.report, key) in names
        }
        none = {"entity": None, "time": None}
        changed = self.report.model_copy(update={**none, **report})
        return super()._with_table(table).model_copy(update={"report": changed})

    @property
    def splits(self) -> bool:
        """Whether a message may hold several events."""
        return self.event.split != "none" or "s3" in self.queue.layers

    @property
    def masked_fields(self) -> frozenset[str]:
        """The fields that are masked or dropped, and where in a message the event with them is.

        A `Message` is listed once more with the envelope before it. Of ``sns``, that is the whole
        text of the event; of ``none``, it is a field, which may hold an event as ``sns`` reads it.
        """
        fields = self.masked_in_events
        if not fields or (not self.queue.layers and not self.splits):
            return fields
        fields -= {MASKED_MESSAGE}
        if self.queue.layers == ("sns",) and not self.splits:
            return fields | {MASKED_NOTIFICATION}
        return fields.union(map(mark, self.places))

    @property
    def masked_in_events(self) -> frozenset[str]:
        """The fields that are masked or dropped of an event with nothing around it.

        Masked attributes of its message are among them, each with a mark.
        """
        fields = self.hidden_fields
        fields |= {MASKED_MESSAGE} if "Message" in fields else set()
        columns = [column for table in self.tables_of_job for column in table.columns]
        return fields.union(mark_attribute(c.source) for c in columns if c.mask and not c.fields)

    @property
    def hidden_fields(self) -> frozenset[str]:
        """The fields of the event that a table of the job masks, or that are dropped."""
        masked = (table.masked_fields for table in self.tables_of_job)
        return frozenset(self.event.drop).union(*masked)

    @property
    def places(self) -> list[EventPath]:
        """Where in the body of a message the fields of an event are."""
        return places(self.queue.layers, self.event.split)

    @property
    def hidden_within(self) -> dict[str, tuple[Place, ...]]:
        """The masked and dropped places within the value of each column of type ``json``.

        By the column's source; the places as seen from there.
        """
        hidden = sorted(self.hidden_fields)
        found = {c.source: within(c, hidden) for c in self.table.columns if c.type == "json"}
        return {source: places for source, places in found.items() if places}

    @property
    def event_fields(self) -> list[str]:
        """The fields of the event that are read: those of the columns and of the ledger key.

        A field of several names is listed by its first.
        """
        fields = [column.source for column in self.table.columns if column.fields]
        return list(dict.fromkeys([*fields, *([self.ledger.field] if self.ledger.field else [])]))

    @property
    def other_names(self) -> dict[str, tuple[str, ...]]:
        """The other names of the fields that have several, by the first name."""
        columns = self.table.columns
        return {column.source: column.fields[1:] for column in columns if len(column.fields) > 1}

    @property
    def config_hash(self) -> str:
        """The first 16 hex digits of SHA-256 over all settings except the secrets."""
        # Routes hold the tables.
        table = set() if self.routes is None else {"table"}
        text = json.dumps(self.model_dump(mode="json", exclude=table), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
