"""The sections about messages: received, gathered, loaded, remembered, refused."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from etl.config import paths
from etl.config.envelopes import Layer, Split, check_envelope, check_split
from etl.config.section import FIELDS_OF_THE_JOB, MAX_DAYS, Seconds, Section
from etl.errors import shown_name

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")  # also the alias of an access point


class QueueSettings(Section):
    """Where the messages come from."""

    url: str | None = Field(None, description="URL of the SQS queue")
    max_receivers: int = Field(
        16,
        ge=1,
        le=32,
        description="maximum number of receives in flight; one while the queue is empty, more "
        "while it is full and SQS takes time to answer",
    )
    wait_seconds: int = Field(
        5,
        ge=0,
        le=20,
        description="length of a long poll in seconds; stopping waits for the current poll to end",
    )
    envelope: Layer | tuple[Layer, ...] = Field(
        "none",
        description="what an event is wrapped in, or a list, the outermost first: sns (the Message "
        "of an SNS notification), eventbridge (its detail), s3 (each record of an S3 notification "
        "is an event), `{path: a.b}`, json (JSON text in a JSON string), base64, gzip",
    )
    retry_seconds: Seconds = Field(
        300, description="how long an SQS outage may last before the run stops"
    )
    payloads: Literal["none", "s3"] = Field(
        "none",
        description="where the Extended Client Library keeps large bodies; s3: a pointer to one is "
        "replaced by it; none: a pointer is quarantined",
    )
    payload_buckets: tuple[str, ...] = Field(
        (), description="the buckets that a pointer may name; no message has any other one read"
    )
    payload_max_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="maximum bytes of a body in S3; a larger one is quarantined. A worker holds up "
        "to 8 times this besides batch.bytes",
    )
    transport: Literal["curl", "boto3"] = Field(
        "curl",
        description="curl: the frequent calls go over libcurl, which needs less CPU; boto3: all "
        "calls go through boto3",
    )

    _check_envelope = field_validator("envelope", mode="before")(check_envelope)

    @field_validator("payload_buckets")
    @classmethod
    def _check_buckets(cls, buckets: tuple[str, ...]) -> tuple[str, ...]:
        for bucket in buckets:
            if not _BUCKET.fullmatch(bucket):
                raise ValueError(f"{shown_name(bucket)} is not the name of a bucket")
        return tuple(dict.fromkeys(buckets))

    @model_validator(mode="after")
    def _check_payloads(self) -> QueueSettings:
        if self.payloads == "s3" and not self.payload_buckets:
            raise ValueError("payloads: s3 needs payload_buckets, the buckets that may be read")
        return self

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What an event is wrapped in, the outermost first."""
        layers = self.envelope if isinstance(self.envelope, tuple) else (self.envelope,)
        return tuple(layer for layer in layers if layer != "none")


class BatchSettings(Section):
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


class EventSettings(Section):
    """The events of a message, and their fields that no column reads."""

    unknown_fields: Literal["ignore", "reject"] = Field(
        "ignore",
        description="a field that no column reads: ignore it, or reject the whole message",
    )
    drop: tuple[str, ...] = Field(
        (),
        description="paths of fields that are never stored: no column may read them, columns of "
        "type json are stored without them, and they do not count as unknown",
    )

    split: Split = Field(
        "none",
        description="several events in a message: array (a JSON array of them), lines (one in each "
        "line), or `{path: a.b}` (the items of a list); `keep: [c]` beside the path gives each "
        "event the field c of the message",
    )
    max_events: int = Field(
        10_000,
        ge=1,
        le=100_000,
        description="maximum number of events in a message; one with more is quarantined whole",
    )
    max_bytes: int = Field(
        16 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        description="maximum bytes of a message that was unpacked (gzip), or of all of its events; "
        "a larger one is quarantined whole",
    )

    _check_split = field_validator("split", mode="before")(check_split)

    @field_validator("drop")
    @classmethod
    def _check_drop(cls, drop: tuple[str, ...]) -> tuple[str, ...]:
        written = tuple(paths.written(paths.parse(path)) for path in drop)
        if paths.WHOLE in written:
            raise ValueError("'$' would drop every event")
        return tuple(dict.fromkeys(written))


class LoadSettings(Section):
    """How rows reach the database."""

    method: Literal["multi", "copy"] = Field(
        "multi",
        description="multi: to_sql with a multi-row INSERT; copy: to_sql through COPY, faster",
    )
    statement_rows: int = Field(
        500, ge=1, le=10_000, description="rows in one INSERT, with the method multi"
    )


class LedgerSettings(Section):
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
        if key not in ("message_id", "body") and not (kind == "field" and field.strip()):
            raise ValueError("must be 'message_id', 'body' or 'field:<event field>'")
        if field != field.strip():
            raise ValueError("must have no space after the colon or at its end")
        if kind == "field":
            try:
                path = paths.parse(field)
            except ValueError as error:
                raise ValueError(f"field {shown_name(field)} {error}") from None
            return f"field:{paths.written(path, FIELDS_OF_THE_JOB)}"
        return key

    @property
    def field(self) -> str | None:
        """The field of the event that identifies it, if the key is a field."""
        return self.key.partition(":")[2] or None


class QuarantineSettings(Section):
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
