"""Which faults the strict SQS commits, and how often it did: by rates, a seed and a script."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

# What a consumer calls; the faults of whole requests befall these alone, unless a script names
# another action. A producer and an onlooker are to see what is, or no checker could be sure.
CONSUMER_ACTIONS = frozenset(
    {
        "ReceiveMessage",
        "DeleteMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
    }
)

# Of a whole request, the first that is drawn:
BEFORE_EFFECT = ("throttled", "failed", "unavailable", "cut_before")
AFTER_EFFECT = ("cut_after", "failed_after", "slow")


@dataclass(frozen=True)
class Rates:
    """The share of what may suffer a fault that does suffer it, 0 to 1, and the limits."""

    throttled: float = 0.0  # requests: RequestThrottled or ThrottlingException
    failed: float = 0.0  # requests: 500 before the effect
    unavailable: float = 0.0  # requests: 503 before the effect
    cut_before: float = 0.0  # requests: the connection ends, nothing was done
    cut_after: float = 0.0  # requests: done, and the connection ends without an answer
    failed_after: float = 0.0  # requests: done, and answered with 500
    slow: float = 0.0  # requests: done, and answered slow_seconds later
    false_empty: float = 0.0  # receives: nothing, though messages are visible
    failed_entry: float = 0.0  # entries of a batch: InternalError inside a 200, nothing was done
    stale_handle: float = 0.0  # deletes: answered with success, nothing was done
    redelivered: float = 0.0  # deleted messages: delivered once more
    twice: float = 0.0  # messages received: visible at once, for another consumer
    slow_seconds: float = 1.0
    in_flight: int = 120_000  # messages; a receive beyond them is OverLimit, long poll or not
    opposite_chunk: int = 0  # messages; above 0 each comes three times, see strict_sqs_server
    dead_letter_new_ids: bool = True  # a message moved to the dead-letter queue gets a new id

    @classmethod
    def read(cls, members: dict[str, Any]) -> Self:
        """Make rates of a JSON object.

        :raises ValueError: a name that is none of them
        """
        if unknown := members.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"no such rates: {sorted(unknown)}")
        return cls(**members)

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Scripted:
    """One fault at one request: the *nth* of an action from 1, counted from when it was asked for.

    With ``entry`` it befalls that entry of the batch only, from 0.
    """

    action: str
    nth: int
    kind: str
    entry: int | None = None


class Faults:
    """Draws the faults and counts those that came true, by kind."""

    def __init__(self, seed: int) -> None:
        self.rates = Rates()
        self.fired: Counter[str] = Counter()
        self.expired_until_ms = 0
        self._random = random.Random(seed)
        self._script: list[Scripted] = []
        self._calls: Counter[str] = Counter()
        self._action = ""  # of the request in hand
        self._now: list[Scripted] = []

    def change(self, rates: dict[str, Any]) -> None:
        """Take over new rates, all that are not named being none."""
        self.rates = Rates.read(rates)

    def add(self, scripted: Scripted) -> None:
        """Take over one fault of a script."""
        nth = scripted.nth + self._calls[scripted.action]
        self._script.append(replace(scripted, nth=nth))

    def begin(self, action: str) -> None:
        """Note a request; what follows is about it."""
        self._action = action
        self._calls[action] += 1
        self._now = [
            one for one in self._script if one.action == action and one.nth == self._calls[action]
        ]
        for one in self._now:
            self._script.remove(one)

    def of_request(self, action: str) -> str | None:
        """The fault of the request as a whole, or None."""
        for one in self._now:
            if one.entry is None:
                return one.kind
        if action not in CONSUMER_ACTIONS:
            return None
        draw = self._random.random()
        for kind in (*BEFORE_EFFECT, *AFTER_EFFECT):
            draw -= getattr(self.rates, kind)
            if draw < 0:
                return kind
        if action == "ReceiveMessage" and self.chance(self.rates.false_empty):
            return "false_empty"
        return None

    def of_entry(self, kind: str, position: int) -> bool:
        """Whether this fault befalls the entry, or the single message of a call; counted."""
        scripted = any(one.entry == position and one.kind == kind for one in self._now)
        spared = kind == "failed_entry" and self._action not in CONSUMER_ACTIONS
        befalls = scripted or (not spared and self.chance(getattr(self.rates, kind)))
        self.fired[kind] += befalls
        return befalls

    def chance(self, share: float) -> bool:
        """Draw once."""
        return share > 0 and self._random.random() < share
