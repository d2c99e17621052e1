"""Which faults the strict SQS produces, from rates, a seed and a schedule, and how many so far."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from etl.embedded.sqs_messages import StoredMessage

# The actions of a consumer. Only these suffer faults of whole requests, unless the schedule names
# another action. Producers and observers must see the truth, or the checker could not be sure.
CONSUMER_ACTIONS = frozenset(
    {
        "ReceiveMessage",
        "DeleteMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
    }
)

# Faults of a whole request, in the order in which they are drawn; at most one of them fires.
BEFORE_EFFECT = ("throttled", "failed", "unavailable", "cut_before")
AFTER_EFFECT = ("cut_after", "failed_after", "slow")


@dataclass(frozen=True)
class Rates:
    """The rate of each fault, 0 to 1, with what it applies to; and the limits."""

    throttled: float = 0.0  # requests: RequestThrottled or ThrottlingException
    failed: float = 0.0  # requests: 500 before the effect
    unavailable: float = 0.0  # requests: 503 before the effect
    cut_before: float = 0.0  # requests: the connection ends, nothing was done
    cut_after: float = 0.0  # requests: done, and the connection ends without an answer
    failed_after: float = 0.0  # requests: done, and answered with 500
    slow: float = 0.0  # requests: done, and answered slow_seconds later
    false_empty: float = 0.0  # receives: an empty answer, though messages are visible
    failed_entry: float = 0.0  # entries of a batch: InternalError inside a 200, nothing was done
    stale_handle: float = 0.0  # deletes: answered with success, nothing was done
    redelivered: float = 0.0  # deleted messages: delivered once more
    twice: float = 0.0  # received messages: visible at once, to another consumer
    damaged: float = 0.0  # received messages: the body or its MD5 is not the one that was sent
    no_sent_timestamp: float = 0.0  # received messages: without this attribute
    damaged_receives: int = 0  # the first receives of each message that arrive damaged
    slow_seconds: float = 1.0
    in_flight: int = 120_000  # messages; a receive beyond them is OverLimit, long poll or not
    opposite_chunk: int = 0  # messages; above 0 each is delivered three times: strict_sqs_queue
    same_ids: bool = False  # queues count their messages, and give equal numbers equal ids
    dead_letter_new_ids: bool = True  # a message moved to the dead-letter queue gets a new id

    @classmethod
    def read(cls, members: dict[str, Any]) -> Self:
        """Make rates from a JSON object.

        :raises ValueError: a name that is not a rate
        """
        if unknown := members.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"no such rates: {sorted(unknown)}")
        return cls(**members)

    def json(self) -> dict[str, Any]:
        """The rates as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class ScheduledFault:
    """One fault of one request: the *nth* call of an action, from 1, after it was scheduled.

    With ``entry`` it hits only that entry of the batch, counted from 0.
    """

    action: str
    nth: int
    kind: str
    entry: int | None = None


class Faults:
    """Draws the faults, and counts by kind those that fired."""

    def __init__(self, seed: int) -> None:
        self.rates = Rates()
        self.fired: Counter[str] = Counter()
        self.expired_until_ms = 0
        self._random = random.Random(seed)
        self._schedule: list[ScheduledFault] = []
        self._calls: Counter[str] = Counter()
        # Of the current request:
        self._action = ""
        self._scheduled_now: list[ScheduledFault] = []

    def change_rates(self, rates: dict[str, Any]) -> None:
        """Replace all rates; a fault that is not named gets the rate 0."""
        self.rates = Rates.read(rates)

    def schedule(self, fault: ScheduledFault) -> None:
        """Add a fault to the schedule."""
        nth = fault.nth + self._calls[fault.action]
        self._schedule.append(replace(fault, nth=nth))

    def begin_request(self, action: str) -> None:
        """Count a request; the calls that follow are about it."""
        self._action = action
        self._calls[action] += 1
        self._scheduled_now = [
            fault
            for fault in self._schedule
            if fault.action == action and fault.nth == self._calls[action]
        ]
        for fault in self._scheduled_now:
            self._schedule.remove(fault)

    def draw_for_request(self, action: str) -> str | None:
        """The fault of the request as a whole, or None."""
        for fault in self._scheduled_now:
            if fault.entry is None:
                return fault.kind
        if action not in CONSUMER_ACTIONS:
            return None
        draw = self._random.random()
        for kind in (*BEFORE_EFFECT, *AFTER_EFFECT):
            draw -= getattr(self.rates, kind)
            if draw < 0:
                return kind
        if action == "ReceiveMessage" and self.draw(self.rates.false_empty):
            return "false_empty"
        return None

    def fires_for_entry(self, kind: str, position: int) -> bool:
        """Decide whether this fault hits an entry, or a call's single message; count it if so."""
        scheduled = any(
            fault.entry == position and fault.kind == kind for fault in self._scheduled_now
        )
        exempt = kind == "failed_entry" and self._action not in CONSUMER_ACTIONS
        fires = scheduled or (not exempt and self.draw(getattr(self.rates, kind)))
        self.fired[kind] += fires
        return fires

    def damage(self, message: StoredMessage) -> StoredMessage:
        """Return the message as it arrives: whole, or damaged in one of several ways."""
        if self.draw(self.rates.no_sent_timestamp):
            self.fired["no_sent_timestamp"] += 1
            message = replace(message, sent_ms="")  # type: ignore[arg-type]
        by_count = message.receive_count <= self.rates.damaged_receives
        if not by_count and not self.draw(self.rates.damaged):
            return message
        self.fired["damaged"] += 1
        body = message.body
        at = self._random.randrange(len(body))
        changes = (
            {"body": body[:at]},
            {"body": body[:at] + chr(ord(body[at]) ^ 1) + body[at + 1 :]},
            {"body": body + " "},
            {"body_md5": message.body_md5[:-1]},
            {"body_md5": "no MD5"},
        )
        return replace(message, **self._random.choice(changes))  # type: ignore[arg-type]

    def draw(self, rate: float) -> bool:
        """Draw once."""
        return rate > 0 and self._random.random() < rate
