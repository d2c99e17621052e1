"""config.yaml and the environment, as frozen settings.

Sources, the later one winning: the defaults below, the file, ``ETL_SECTION__KEY`` variables, the
command line. An unknown key is an error that names it, wherever it stands. Secrets come from the
environment only (``DATABASE_URL``, ``ETL_KEYRING*``, the AWS variables) and never show in a repr.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from etl.errors import SettingsError

# Variables of ours that are no settings: where the file is, and the sources of the keyring.
NOT_SETTINGS = {"ETL_CONFIG", "ETL_KEYRING", "ETL_KEYRING_FILE", "ETL_KEYRING_SECRET"}

# 63 bytes is Postgres' NAMEDATALEN - 1; longer names would be cut silently.
Identifier = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[^\x00]+$")]
# Columns of the raw frame that are no fields of the event.
FIELDS_OF_THE_JOB = ("message_id", "SentTimestamp")
# SQS refuses to deliver more than 120,000 messages that are in flight; other consumers want some.
MAX_IN_FLIGHT = 100_000

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )


class QueueSettings(_Section):
    """Where the messages come from."""

    url: str | None = Field(None, description="URL of the SQS queue")
    receivers: int = Field(
        2,
        ge=1,
        le=32,
        description="threads that receive in parallel, where SQS takes its time to answer",
    )
    wait_seconds: int = Field(
        5, ge=0, le=20, description="length of a long poll; a stop waits for the poll under way"
    )
    envelope: Literal["none", "sns"] = Field(
        "none", description="sns: the event stands in the Message member of an SNS notification"
    )
    retry_seconds: Seconds = Field(300, description="how long an SQS outage is waited out")


class BatchSettings(_Section):
    """When the messages gathered so far are loaded: whichever limit is reached first."""

    rows: int = Field(10_000, ge=1, le=50_000, description="messages in a batch")
    bytes: int = Field(32 * 1024 * 1024, ge=1024, description="bytes of message bodies in a batch")
    seconds: Seconds = Field(20, description="age of the batch's first message")


class EventSettings(_Section):
    """What is expected of an event beside its columns."""

    unknown_fields: Literal["ignore", "reject"] = Field(
        "ignore", description="what becomes of a message with a field that no column reads"
    )


class Column(_Section):
    """One column of the target table, and where its value comes from."""

    name: Identifier = Field(description="column in the table")
    field: str | None = Field(None, min_length=1, description="field of the event")
    attribute: Literal["SentTimestamp"] | None = Field(
        None, description="attribute of the message, in place of a field"
    )
    type: Literal[
        "text", "ip", "version", "integer", "bigint", "number", "boolean", "date", "timestamp"
    ] = Field(description="what the value must be")
    max_length: int | None = Field(
        None, ge=1, le=10_485_760, description="characters of a varchar column; of tokens if masked"
    )
    nullable: bool = Field(False, description="null is allowed")
    required: bool = Field(True, description="the field must be there; if not, absent means null")
    mask: bool = Field(False, description="personal: only a token reaches the database")
    context: str | None = Field(
        None, description="masking context; columns that share one share their tokens"
    )
    canonical: bool = Field(
        True, description="type ip: every spelling of an address becomes the same value"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Column:
        if (self.field is None) == (self.attribute is None):
            raise ValueError("needs either 'field' or 'attribute'")
        if self.attribute and (self.type not in ("date", "timestamp") or self.mask):
            raise ValueError(
                "an attribute makes a 'date' or 'timestamp' column, never a masked one"
            )
        if self.field in FIELDS_OF_THE_JOB:
            raise ValueError(f"field {self.field!r} is a name that the job needs for itself")
        if self.mask and self.type not in ("text", "ip"):
            raise ValueError("only 'text' and 'ip' can be masked")
        if not self.required and not self.nullable:
            raise ValueError("a column that is not required must be nullable")
        return self

    @property
    def source(self) -> str:
        """Name of the value in the raw frame: the field's or the attribute's."""
        return self.field or self.attribute or ""

    @property
    def masking_context(self) -> str:
        """The context that its tokens are bound to."""
        return self.context or self.source


class Table(_Section):
    """The target table."""

    schema_name: Identifier = Field("public", alias="schema", description="schema of the table")
    name: Identifier = Field("user_logins", description="target table, created if absent")
    token_check: bool = Field(
        False, description="the table is created with a CHECK that masked columns hold tokens"
    )
    columns: tuple[Column, ...] = Field(description="its columns, in order")
    indexes: tuple[tuple[Identifier, ...], ...] = Field(
        (), description="indexes that init makes: lists of columns, such as [[masked_ip, user_id]]"
    )

    @field_validator("columns")
    @classmethod
    def _distinct(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if not columns:
            raise ValueError("a table needs at least one column")
        names = Counter(column.name for column in columns)
        sources = Counter(column.source for column in columns)
        for column in columns:
            if names[column.name] > 1:
                raise ValueError(f"column {column.name!r} stands twice")
            if sources[column.source] > 1:
                raise ValueError(f"{column.source!r} is read by two columns")
            if column.name == "message_id":
                raise ValueError("'message_id' is a name that the job needs for itself")
            # Half-way through the job a frame holds sources and table columns side by side.
            if column.name != column.source and column.name in sources:
                raise ValueError(f"column {column.name!r} has the name of another column's field")
        return columns


class LoadSettings(_Section):
    """How rows reach the database."""

    method: Literal["multi", "copy"] = Field(
        "multi", description="multi: to_sql's multi-row INSERT; copy: to_sql through COPY"
    )
    statement_rows: int = Field(
        500, ge=1, le=10_000, description="rows in one INSERT of the method multi"
    )


class LedgerSettings(_Section):
    """The memory of what has been handled already."""

    key: str = Field(
        "message_id",
        description="what else than its message id tells that an event was handled: "
        "`field:<event field>`, a business id, or `body`",
    )
    retention_days: int = Field(
        35,
        ge=1,
        description="age at which ids are forgotten; above queue plus dead-letter retention",
    )

    @field_validator("key")
    @classmethod
    def _known(cls, key: str) -> str:
        kind, _, field = key.partition(":")
        if key not in ("message_id", "body") and not (kind == "field" and field):
            raise ValueError("must be message_id, body, or field: and the name of an event's field")
        if field in FIELDS_OF_THE_JOB:
            raise ValueError(f"field {field!r} is a name that the job needs for itself")
        return key

    @property
    def field(self) -> str | None:
        """The event's field that identifies it, if one does."""
        return self.key.partition(":")[2] or None


