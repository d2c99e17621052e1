"""What became of the events of split messages, as a run's row in ``etl.runs`` keeps it."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass

import sqlalchemy as sa

from etl.postgres.queries import queries


@dataclass(frozen=True)
class EventCounts:
    """What became of the events of split messages; all zero if messages are not split."""

    loaded: int = 0
    already_handled: int = 0
    quarantined: int = 0  # also messages that could not be split, each as one
    empty_messages: int = 0  # messages without an event, which are handled then

    def __bool__(self) -> bool:
        return any(astuple(self))

    def plus(self, other: EventCounts) -> EventCounts:
        """Add two counts."""
        return EventCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def add_to_run(self, connection: sa.Connection, run_id: str) -> None:
        """Add them to a run's row, in the caller's transaction."""
        connection.execute(queries()["add_events_to_run"], {"run_id": run_id, **asdict(self)})
