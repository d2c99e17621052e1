"""The redrive policy of a queue: how often a message may be received, and where it goes then."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class RedrivePolicy:
    """A message that was received *max_receive_count* times moves at the next receive."""

    dead_letter_arn: str
    max_receive_count: int

    @property
    def dead_letter_queue(self) -> str:
        """The name of the dead-letter queue."""
        return self.dead_letter_arn.rpartition(":")[2]

    @property
    def dead_letter_account(self) -> str:
        """The AWS account of the dead-letter queue."""
        return self.dead_letter_arn.rpartition(":")[0].rpartition(":")[2]


def read_policy(text: str | None) -> RedrivePolicy | None:
    """Read the attribute RedrivePolicy; None if the queue has none, or it cannot be read."""
    if not text:
        return None
    try:
        members = json.loads(text)
        # Some emulators keep the number as the text in which it was given.
        policy = RedrivePolicy(str(members["deadLetterTargetArn"]), int(members["maxReceiveCount"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return policy if policy.max_receive_count >= 1 else None
