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


def acknowledge(
    queue: Queue, heartbeat: Heartbeat, messages: Sequence[Message], pool: Executor
) -> int:
    """Delete handled messages from the queue; returns how many stay in it."""
    left = _each_ten(queue.acknowledge, heartbeat.handles(messages), heartbeat, pool)
    if left:
        log.warning(
            "%d handled messages could not be deleted; they come again, and the ledger knows them",
            left,
        )
    return left


def release(queue: Queue, heartbeat: Heartbeat, messages: Sequence[Message], pool: Executor) -> int:
    """Show messages to other consumers at once; returns how many wait out their timeout."""
    left = _each_ten(queue.release, heartbeat.handles(messages), heartbeat, pool)
    if left:
        log.warning("%d messages could not be released; they come back by themselves", left)
    return left


def _each_ten(
    call: Callable[[Sequence[Handle]], list[Refused]],
    handles: Sequence[Handle],
    heartbeat: Heartbeat,
    pool: Executor,
) -> int:
    def one(ten: Sequence[Handle]) -> int:
        try:
            return _patiently(call, ten)
        finally:
            heartbeat.let_go(ten)

    return sum(pool.map(one, tens(handles)))


def _patiently(call: Callable[[Sequence[Handle]], list[Refused]], ten: Sequence[Handle]) -> int:
    final, pause = 0, PAUSE_SECONDS
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause)
            pause *= 2
        try:
            refused = call(ten)
        except QueueUnavailable:
            continue
        except EtlError as error:
            log.warning("%s", error)
            break
        # Per entry: what SQS calls the sender's fault stays refused however often it is sent.
        final += sum(r.final for r in refused)
        ten = [r.handle for r in refused if not r.final]
        if not ten:
            break
    return final + len(ten)