class QuarantineSettings(_Section):
    """When rejects stop the run."""

    max_fraction: float = Field(
        0.5, ge=0, le=1, description="share of quarantined messages that stops the run (exit 3)"
    )
    min_messages: int = Field(100, ge=1, description="messages seen before that share counts")


class UnmaskSettings(_Section):
    """How much is recovered at once."""

    max_rows: int = Field(1000, ge=1, description="most rows that unmask shows; more are refused")
    statement_seconds: Seconds = Field(30, description="how long a condition on the table may take")


class DatabaseSettings(_Section):
    """The Postgres to load into; its address is DATABASE_URL."""

    url: SecretStr | None = Field(None, exclude=True, description="DATABASE_URL, never the file")
    create_tables: bool = Field(True, description="run creates absent tables, as init does")
    connect_seconds: int = Field(10, ge=1, description="time for a connection to come about")
    retry_seconds: Seconds = Field(300, description="how long a database outage is waited out")
    answer_seconds: Seconds = Field(
        600, description="time for a batch's transaction; then its connection is given up"
    )


class RunSettings(_Section):
    """When a run stops by itself."""

    idle_seconds: Seconds = Field(30, description="stop after so long without a message")
    max_messages: Positive | None = Field(None, description="stop after so many messages")
    max_seconds: Seconds | None = Field(None, description="stop after so long")
    forever: bool = Field(False, description="an idle queue does not stop the run")
    workers: int = Field(1, ge=1, le=64, description="processes that drain the queue together")


class ReportSettings(_Section):
    """How the duplicate report reads the table."""

    entity: Identifier | None = Field(
        None, description="column that says whose row it is; default: the first"
    )
    time: Identifier | None = Field(
        None, description="column that says when; default: the first date or timestamp"
    )


