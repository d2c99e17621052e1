"""What the messages of a run were found to have, as its row in ``etl.runs`` keeps it.

It holds names and counts only, never a value: see docs/decisions/0018-names-of-unknown-fields.md.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from etl.frames import Note
from etl.postgres.queries import queries

MAX_NAMES = 50  # of unknown fields, of one batch and of one run
# A name is kept if it is an identifier that is no number in disguise, and at least this many
# messages of a batch have it, and this share of them.
_NAME = re.compile(r"(?!.*[0-9]{4})(?!(.*[0-9]){7})[A-Za-z_][A-Za-z0-9_.-]{0,62}")
MIN_MESSAGES_OF_NAME = 5
MIN_SHARE_OF_NAME = 0.05
# With more names than this that fewer than half of the messages have, the events are taken for a
# map by user, and such names are not kept.
MAX_MINOR_NAMES = 10
HALF = 0.5

Check = tuple[str, str]  # column, check


@dataclass(frozen=True)
class Findings:
    """What the messages had, each with the number of messages."""

    checks: Counter[Check] = field(default_factory=Counter)  # that failed
    # Fields that no column reads; None: names that are not kept.
    unknown_fields: Counter[str | None] = field(default_factory=Counter)
    notes: Counter[Note] = field(default_factory=Counter)  # changed or warned of, without a reject

    def __bool__(self) -> bool:
        return bool(self.checks or self.unknown_fields or self.notes)

    def plus(self, other: Findings) -> Findings:
        """Add two findings."""
        return Findings(
            self.checks + other.checks,
            self.unknown_fields + other.unknown_fields,
            self.notes + other.notes,
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
        notes = [
            {"column": column, "note": note, "messages": messages}
            for (column, note), messages in self.notes.items()
        ]
        connection.execute(
            queries()["add_findings"],
            {
                "run_id": run_id,
                "failed_checks": json.dumps(checks),
                "unknown_fields": json.dumps(fields),
                "notes": json.dumps(notes),
                "max_names": MAX_NAMES,
            },
        )


def without_personal_names(unknown: Counter[str], messages: int) -> Counter[str | None]:
    """Count under None the names that may be personal, as in a map by e-mail address or user.

    A name is kept if it looks like an identifier and many of the messages have it.

    :param unknown: messages by the name of an unknown field
    :param messages: all messages that were read
    """
    minor = sum(count < messages * HALF for count in unknown.values())
    share = HALF if minor > MAX_MINOR_NAMES else MIN_SHARE_OF_NAME
    least = max(MIN_MESSAGES_OF_NAME, messages * share)
    kept = Counter[str | None]()
    for name, count in unknown.most_common():
        is_kept = count >= least and len(kept) < MAX_NAMES and _NAME.fullmatch(name)
        kept[name if is_kept else None] += count
    return kept
