"""Settings from config.yaml and the environment, as frozen models.

There are four sources, and each overrides the one before it: the defaults in this file, the
configuration file, ``ETL_SECTION__KEY`` variables, and the command line. An unknown key in any of
them is an error that names it. Secrets come only from the environment (``DATABASE_URL``,
``ETL_KEYRING*``, the AWS variables) and never show in a repr.

This is one file because all settings are declared in one place, and the error for a misspelt key is
made from those declarations.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from etl.errors import SettingsError, may_be_secret

# Variables of ours that are not settings: where the file is, and where the keyring is.
NOT_SETTINGS = {"ETL_CONFIG", "ETL_KEYRING", "ETL_KEYRING_FILE", "ETL_KEYRING_SECRET"}

# What Kubernetes sets in every pod of a namespace for a service that is named etl or etl-...
_SERVICE_LINK = re.compile(
    r"(ETL(?:_+[A-Z0-9]+)*?)_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?"
    r"|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)

# Postgres' NAMEDATALEN - 1; Postgres truncates longer names silently.
MAX_NAME_BYTES = 63
# Every table of Postgres has columns of these names.
SYSTEM_COLUMNS = ("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin")


def _check_name_bytes(name: str) -> str:
    length = len(name.encode("utf-8", "surrogatepass"))
    if length > MAX_NAME_BYTES:
        raise ValueError(
            f"has {length} bytes in UTF-8; a name in Postgres has at most {MAX_NAME_BYTES}"
        )
    return name


Identifier = Annotated[
    str, Field(min_length=1, pattern=r"^[^\x00]+$"), AfterValidator(_check_name_bytes)
]
# Columns of the raw frame that do not come from a field of the event.
FIELDS_OF_THE_JOB = ("message_id", "SentTimestamp")
# How an entry of the quarantine tells apart what of it was masked under the name `Message`.
MASKED_NOTIFICATION = "sns:Message"
MASKED_MESSAGE = "none:Message"
# SQS allows 120,000 messages in flight per queue; this leaves some of them for other consumers.
MAX_IN_FLIGHT = 100_000

Positive = Annotated[int, Field(gt=0)]
# 23 days and 100 years: what the server can count in milliseconds, and subtract from a date.
MAX_SECONDS = 2_000_000
MAX_DAYS = 36_500
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )


class JobSettings(_Section):
    """The name that keeps this job apart from the other jobs of its database."""

    name: str | None = Field(
        None,
        max_length=200,
        description="name of the job, for its messages, runs and quarantine; default: schema.table "
        "of the target. Keep it when the table is renamed",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        # With spaces around it, two names that look alike would be two jobs.
        if name is not None and (not name or not name.isprintable() or name != name.strip()):
            raise ValueError(
                "must be printable text, not blank, and without spaces before or after it"
            )
        return name


class QueueSettings(_Section):
    """Where the messages come from."""

    url: str | None = Field(None, description="URL of the SQS queue")
    receivers: int = Field(
        2,
        ge=1,
        le=32,
        description="threads that receive in parallel; use more if SQS answers slowly",
    )
    wait_seconds: int = Field(
        5,
        ge=0,
        le=20,
        description="length of a long poll in seconds; stopping waits for the current poll to end",
    )
    envelope: Literal["none", "sns"] = Field(
        "none", description="sns: the event is in the Message field of an SNS notification"
    )
    retry_seconds: Seconds = Field(
        300, description="how long an SQS outage may last before the run stops"
    )


class BatchSettings(_Section):
    """The limits of a batch. It is loaded when it reaches the first of them."""

    rows: int = Field(
        10_000,
        ge=1,
        le=50_000,
        description="maximum number of messages in a batch; a run begins with smaller batches, and "
        "they stay smaller if one takes long",
    )
    bytes: int = Field(
        32 * 1024 * 1024, ge=1024, description="maximum bytes of message bodies in a batch"
    )
    seconds: Seconds = Field(20, description="maximum age of the first message in a batch")
    quiet_seconds: float = Field(
        1,
        ge=0,
        allow_inf_nan=False,
        description="close a batch when SQS has answered for this long that no message follows; on "
        "a FIFO queue one empty answer closes it",
    )


class EventSettings(_Section):
    """The fields of an event that no column reads."""

    unknown_fields: Literal["ignore", "reject"] = Field(
        "ignore",
        description="a field that no column reads: ignore it, or reject the whole message",
    )


class Column(_Section):
    """One column of the target table, and where its value comes from."""

    name: Identifier = Field(description="name of the column in the table")
    field: str | tuple[str, ...] | None = Field(
        None,
        description="field of the event, or a list of its names, while producers send old and new "
        "ones",
    )
    attribute: Literal["SentTimestamp"] | None = Field(
        None, description="attribute of the message, instead of a field"
    )
    type: Literal[
        "text", "ip", "version", "integer", "bigint", "number", "boolean", "date", "timestamp"
    ] = Field(
        description="type of the value; version: '2.3.0' is stored as the integer 2003000 (major x "
        "1,000,000 + minor x 1,000 + patch); '2.3' and '2.03' are the same version"
    )
    max_length: int | None = Field(
        None,
        ge=1,
        le=10_485_760,
        description="maximum number of characters; in a masked column, of characters in the token",
    )
    nullable: bool = Field(False, description="allow null")
    required: bool = Field(
        True, description="the field must be present; if false, a missing field counts as null"
    )
    mask: bool = Field(False, description="personal data: only a token reaches the database")
    context: str | None = Field(
        None,
        description="masking context, by default the first name of the field; in columns that "
        "share one, equal values share a token",
    )
    canonical: bool = Field(
        True, description="type ip: store every notation of an address as the same value"
    )

    @field_validator("field", mode="before")
    @classmethod
    def _check_names(cls, field: Any) -> Any:
        if field is None:
            return None
        names = field if isinstance(field, (list, tuple)) else [field]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("must be a name, or a list of names")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name {name!r} is listed twice")
        return names[0] if len(names) == 1 else tuple(names)

    @model_validator(mode="after")
    def _check_source(self) -> Column:
        if (self.field is None) == (self.attribute is None):
            raise ValueError("needs either 'field' or 'attribute'")
        if self.attribute and (self.type not in ("date", "timestamp") or self.mask):
            raise ValueError(
                "a column with an 'attribute' must have type 'date' or 'timestamp' and cannot be "
                "masked"
            )
        for name in self.fields:
            if name in FIELDS_OF_THE_JOB:
                raise ValueError(f"field {name!r} has a name that is reserved for the job")
        if self.mask and self.type not in ("text", "ip"):
            raise ValueError("only a column of type 'text' or 'ip' can be masked")
        if not self.required and not self.nullable:
            raise ValueError("a column that is not required must be nullable")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Every name of its field in an event; none if it comes from an attribute."""
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    @property
    def source(self) -> str:
        """The name of its value in the raw frame: the field's first, or the attribute's."""
        return self.fields[0] if self.fields else self.attribute or ""

    @property
    def masking_context(self) -> str:
        """The context that its tokens are bound to."""
        return self.context or self.source


