"""What is left in the queue after a run."""

from __future__ import annotations

import logging

from etl.errors import EtlError
from etl.sqs.queue import Queue, QueueState
from etl.text import counted

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
            "the queue shows %s, but SQS did not deliver any: other consumers hold the FIFO groups "
            "or too many messages, or the count is out of date",
            counted(left.visible, "visible message"),
        )
    if left.in_flight or left.delayed:
        log.info(
            "left in the queue: %s in flight elsewhere, %d delayed",
            counted(left.in_flight, "message"),
            left.delayed,
        )
    return left
