"""What the rows of a table are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from etl.config import Settings
from etl.reading.paths import Known, Row, row_of
from etl.reading.sources import values_of_messages
from etl.sqs.message import Message


class Rows(NamedTuple):
    """How the events of a table are read, and what was read so far."""

    known: Known
    row: Row
    readable: list[Message]
    rows: list[list[Any]]


@dataclass(frozen=True)
class TableFields:
    """What the rows of a table are made of.

    :param fields: paths of the event's fields that become columns
    :param of_messages: what else becomes a column, by its name in the raw frame: a function of the
        message
    :param other_names: the other paths of fields, by the path that is in *fields*
    """

    fields: Sequence[str]
    of_messages: Mapping[str, Callable[[Message], Any]] = field(default_factory=dict)
    other_names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def no_rows(self, dropped: Sequence[str]) -> Rows:
        """Make what its events are read with.

        :param dropped: paths that are known, though no column reads them
        """
        known = Known([*self.fields, *dropped], self.other_names)
        return Rows(known, row_of(self.fields, self.other_names), [], [])


def table_fields(settings: Settings, run_id: str) -> TableFields:
    """What the rows of the table are made of, by the settings.

    :param run_id: for a column that holds it
    """
    of_messages = values_of_messages(settings.table.columns, run_id)
    return TableFields(settings.event_fields, of_messages, settings.other_names)