def quoted_if_needed(part: str) -> str:
    """Quote a part of a name that has a dot, so that ``a.b`` + ``c`` is not ``a`` + ``b.c``."""
    if "." in part or '"' in part:
        return '"{}"'.format(part.replace('"', '""'))
    return part


class Table(_Section):
    """The target table."""

    schema_name: Identifier = Field(
        "public", alias="schema", description="schema of the target table"
    )
    name: Identifier = Field("user_logins", description="target table; created if it is missing")
    token_check: bool = Field(
        False, description="create the table with a CHECK that masked columns hold tokens"
    )
    columns: tuple[Column, ...] = Field(description="columns of the table, in order")
    indexes: tuple[tuple[Identifier, ...], ...] = Field(
        (), description="indexes that init creates, each a list of columns: [[masked_ip, user_id]]"
    )

    @property
    def full_name(self) -> str:
        """The table as errors and the job's own tables name it: ``schema.name``."""
        return ".".join(quoted_if_needed(part) for part in (self.schema_name, self.name))

    @field_validator("schema_name")
    @classmethod
    def _check_schema(cls, schema: str) -> str:
        if schema.startswith("pg_") or schema == "information_schema":
            raise ValueError(
                f"schema {schema!r} is reserved for Postgres; name a schema of your own"
            )
        return schema

    @field_validator("columns")
    @classmethod
    def _check_distinct(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        if not columns:
            raise ValueError("a table needs at least one column")
        names = Counter(column.name for column in columns)
        readers = Counter(name for c in columns for name in c.fields or (c.source,))
        for column in columns:
            if names[column.name] > 1:
                raise ValueError(f"column {column.name!r} is listed twice")
            for name in column.fields or (column.source,):
                if readers[name] > 1:
                    raise ValueError(f"{name!r} is read by two columns")
            if column.name == "message_id":
                raise ValueError("the column name 'message_id' is reserved for the job")
            if column.name in SYSTEM_COLUMNS:
                raise ValueError(f"the column name {column.name!r} is reserved for Postgres")
            # In the middle of the job a frame holds the fields and the table's columns together.
            # Besides, commands take either name of a column.
            if column.name in readers and column.name not in (column.source, *column.fields):
                raise ValueError(f"column {column.name!r} has the name of another column's field")
        return columns

    @property
    def masked_fields(self) -> frozenset[str]:
        """The fields of the event of which only tokens are stored."""
        return frozenset(field for column in self.columns if column.mask for field in column.fields)

    @property
    def plain_fields(self) -> dict[str, str]:
        """The fields that are stored as they come, each with the column that reads it."""
        return {
            field: column.name
            for column in self.columns
            if not column.mask
            for field in column.fields
        }


class LoadSettings(_Section):
    """How rows reach the database."""

    method: Literal["multi", "copy"] = Field(
        "multi",
        description="multi: to_sql with a multi-row INSERT; copy: to_sql through COPY, faster",
    )
    statement_rows: int = Field(
        500, ge=1, le=10_000, description="rows in one INSERT, with the method multi"
    )


class LedgerSettings(_Section):
    """How the ledger recognises an event that was handled before."""

    key: str = Field(
        "message_id",
        description="how to recognise an event that was handled before: by `message_id` only, or "
        "also by `field:<event field>` (a business id) or by `body`",
    )
    retention_days: int = Field(
        35,
        ge=1,
        le=MAX_DAYS,
        description="age in days at which an id is removed from the ledger; keep it above the "
        "retention of the queue plus that of its dead-letter queue",
    )

    @field_validator("key")
    @classmethod
    def _check_key(cls, key: str) -> str:
        kind, _, field = key.partition(":")
        if key not in ("message_id", "body") and not (kind == "field" and field):
            raise ValueError("must be 'message_id', 'body' or 'field:<event field>'")
        if field in FIELDS_OF_THE_JOB:
            raise ValueError(f"field {field!r} has a name that is reserved for the job")
        return key

    @property
    def field(self) -> str | None:
        """The field of the event that identifies it, if the key is a field."""
        return self.key.partition(":")[2] or None


class QuarantineSettings(_Section):
    """How many rejects stop the run."""

    max_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="stop the run (exit code 3) when more than this share is quarantined",
    )
    min_messages: int = Field(
        100, ge=1, description="messages loaded or quarantined before max_fraction applies"
    )
    window_messages: int | None = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="max_fraction also applies to every N messages in a row that a worker loads or "
        "quarantines (but at least min_messages); null: only to the whole run",
    )
    sample_messages: int = Field(
        20,
        ge=0,
        le=1000,
        description="when max_fraction stops a run, keep up to N of the refused messages, sealed, "
        "to look at; each stop replaces them",
    )
    sample_days: int = Field(
        14, ge=1, le=MAX_DAYS, description="age in days at which these are removed"
    )


