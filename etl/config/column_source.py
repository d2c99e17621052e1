"""Where the value of a column comes from."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from etl.config import paths
from etl.config.section import FIELDS_OF_THE_JOB, Identifier, Section
from etl.errors import shown_name


class ColumnSource(Section):
    """A column's name, and where its value comes from."""

    name: Identifier = Field(description="name of the column in the table")
    field: str | tuple[str, ...] | None = Field(
        None,
        description="field of the event: a name, or a path such as `customer.email`, "
        '`items[0].sku`, `"name.with.dots"`, or `$` for the whole event; or a list of them, '
        "while producers send old and new ones",
    )
    attribute: (
        Literal[
            "SentTimestamp",
            "SenderId",
            "MessageGroupId",
            "MessageDeduplicationId",
            "SequenceNumber",
            "AWSTraceHeader",
        ]
        | None
    ) = Field(None, description="attribute that SQS gives a message, instead of a field")
    message_attribute: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="attribute that the sender gave a message, instead of a field",
    )
    metadata: Literal["message_id", "run_id", "loaded_at"] | None = Field(
        None,
        description="instead of a field: the message's id, the id of the run that loads it, or the "
        "time at which the run reads it",
    )
    constant: str | None = Field(
        None, description="the same value in every row, instead of a field"
    )
    default: str | None = Field(
        None, description="value where the event does not have the field; null stays null"
    )

    @field_validator("constant", "default", mode="before")
    @classmethod
    def _check_text(cls, text: Any) -> Any:
        is_many = isinstance(text, (list, tuple, dict))
        if is_many:
            raise ValueError("must be one value; write a list or an object as JSON in quotes: '[]'")
        return text

    @field_validator("field", mode="before")
    @classmethod
    def _check_paths(cls, field: Any) -> Any:
        if field is None:
            return None
        names = field if isinstance(field, (list, tuple)) else [field]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError("must be a name, or a list of names")
        try:
            written = [paths.written(paths.parse(name), FIELDS_OF_THE_JOB) for name in names]
        except ValueError as error:
            raise ValueError(str(error)) from None
        for name in written:
            if written.count(name) > 1:
                raise ValueError(f"name {shown_name(name)} is listed twice")
        return written[0] if len(written) == 1 else tuple(written)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        sources = (
            self.field,
            self.attribute,
            self.message_attribute,
            self.metadata,
            self.constant,
        )
        if sum(source is not None for source in sources) != 1:
            raise ValueError(
                "needs one source: 'field', 'attribute', 'message_attribute', 'metadata' or "
                "'constant'"
            )
        if self.default is not None and not (self.field or self.message_attribute):
            raise ValueError("has a 'default', which only a field or a message attribute can need")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Every path of its field in an event; none if it comes from elsewhere."""
        return (self.field,) if isinstance(self.field, str) else self.field or ()

    @property
    def source(self) -> str:
        """The name of its value in the raw frame: the field's first path, or another source's."""
        if self.fields:
            return self.fields[0]
        if self.constant is not None:
            return f"constant {self.name}"
        if self.message_attribute is not None:
            return f"message attribute {self.message_attribute}"
        alone = self.attribute or self.metadata or ""
        if alone in FIELDS_OF_THE_JOB:
            return alone
        return f"attribute {alone}" if self.attribute else f"metadata {alone}"

    @property
    def is_of_the_job(self) -> bool:
        """Whether its value comes neither from the event nor from its sender."""
        return not self.fields and self.message_attribute is None

    @property
    def is_sent_time(self) -> bool:
        """Whether its source is the time at which SQS received the message."""
        return self.attribute == "SentTimestamp"

    @property
    def is_time(self) -> bool:
        """Whether its source is a time, which the raw frame holds in milliseconds since 1970."""
        return self.is_sent_time or self.metadata == "loaded_at"
