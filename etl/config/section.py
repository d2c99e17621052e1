"""What a section of the settings is, and the kinds of values that several sections have."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# Postgres' NAMEDATALEN - 1; Postgres truncates longer names silently.
MAX_NAME_BYTES = 63


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

Positive = Annotated[int, Field(gt=0)]
# 23 days and 100 years: what the server can count in milliseconds, and subtract from a date.
MAX_SECONDS = 2_000_000
MAX_DAYS = 36_500
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of the settings: frozen, without unknown keys, and silent about its values."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True
    )