class UnmaskSettings(_Section):
    """How much unmask may recover at once."""

    max_rows: int = Field(
        1000,
        ge=1,
        description="maximum number of tokens or rows that one unmask call may recover",
    )
    statement_seconds: Seconds = Field(30, description="time limit for the query of unmask --where")


class DatabaseSettings(_Section):
    """The Postgres database to load into. Its address is DATABASE_URL."""

    url: SecretStr | None = Field(None, exclude=True, description="from DATABASE_URL only")
    create_tables: bool = Field(True, description="run creates missing tables, as init does")
    connect_seconds: int = Field(
        10, ge=1, le=MAX_SECONDS, description="connection timeout in seconds"
    )
    retry_seconds: Seconds = Field(
        300, description="how long a database outage may last before the run stops"
    )
    answer_seconds: Seconds = Field(
        600, description="time limit for a batch's transaction; after it the connection is closed"
    )


class RunSettings(_Section):
    """When a run stops, and how many processes it has."""

    idle_seconds: Seconds = Field(
        30, description="stop when SQS has answered for N seconds that there is no message"
    )
    max_messages: Positive | None = Field(None, description="stop after N messages")
    max_seconds: Seconds | None = Field(
        None, description="begin no batch after N seconds, and release the rest"
    )
    forever: bool = Field(False, description="keep running when the queue is idle")
    workers: int = Field(1, ge=1, le=64, description="processes that drain the queue together")


