"""What the messages of a run were found to have, as its row in ``etl.runs`` keeps it.

It holds names and counts only, never a value: see docs/decisions/0017-names-of-unknown-fields.md.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from etl.postgres.queries import queries

MAX_NAMES = 50  # of unknown fields, of one run

Check = tuple[str, str]  # column, check


@dataclass(frozen=True)
class Findings:
    """Failed checks, and fields that no column reads, each with its number of messages."""

    checks: Counter[Check] = field(default_factory=Counter)
    unknown_fields: Counter[str | None] = field(default_factory=Counter)  # None: names not kept

    def __bool__(self) -> bool:
        return bool(self.checks or self.unknown_fields)

    def plus(self, other: Findings) -> Findings:
        """Add two findings."""
        return Findings(
            self.checks + other.checks,
            self.unknown_fields + other.unknown_fields,
        )

    def add_to_run(
        self, connection: sa.Connection, run_id: str, *, are_released: bool = False
    ) -> None:
        """Add them to a run's row, in the caller's transaction.

        :param are_released: whether the messages are back in the queue
        """
        if not self:
            return
        checks = [
            {
                "column": column,
                "check": check,
                "messages": messages,
                "released": messages if are_released else 0,
            }
            for (column, check), messages in self.checks.items()
        ]
        fields = [
            {"name": name, "messages": messages} for name, messages in self.unknown_fields.items()
        ]
        connection.execute(
            queries()["add_findings"],
            {
                "run_id": run_id,
                "failed_checks": json.dumps(checks),
                "unknown_fields": json.dumps(fields),
                "max_names": MAX_NAMES,
            },
        )
