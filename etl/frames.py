"""The columns of the frames between the stages, and how a time in a frame is written.

raw frame      message_id, SentTimestamp, then the event's fields as decoded; all object
valid frame    message_id, then the configured columns, checked and converted
masked frame   message_id, then the table's columns; nothing personal in plain text
rejects        message_id, column, check; one row for each check that a message failed
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

REJECT_COLUMNS = ["message_id", "column", "check"]

Reject = tuple[str, str, str]  # message_id, column, check
Note = tuple[str, str]  # column, what was changed or warned of, without a reject


class Absent(Enum):
    """Marks, in the raw frame, a field that the event does not have. It is not null."""

    ABSENT = 0

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent.ABSENT


def time_text(time: pd.Timestamp, zone: str = "") -> str:
    """Write a time of a frame for a reader.

    :param zone: text to put after a time of day
    """
    if time.tzinfo is not None:
        return time.strftime(f"%Y-%m-%d %H:%M:%S{zone}")
    # A date of the table, or a date and time without a zone.
    return time.strftime("%Y-%m-%d" if time == time.normalize() else "%Y-%m-%d %H:%M:%S")


def rejects(rows: Iterable[Reject]) -> pd.DataFrame:
    """Make a frame of rejects in the given order; all object."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=REJECT_COLUMNS, dtype=object)
