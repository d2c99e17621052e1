"""A consumer of the queue: takes batches of messages, then acknowledges or releases them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self

from etl.config import Settings
from etl.errors import LeftMessages
from etl.sqs.acknowledge import acknowledge, announced, release
from etl.sqs.arrivals import Arrivals
from etl.sqs.call_queue import MAX_CALL_THREADS, AtOnce, CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Phase, Quota, Stop
from etl.sqs.message import Message
from etl.sqs.queue import Queue, QueueState
from etl.sqs.receiver import Receiver

log = logging.getLogger(__name__)

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
        max_receive_count: int | None = None,
        sent_time_column: str | None = None,
    ) -> None:
        """Prepare the threads.

        :param receivers: threads that receive
        :param max_receive_count: of the queue
        :param sent_time_column: a column that is made from the messages' SentTimestamp
        """
        self.stop = stop
        self.not_acknowledged = 0  # handled messages that are still in the queue
        self.left: LeftMessages | None = None  # a release was ended early
        self._released = 0  # deliveries
        self._to_release: list[Message] = []  # taken before
        self._queue = queue
        self._heartbeat = Heartbeat(queue, visibility_seconds)
        self._background = ThreadPoolExecutor(1, "background")
        self._calls = CallQueue(MAX_CALL_THREADS, lambda: stop.leave_rest)
        self._arrivals = Arrivals(
            lambda damaged, seconds: release(queue, self._heartbeat, damaged, self._calls, seconds),
            stop,
            max_receive_count,
            sent_time_column,
            limits.receives_to_leave,
        )
        self._max_receive_count = max_receive_count
        self._receiver = Receiver(
            queue, self._heartbeat, limits, receivers, stop, quota, self._calls, self._arrivals
        )
        self._acknowledging: Future[int] | None = None

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
        self.stop.phase = Phase.RELEASING
        self._release_all([*self._to_release, *self._receiver.end()])
        self._heartbeat.stop(wait=not self.stop.leave_rest)
        self._background.shutdown()

    @property
    def received(self) -> int:
        """Deliveries so far."""
        return self._receiver.received + self._arrivals.released

    @property
    def released(self) -> int:
        """Deliveries that were released so far."""
        return self._released + self._arrivals.released

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
            acknowledge,
            self._queue,
            self._heartbeat,
            handles,
            self._calls,
            lambda: self.stop.leave_rest,
        )

    def wait_for_acknowledgements(self) -> None:
        """Wait until the deletes that were begun have ended."""
        if self._acknowledging is not None:
            self.stop.phase = Phase.ACKNOWLEDGING
            self.not_acknowledged += self._acknowledging.result()
            self._acknowledging = None
            self.stop.phase = Phase.WORKING

    def release(self, messages: Sequence[Message]) -> None:
        """Release messages that this consumer will not handle, when the block ends.

        Not at once: a poll in progress would receive them again, and use up one more receive.
        """
        self._to_release += messages

    def _release_all(self, messages: Sequence[Message]) -> None:
        """Release messages, or leave them if asked to."""
        if not messages:
            return
        with announced(len(messages), self.stop.leave_hint):
            not_released = self._release(messages)
        self._released += sum(message.deliveries for message in messages)
        if self.stop.leave_rest and not_released:
            self.left = LeftMessages(
                f"interrupted again: {not_released:,} of {len(messages):,} messages were not given "
                "back; they come back after the visibility timeout"
            )
        self._warn_of_last_receives(messages)

    def _release(self, messages: Sequence[Message]) -> int:
        return release(
            self._queue,
            self._heartbeat,
            messages,
            AtOnce(self._calls),
            is_left=lambda: self.stop.leave_rest,
        )

    def _warn_of_last_receives(self, messages: Sequence[Message]) -> None:
        maximum = self._max_receive_count
        last = maximum and sum(message.receive_count >= maximum for message in messages)
        if last:
            log.warning(
                "%d of %d released messages have been received %d times (maxReceiveCount): SQS "
                "moves them to the dead-letter queue at the next receive",
                last,
                len(messages),
                maximum,
            )

    def raise_error(self) -> None:
        """Raise what ended the receiving, as :meth:`etl.sqs.receiver.Receiver.raise_error`.

        :raises NoSentTimestamp: messages come without what a column needs
        :raises LastReceives: a message has too few receives left
        """
        self._arrivals.raise_error()
        self._receiver.raise_error()


def open_consumer(
    settings: Settings,
    queue: Queue,
    state: QueueState,
    stop: Stop,
    quota: Quota,
    limits: Limits | None = None,
) -> Consumer:
    """Make the consumer of the settings. It receives nothing yet.

    :param state: the queue's numbers at the start
    :param limits: None means those of a run
    """
    limits = limits or run_limits(settings, queue, state.visibility_seconds)
    return Consumer(
        queue,
        state.visibility_seconds,
        replace(limits, max_receive_count=state.max_receive_count),
        settings.queue.receivers,
        stop,
        quota,
        state.max_receive_count,
        next((column.name for column in settings.table.columns if column.attribute), None),
    )


def run_limits(settings: Settings, queue: Queue, visibility_seconds: int) -> Limits:
    """The limits of a run with these settings."""
    run = settings.run
    batch = settings.batch
    undelivered_seconds = max(UNDELIVERED_SECONDS, UNDELIVERED_PERIODS * run.idle_seconds)
    if queue.is_fifo:
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
        quiet_seconds=0 if queue.is_fifo else batch.quiet_seconds,
        undelivered_seconds=undelivered_seconds,
    )