class LogSettings(_Section):
    """Log lines, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level")
    format: Literal["text", "json"] = Field("text", description="text or JSON lines")


class Settings(_Section):
    """All settings of a job."""

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
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _below_the_limit(self) -> Settings:
        # Each worker holds the batch that it loads and the one that it gathers.
        held = 2 * self.run.workers * self.batch.rows
        if held > MAX_IN_FLIGHT:
            raise ValueError(
                f"run.workers x batch.rows may hold {held:,} messages at once, above "
                f"{MAX_IN_FLIGHT:,}; SQS allows 120,000 in flight; lower one of the two"
            )
        return self

    @model_validator(mode="after")
    def _indexed_columns(self) -> Settings:
        known = {column.name for column in self.table.columns}
        for index in self.table.indexes:
            if not index or not known.issuperset(index) or len(set(index)) < len(index):
                raise ValueError("table.indexes must list columns of the table, each once an index")
        return self

    @model_validator(mode="after")
    def _reported_columns(self) -> Settings:
        types = {column.name: column.type for column in self.table.columns}
        for key in ("entity", "time"):
            name = getattr(self.report, key)
            if name is not None and name not in types:
                raise ValueError(f"report.{key} is {name!r}, which is no column of the table")
        if self.report.time and types[self.report.time] not in ("date", "timestamp"):
            raise ValueError(f"report.time is {self.report.time!r}, neither 'date' nor 'timestamp'")
        return self

    @property
    def event_fields(self) -> list[str]:
        """The fields of the event that are read: the columns', and the ledger key's."""
        fields = [column.field for column in self.table.columns if column.field]
        return list(dict.fromkeys([*fields, *([self.ledger.field] if self.ledger.field else [])]))

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of SHA-256 over all settings but the secrets."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load(
    path: Path, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read and check the settings.

    :param path: the YAML file
    :param environment: ``ETL_SECTION__KEY`` (values are YAML) and ``DATABASE_URL`` are read from it
    :param overrides: ``{"section.key": value}`` from the command line; None values are skipped
    :raises SettingsError: something is missing, unknown or out of range; all of it is named
    """
    tree = _read(path)
    for section, key, text, variable in _variables(environment):
        _put(tree, section, key, _yaml(text, variable), variable)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            section, key = dotted.split(".")
            _put(tree, section, key, value, dotted)
    if "url" in (tree.get("database") or {}):
        raise SettingsError(
            "'database.url' is a secret: take it out of the configuration and set DATABASE_URL"
        )
    if environment.get("DATABASE_URL"):
        tree["database"] = {**(tree.get("database") or {}), "url": environment["DATABASE_URL"]}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        # include_input=False: a value may be a secret that was put in the wrong place.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError(
            "; ".join(_describe([str(part) for part in p["loc"]], p) for p in problems)
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise SettingsError(
            f"cannot read {str(path)!r}: {reason}; name another file with --config"
        ) from None
    tree = _yaml(text, str(path))
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{str(path)!r} must hold sections such as 'queue:' and 'table:'")
    return tree


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The mark's own text quotes the line, which may hold a secret; its numbers do not.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{source!r} is not YAML{where}") from None


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    found = []
    for variable in sorted(environment):
        if not variable.startswith("ETL_") or variable in NOT_SETTINGS:
            continue
        section, divider, key = variable.removeprefix("ETL_").lower().partition("__")
        if not divider:
            raise SettingsError(
                f"unknown variable {variable!r}: settings are ETL_SECTION__KEY, two underscores"
            )
        found.append((section, key, environment[variable], variable))
    return found


def _put(tree: dict[str, Any], section: str, key: str, value: Any, source: str) -> None:
    if section not in Settings.model_fields:
        raise SettingsError(
            f"unknown section {section!r} in {source!r}{_near(section, Settings.model_fields)}"
        )
    branch = tree.get(section) or {}
    if not isinstance(branch, dict):
        raise SettingsError(f"{section!r} must be a section with keys")
    tree[section] = {**branch, key: value}


def _describe(location: list[str], problem: Any) -> str:
    name = ".".join(location) or "together"
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}{_near(location[-1], _keys(location[:-1]))}"
    if problem["type"] == "missing":
        return f"setting {name!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"setting {name!r}: {message[:1].lower()}{message[1:]}"


def _keys(location: list[str]) -> list[str]:
    model: Any = Settings
    for part in location:
        if part.isdigit():
            continue
        model = Column if part == "columns" else model.model_fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def _near(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
