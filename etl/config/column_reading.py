"""How the value of a column is read from the event."""

from __future__ import annotations

from pydantic import Field

from etl.config.section import Section


class ColumnReading(Section):
    """What is done to a value before it is checked."""

    canonical: bool = Field(
        True, description="type ip: store every notation of an address as the same value"
    )
