"""The limits of a run, from its settings and from what kind of queue it reads."""

from __future__ import annotations

import math

from etl.config import Settings
from etl.sqs.limits import Limits

# How long an idle run goes on while the queue says that it has visible messages. The counts of AWS
# are right a minute after the last change.
UNDELIVERED_SECONDS = 60.0
UNDELIVERED_PERIODS = 3  # of the idle time
MAX_GROUP_SECONDS = 900.0

# What stops one worker stops the others soon. Until then they would receive what it releases, and
# release it again.
STOP_SECONDS = 2


def run_limits(settings: Settings, is_fifo: bool, visibility_seconds: int) -> Limits:
    """The limits of a run with these settings.

    :param is_fifo: whether the queue is a FIFO queue
    """
    run = settings.run
    batch = settings.batch
    undelivered_seconds = max(UNDELIVERED_SECONDS, UNDELIVERED_PERIODS * run.idle_seconds)
    if is_fifo:
        # When its consumer has died, a group comes free at its visibility timeout.
        undelivered_seconds += min(visibility_seconds, MAX_GROUP_SECONDS)
    return Limits(
        max_rows=batch.rows,
        max_bytes=batch.bytes,
        batch_seconds=batch.seconds,
        idle_seconds=math.inf if run.forever else run.idle_seconds,
        max_seconds=run.max_seconds,
        wait_seconds=settings.queue.wait_seconds,
        retry_seconds=settings.queue.retry_seconds,
        # The next messages of a FIFO group come only after those before them are deleted.
        quiet_seconds=0 if is_fifo else batch.quiet_seconds,
        undelivered_seconds=undelivered_seconds,
        hide_seconds=settings.queue.wait_seconds + STOP_SECONDS if run.workers > 1 else 0,
    )
