"""A consumer of the queue: takes batches of messages, then acknowledges or releases them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from etl.config import Settings
from etl.sqs.acknowledge import acknowledge, release
from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Quota, Stop
from etl.sqs.message import Message
from etl.sqs.queue import Queue
from etl.sqs.receiver import Receiver

# How long an idle run goes on while the queue says that it has visible messages. The counts of AWS
# are right a minute after the last change.
UNDELIVERED_SECONDS = 60.0
UNDELIVERED_PERIODS = 3  # of the idle time
MAX_GROUP_SECONDS = 900.0


class Consumer:
    """The receiver, the heartbeat and the threads that acknowledge, as one context manager.

    On leaving the block, whatever was received and not taken is released, also after a bug: no
    message should have to wait for its visibility timeout.
    """

    def __init__(
        self,
        queue: Queue,
        visibility_seconds: int,
        limits: Limits,
        receivers: int,
        stop: Stop,
        quota: Quota,
    ) -> None:
        """Prepare the threads.

        :param receivers: threads that receive, and threads that acknowledge when they do not
        """
        self.stop = stop
        self.released = 0  # deliveries
        self.not_acknowledged = 0  # handled messages that are still in the queue
        self._queue = queue
        self._heartbeat = Heartbeat(queue, visibility_seconds)
        self._pool = ThreadPoolExecutor(receivers, "acknowledge")
        self._background = ThreadPoolExecutor(1, "background")
        self._calls = CallQueue(self._pool, receivers)
        self._receiver = Receiver(
            queue, self._heartbeat, limits, receivers, stop, quota, self._calls
        )
        self._acknowledging: Future[int] | None = None
        self._release_at_end: list[Message] = []

    def __enter__(self) -> Self:
        self._heartbeat.start()
        self._receiver.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        rest = self._receiver.end()
        self.release([*self._release_at_end, *rest])
        self._heartbeat.stop()
        self._background.shutdown()
        self._pool.shutdown()

    @property
    def received(self) -> int:
        """Deliveries so far."""
        return self._receiver.received

    @property
    def buffered(self) -> int:
        """Messages received and not yet taken."""
        return self._receiver.buffered

    def take(self) -> list[Message] | None:
        """Wait for the next batch, as :meth:`etl.sqs.receiver.Receiver.take` does."""
        return self._receiver.take()

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Begin to delete the messages of a committed batch, in the background.

        The deletes of one batch overlap with the loading of the next. This waits for the deletes of
        the batch before.
        """
        self.wait_for_acknowledgements()
        handles = [message.handle for message in messages]
        self._acknowledging = self._background.submit(
            acknowledge, self._queue, self._heartbeat, handles, self._calls
        )

    def wait_for_acknowledgements(self) -> None:
        """Wait until the deletes that were begun have ended."""
        if self._acknowledging is not None:
            self.not_acknowledged += self._acknowledging.result()
            self._acknowledging = None

    def release(self, messages: Sequence[Message]) -> None:
        """Release messages that this consumer will not handle."""
        if messages:
            release(self._queue, self._heartbeat, messages, self._pool)
            self.released += sum(message.deliveries for message in messages)

    def release_at_end(self, messages: Sequence[Message]) -> None:
        """Release messages as soon as nothing is received any more.

        Released before, they could come again at once, and each receive counts towards the queue's
        ``maxReceiveCount``.
        """
        self._release_at_end += messages

    def raise_error(self) -> None:
        """Raise what ended the receiving, as :meth:`etl.sqs.receiver.Receiver.raise_error`."""
        self._receiver.raise_error()


def open_consumer(
    settings: Settings,
    queue: Queue,
    visibility_seconds: int,
    stop: Stop,
    quota: Quota,
    limits: Limits | None = None,
) -> Consumer:
    """Make the consumer of the settings. It receives nothing yet.

    :param limits: None means those of a run
    """
    limits = limits or run_limits(settings, queue, visibility_seconds)
    return Consumer(queue, visibility_seconds, limits, settings.queue.receivers, stop, quota)


def run_limits(settings: Settings, queue: Queue, visibility_seconds: int) -> Limits:
    """The limits of a run with these settings."""
    run = settings.run
    batch = settings.batch
    idle_seconds = math.inf if run.forever else run.idle_seconds
    undelivered_seconds = max(UNDELIVERED_SECONDS, UNDELIVERED_PERIODS * run.idle_seconds)
    if queue.is_fifo:
        # When its consumer has died, a group comes free at its visibility timeout.
        undelivered_seconds += min(visibility_seconds, MAX_GROUP_SECONDS)
    return Limits(
        max_rows=batch.rows,
        max_bytes=batch.bytes,
        batch_seconds=batch.seconds,
        idle_seconds=idle_seconds,
        max_seconds=run.max_seconds,
        wait_seconds=settings.queue.wait_seconds,
        retry_seconds=settings.queue.retry_seconds,
        # The next messages of a FIFO group come only after those before them are deleted.
        quiet_seconds=0 if queue.is_fifo else min(batch.quiet_seconds, idle_seconds),
        undelivered_seconds=undelivered_seconds,
    )
