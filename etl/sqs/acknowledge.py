"""Acknowledge and release messages in tens, patiently, and say how many SQS did not take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from etl.errors import EtlError, QueueUnavailable
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.queue import Handle, Message, Queue, Refused, tens

log = logging.getLogger(__name__)

# A delete that fails costs nothing but a redelivery, which the ledger recognises; so the tries are
# few. A release that fails costs the visibility timeout.
TRIES = 4
PAUSE_SECONDS = 0.2  # doubled from try to try

# When SQS has answered nothing for so long, the rest of the calls is not even tried: a stop must
# not wait for a thousand calls to fail, each in its own time.
MAX_SILENCE_SECONDS = 15.0

# So many calls in a row without an answer, each tried three times by boto3 itself, are no chance:
# the others wait for the next round.
UNANSWERED = 5

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Threads(Protocol):
    """Where the calls are made: a pool, or the receiving threads."""

    def map(self, call: Callable[[Item], Answer], items: Sequence[Item], /) -> Iterable[Answer]:
        """Make a call for each item; the answers come in order."""


def acknowledge(
    queue: Queue, heartbeat: Heartbeat, messages: Sequence[Handle], threads: Threads
) -> int:
    """Delete handled messages from the queue; returns how many stay in it."""
    left = _Calls(queue.acknowledge, heartbeat).each_ten(messages, threads)
    if left:
        log.warning(
            "%d handled messages could not be deleted; they come again, and the ledger knows them",
            left,
        )
    return left


def release(
    queue: Queue, heartbeat: Heartbeat, messages: Sequence[Message], threads: Threads
) -> int:
    """Show messages to other consumers at once; returns how many wait out their timeout."""
    left = _Calls(queue.release, heartbeat).each_ten(messages, threads)
    if left:
        log.warning("%d messages could not be released; they come back by themselves", left)
    return left


class _Calls:
    """One kind of call for many messages, ten at a time; what SQS did not take comes again."""

    def __init__(
        self, call: Callable[[Sequence[Handle]], list[Refused]], heartbeat: Heartbeat
    ) -> None:
        self._call = call
        self._heartbeat = heartbeat
        self._unanswered_since: float | None = None  # monotonic seconds
        self._unanswered = 0  # calls in a row, in this round
        self._is_refused = False  # SQS refuses the call itself, whatever stands in it

    def each_ten(self, messages: Sequence[Message | Handle], threads: Threads) -> int:
        """Make the calls; returns for how many messages they did not work."""
        waiting = self._heartbeat.handles(messages)
        given_up, pause = 0, PAUSE_SECONDS
        for attempt in range(TRIES):
            if attempt:
                # Between the rounds and not within a call, which would keep a thread.
                time.sleep(pause)
                pause *= 2
            self._unanswered = 0
            answers = list(threads.map(self._ten, list(tens(waiting))))
            given_up += sum(final for _, final in answers)
            waiting = [handle for again, _ in answers for handle in again]
            if not waiting or self._is_hopeless():
                break
        self._heartbeat.let_go(waiting)
        return given_up + len(waiting)

    def _ten(self, ten: Sequence[Handle]) -> tuple[Sequence[Handle], int]:
        """Call; returns what is worth another try, and how many will never work."""
        if self._is_hopeless() or self._unanswered >= UNANSWERED:
            return ten, 0
        try:
            refused = self._call(ten)
        except QueueUnavailable:
            self._unanswered += 1
            self._unanswered_since = self._unanswered_since or time.monotonic()
            return ten, 0
        except EtlError as error:
            self._is_refused = True
            log.warning("%s", error)
            return ten, 0
        self._unanswered, self._unanswered_since = 0, None
        # What SQS calls the sender's fault stays refused however often it is sent.
        again = [r.handle for r in refused if not r.final]
        self._heartbeat.let_go([handle for handle in ten if handle not in again] if again else ten)
        return again, len(refused) - len(again)

    def _is_hopeless(self) -> bool:
        since = self._unanswered_since
        return self._is_refused or (
            since is not None and time.monotonic() - since > MAX_SILENCE_SECONDS
        )
