"""One column of the target table: its parts, and what must hold between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from etl.config.column_checks import ColumnChecks
from etl.config.column_masking import (
    HIDDEN,
    MASKABLE,
    NO_LAST_CHARACTERS,
    ColumnMasking,
)
from etl.config.column_reading import ColumnReading, reading_problem
from etl.config.column_source import ColumnSource
from etl.config.column_type import ColumnType

_PICK = "pick "


# The last comes first in the documents.
class Column(ColumnChecks, ColumnReading, ColumnMasking, ColumnType, ColumnSource):
    """One column of the target table, and where its value comes from."""

    @model_validator(mode="after")
    def _check_parts(self) -> Column:
        if self.is_time and (self.type not in ("date", "timestamp") or self.mask):
            raise ValueError(
                f"a column with {self.attribute or self.metadata!r} must have type 'date' or "
                "'timestamp' and cannot be masked"
            )
        if (
            self.is_of_the_job
            and not self.is_time
            and self.constant is None
            and (self.type not in ("text", "uuid"))
        ):
            raise ValueError(
                f"a column with {self.attribute or self.metadata!r} must have type 'text'"
            )
        if self.mask and (self.metadata or self.constant is not None):
            raise ValueError("only a value of an event or of its sender can be masked")
        if self.default is not None and not self.required:
            raise ValueError("has a 'default', so 'required: false' has no meaning; take one out")
        if not self.has_tokens and self.context is not None:
            raise ValueError(
                "has a 'context', which only a masked column has: write 'mask: true', or take the "
                "context out"
            )
        # A line that was lost must not load in plain what the column's name says is masked.
        if self.name.lower().startswith("masked_") and "mask" not in self.model_fields_set:
            raise ValueError(
                "is named as masked, and 'mask' is missing: write 'mask: true', or 'mask: false' "
                "if its values come masked"
            )
        if self.mask and self.type not in MASKABLE:
            raise ValueError(f"only a column of type {', '.join(MASKABLE)} can be masked")
        if self.mask == "partial":
            self._check_partial()
        if self.array and (self.mask or not (self.fields or self.constant is not None)):
            raise ValueError("has 'array', which only a field that is not masked can have")
        if self.format and self.is_time:
            raise ValueError("has a 'format', which a time of the job does not have")
        is_sent = not self.is_of_the_job or (self.attribute is not None and not self.is_time)
        if problem := reading_problem(self, is_sent=is_sent):
            raise ValueError(problem)
        return self

    def _check_partial(self) -> None:
        if self.keep_domain and self.type != "text":
            raise ValueError("has 'keep_domain', which only a column of type 'text' can have")
        if self.keep_last and self.type in NO_LAST_CHARACTERS:
            raise ValueError(
                f"is of type {self.type!r}, of which the last characters show too much or nothing; "
                "mask it, or take it out"
            )
        shortest = len(HIDDEN) + (self.keep_last or 0)
        if self.max_length is not None and self.max_length < shortest:
            raise ValueError(f"has a 'max_length' that is too short; it needs {shortest}")

    @property
    def masking_context(self) -> str:
        """The context that its tokens are bound to."""
        return self.context or self.source

    @property
    def token_steps(self) -> tuple[str, ...]:
        """What is done to a text before it is masked, as far as it decides which token it gets.

        An address that is taken without cleaning has the same canonical form after it. Null values
        get no token, so there are no tokens that would not match.
        """
        if self.type == "ip" and self.canonical:
            return ()
        return (*([_PICK + self.pick] if self.pick else []), *self.clean)

    @staticmethod
    def settings_of(token_steps: Sequence[str]) -> dict[str, Any]:
        """The settings that stand for these steps."""
        picked = [step.removeprefix(_PICK) for step in token_steps if step.startswith(_PICK)]
        clean = tuple(step for step in token_steps if not step.startswith(_PICK))
        return {"pick": picked[0] if picked else None, "clean": clean}

    @property
    def is_container(self) -> bool:
        """Whether it holds values of an event that the configuration does not name one by one."""
        is_sent = not self.is_of_the_job and not self.mask
        return is_sent and (self.type == "json" or (self.array and self.type == "text"))

    @property
    def plain_name(self) -> str:
        """The name of a masked column in the valid frame, before tokens replace its values."""
        return f"{self.name} (plain)"

    @property
    def hides_value(self) -> bool:
        """Whether the database does not get the plain value, as an event has it."""
        if self.network is not None and self.network.hides_address:
            return True
        return bool(self.mask)
