"""Whether and how a column is masked."""

from __future__ import annotations

from pydantic import Field

from etl.config.section import Section


class ColumnMasking(Section):
    """What keeps a column's plain values from the database."""

    mask: bool = Field(False, description="personal data: only a token reaches the database")
    context: str | None = Field(
        None,
        description="masking context, by default the first name of the field; in columns that "
        "share one, equal values share a token",
    )