class ReportSettings(_Section):
    """How the duplicate report reads the table."""

    entity: Identifier | None = Field(
        None, description="column that identifies the user; default: the first column"
    )
    time: Identifier | None = Field(
        None, description="column that says when it happened; default: the first date or timestamp"
    )


class LogSettings(_Section):
    """Log lines, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum log level"
    )
    format: Literal["text", "json"] = Field("text", description="text, or one JSON object per line")


class Settings(_Section):
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
        known = {column.name for column in self.table.columns}
        for index in self.table.indexes:
            if not index or not known.issuperset(index) or len(set(index)) < len(index):
                raise ValueError(
                    "table.indexes: each index must list columns of the table, none of them twice"
                )
        return self

    @model_validator(mode="after")
    def _check_report(self) -> Settings:
        types = {column.name: column.type for column in self.table.columns}
        for key in ("entity", "time"):
            name = getattr(self.report, key)
            if name is not None and name not in types:
                raise ValueError(f"report.{key} is {name!r}, which is not a column of the table")
        if self.report.time and types[self.report.time] not in ("date", "timestamp"):
            raise ValueError(
                f"report.time is {self.report.time!r}, which is not a 'date' or 'timestamp' column"
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

    @property
    def job_name(self) -> str:
        """The name under which the database knows this job."""
        return self.job.name or self.table.full_name

    @property
    def masked_fields(self) -> frozenset[str]:
        """The fields that hold what is masked: those of the columns, and the envelope's.

        A `Message` is listed once more with the envelope before it. Of ``sns``, that is the whole
        text of the event; of ``none``, it is a field, which may hold an event as ``sns`` reads it.
        """
        fields = self.table.masked_fields
        if self.queue.envelope == "sns":
            return fields | {MASKED_NOTIFICATION} if fields else fields
        return fields | {MASKED_MESSAGE} if "Message" in fields else fields

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


def load(
    path: Path, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read and check the settings.

    :param path: the YAML file
    :param environment: holds ``ETL_SECTION__KEY`` variables (values are YAML) and ``DATABASE_URL``
    :param overrides: ``{"section.key": value}`` from the command line; None values are skipped
    :raises SettingsError: the file cannot be read, or settings are missing, unknown or out of
        range; the message names all of them
    """
    tree = _read(path)
    for section, key, text, variable in _variables(environment):
        _set(tree, section, key, _yaml(text, variable), variable)
    for dotted, value in (overrides or {}).items():
        if value is not None:
            section, key = dotted.split(".")
            _set(tree, section, key, value, dotted)
    if "url" in (tree.get("database") or {}):
        raise SettingsError(
            "'database.url' is a secret: take it out of the configuration and set DATABASE_URL"
        )
    if environment.get("DATABASE_URL"):
        tree["database"] = {**(tree.get("database") or {}), "url": environment["DATABASE_URL"]}
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        # include_input=False, since a value may be a secret that was put in the wrong place.
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError(
            "; ".join(_describe([str(part) for part in p["loc"]], p, tree) for p in problems)
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(_missing(path)) from None
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


def _missing(path: Path) -> str:
    if path == Path("config.yaml"):
        return (
            "no config.yaml in this folder; name a file with --config, or create one with: "
            "etl config show > config.yaml"
        )
    name = "of this name" if may_be_secret(str(path)) else repr(str(path))
    return (
        f"no file {name}; name another one with --config, or print the default with: "
        "etl config show"
    )


def _yaml(text: str, origin: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # The mark quotes the line, which may hold a secret; its position is safe to show.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{origin!r} is not YAML{where}") from None


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    settings = []
    for variable in sorted(environment):
        if not variable.startswith("ETL_") or variable in NOT_SETTINGS:
            continue
        if _is_service_link(variable, environment):
            continue
        section, divider, key = variable.removeprefix("ETL_").lower().partition("__")
        if not divider:
            close = difflib.get_close_matches(variable, _known_variables(), n=1, cutoff=0.75)
            raise SettingsError(
                f"unknown variable {variable!r}: settings are named ETL_SECTION__KEY, with two "
                f"underscores{f'; did you mean {close[0]!r}?' if close else ''}"
            )
        settings.append((section, key, environment[variable], variable))
    return settings


def _is_service_link(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes set a variable for a service, and nobody meant a setting by it."""
    link = _SERVICE_LINK.fullmatch(variable)
    # A service may have two hyphens in its name, but then its address is there too.
    return link is not None and ("__" not in variable or f"{link[1]}_SERVICE_HOST" in environment)


def _known_variables() -> list[str]:
    """Every variable that may be set, apart from libpq's and those of AWS."""
    settings = {
        f"ETL_{section}__{key}".upper()
        for section in Settings.model_fields
        for key in _keys([section])
    }
    return sorted((settings | NOT_SETTINGS | {"DATABASE_URL"}) - {"ETL_DATABASE__URL"})


def _set(tree: dict[str, Any], section: str, key: str, value: Any, origin: str) -> None:
    if section not in Settings.model_fields:
        raise SettingsError(
            f"unknown section {section!r} in {origin!r}"
            f"{_suggestion(section, Settings.model_fields)}"
        )
    branch = tree.get(section) or {}
    if not isinstance(branch, dict):
        raise SettingsError(f"{section!r} must be a section with keys")
    tree[section] = {**branch, key: value}


def _describe(location: list[str], problem: Any, tree: dict[str, Any]) -> str:
    name = ".".join(_column_named(location, tree))
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {name!r}{_suggestion(location[-1], _keys(location[:-1]))}"
    if problem["type"] == "missing":
        return f"setting {name!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    # A check of several settings together has no location; its message names them.
    return f"setting {name!r}: {message}" if name else message


def _column_named(location: list[str], tree: dict[str, Any]) -> list[str]:
    """Replace the position of a column in the list by its name, if it has one."""
    if location[:2] != ["table", "columns"] or len(location) < 3:
        return location
    column = tree["table"]["columns"][int(location[2])]
    name = column.get("name") if isinstance(column, dict) else None
    # From 1, as people count.
    shown = name if isinstance(name, str) and name else f"number {int(location[2]) + 1}"
    return [*location[:2], shown, *location[3:]]


def _keys(location: list[str]) -> list[str]:
    model: Any = Settings
    for part in location:
        if part.isdigit():
            continue
        model = Column if part == "columns" else model.model_fields[part].annotation
    return [field.alias or name for name, field in model.model_fields.items()]


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
