"""Acknowledge and release messages in parallel, patiently, and say how many SQS did not take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from etl.errors import EtlError, QueueUnavailable
from etl.heartbeat import Heartbeat
from etl.sqs import Handle, Message, Queue, Refused, tens

log = logging.getLogger(__name__)

# A delete that fails costs nothing but a redelivery, which the ledger recognises; so the tries are
# few. A release that fails costs the visibility timeout.
TRIES = 4
PAUSE_SECONDS = 0.2  # doubled from try to try

# When SQS has answered nothing for so long, the rest of the calls is not even tried: a stop must
# not wait for a thousand calls to fail, each in its own time.
PATIENCE_SECONDS = 15.0


def acknowledge(
    queue: Queue, heartbeat: Heartbeat, messages: Sequence[Handle], pool: Executor
) -> int:
    """Delete handled messages from the queue; returns how many stay in it."""
    left = _Calls(queue.acknowledge, heartbeat).each_ten(messages, pool)
    if left:
        log.warning(
            "%d handled messages could not be deleted; they come again, and the ledger knows them",
            left,
        )
    return left


def release(queue: Queue, heartbeat: Heartbeat, messages: Sequence[Message], pool: Executor) -> int:
    """Show messages to other consumers at once; returns how many wait out their timeout."""
    left = _Calls(queue.release, heartbeat).each_ten(messages, pool)
    if left:
        log.warning("%d messages could not be released; they come back by themselves", left)
    return left


class _Calls:
    """One kind of call for many messages, ten at a time, in the threads of a pool."""

    def __init__(
        self, call: Callable[[Sequence[Handle]], list[Refused]], heartbeat: Heartbeat
    ) -> None:
        self._call = call
        self._heartbeat = heartbeat
        self._unanswered_since: float | None = None  # monotonic seconds

    def each_ten(self, messages: Sequence[Message | Handle], pool: Executor) -> int:
        """Make the calls; returns for how many messages they did not work."""
        return sum(pool.map(self._ten, tens(self._heartbeat.handles(messages))))

    def _ten(self, ten: Sequence[Handle]) -> int:
        try:
            return self._patiently(ten)
        finally:
            self._heartbeat.let_go(ten)

    def _patiently(self, ten: Sequence[Handle]) -> int:
        final, pause = 0, PAUSE_SECONDS
        for attempt in range(TRIES):
            if self._hopeless():
                break
            if attempt:
                time.sleep(pause)
                pause *= 2
            try:
                refused = self._call(ten)
            except QueueUnavailable:
                self._unanswered_since = self._unanswered_since or time.monotonic()
                continue
            except EtlError as error:
                log.warning("%s", error)
                break
            self._unanswered_since = None
            # What SQS calls the sender's fault stays refused however often it is sent.
            final += sum(r.final for r in refused)
            ten = [r.handle for r in refused if not r.final]
            if not ten:
                break
        return final + len(ten)

    def _hopeless(self) -> bool:
        since = self._unanswered_since
        return since is not None and time.monotonic() - since > PATIENCE_SECONDS
