"""How a table that is created is divided into partitions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from etl.config.section import Identifier, Section


class Partitioning(Section):
    """How a table that is created is divided."""

    range: Identifier = Field(description="column of type date or timestamp")
    every: Literal["day", "month", "year"] = Field(
        "month", description="how much time a partition holds, in UTC"
    )
