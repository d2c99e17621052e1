"""What is left in the queue after a run."""

from __future__ import annotations

import logging

from etl.errors import EtlError
from etl.sqs.queue import Queue, QueueState

log = logging.getLogger(__name__)


def ask_what_is_left(queue: Queue, stop_reason: str = "") -> QueueState | None:
    """Ask a queue, after a run, for what is in it; None if it does not tell. Log what is."""
    try:
        left = queue.state()
    except EtlError as error:
        log.warning("%s: cannot tell what is left in the queue", error)
        return None
    if left.visible and stop_reason == "idle":
        log.warning(
            "%d messages are visible in the queue, but SQS did not deliver them: other consumers "
            "hold their FIFO groups or too many messages, or the count is out of date",
            left.visible,
        )
    if left.in_flight or left.delayed:
        log.info(
            "left in the queue: %d messages in flight elsewhere, %d delayed",
            left.in_flight,
            left.delayed,
        )
    return left
