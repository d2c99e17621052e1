"""All settings of a job, and what must hold between its sections."""

from __future__ import annotations

import hashlib
import json

from pydantic import model_validator

from etl.config.column_type import TIMES
from etl.config.envelopes import mark, mark_attribute, places
from etl.config.hidden import Place, check_columns, within
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
    JobSettings,
    LogSettings,
    MetricsSettings,
    ReportSettings,
    RunSettings,
    UnmaskSettings,
)
from etl.config.section import Section
from etl.config.table import Table
from etl.errors import shown_name, suggestion

# How an entry of the quarantine tells apart what of it was masked under the name `Message`.
MASKED_NOTIFICATION = "sns:Message"
MASKED_MESSAGE = "none:Message"
# SQS allows 120,000 messages in flight per queue; this leaves some of them for other consumers.
MAX_IN_FLIGHT = 100_000


class Settings(Section):
    """All settings of a job."""

    job: JobSettings = JobSettings()
    queue: QueueSettings = QueueSettings()
    batch: BatchSettings = BatchSettings()
    event: EventSettings = EventSettings()
    table: Table
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
    def _check_indexes(self) -> Settings:
        known = [column.name for column in self.table.columns]
        for index in self.table.indexes:
            for name in index:
                if name not in known:
                    raise ValueError(
                        f"table.indexes: {shown_name(name)} is not a column of the table"
                        f"{suggestion(name, known)}"
                    )
            if not index or len(set(index)) < len(index):
                raise ValueError(
                    "table.indexes: each index must list columns of the table, none of them twice"
                )
        return self

    @model_validator(mode="after")
    def _check_report(self) -> Settings:
        types = {c.name: "list" if c.array else c.type for c in self.table.columns}
        for key in ("entity", "time"):
            name = getattr(self.report, key)
            if name is not None and name not in types:
                raise ValueError(
                    f"report.{key} is {shown_name(name)}, which is not a column of the table"
                    f"{suggestion(name, types)}"
                )
        if self.report.time and types[self.report.time] not in TIMES:
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
        check_columns(
            self.table.columns, dict.fromkeys(self.event.drop, "is listed in 'event.drop'")
        )
        return self

    @model_validator(mode="after")
    def _name_ledger_key_as_its_column(self) -> Settings:
        """Write the ledger key with the first name of its column's field.

        So each of the names reads the same value, and gives it the same fingerprint.
        """
        for column in self.table.columns:
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

    @property
    def splits(self) -> bool:
        """Whether a message may hold several events."""
        return self.event.split != "none" or "s3" in self.queue.layers

    @property
    def job_name(self) -> str:
        """The name under which the database knows this job."""
        return self.job.name or self.table.full_name

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
        fields = self.table.masked_fields | frozenset(self.event.drop)
        fields |= {MASKED_MESSAGE} if "Message" in fields else set()
        columns = self.table.columns
        return fields.union(mark_attribute(c.source) for c in columns if c.mask and not c.fields)

    @property
    def places(self) -> list[EventPath]:
        """Where in the body of a message the fields of an event are."""
        return places(self.queue.layers, self.event.split)

    @property
    def hidden_within(self) -> dict[str, tuple[Place, ...]]:
        """The masked and dropped places within the value of each column of type ``json``.

        By the column's source; the places as seen from there.
        """
        hidden = sorted(self.table.masked_fields.union(self.event.drop))
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
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
