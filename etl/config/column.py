"""One column of the target table: its parts, and what must hold between them."""

from __future__ import annotations

from pydantic import model_validator

from etl.config.column_masking import ColumnMasking
from etl.config.column_reading import ColumnReading
from etl.config.column_source import ColumnSource
from etl.config.column_type import ColumnType


# The last comes first in the documents.
class Column(ColumnReading, ColumnMasking, ColumnType, ColumnSource):
    """One column of the target table, and where its value comes from."""

    @model_validator(mode="after")
    def _check_parts(self) -> Column:
        if self.attribute and (self.type not in ("date", "timestamp") or self.mask):
            raise ValueError(
                "a column with an 'attribute' must have type 'date' or 'timestamp' and cannot be "
                "masked"
            )
        if not self.mask and self.context is not None:
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
        if self.mask and self.type not in ("text", "ip"):
            raise ValueError("only a column of type 'text' or 'ip' can be masked")
        return self

    @property
    def masking_context(self) -> str:
        """The context that its tokens are bound to."""
        return self.context or self.source
