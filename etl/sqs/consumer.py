"""A consumer of the queue: takes batches of messages, then acknowledges or releases them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Self

from etl.config import Settings
from etl.errors import DeletesRefused, LeftMessages
from etl.sqs import visibility
from etl.sqs.acknowledge import acknowledge, announced, release, warn_of_last_receives
from etl.sqs.arrivals import Arrivals
from etl.sqs.buffer import Buffer
from etl.sqs.call_queue import MAX_CALL_THREADS, AtOnce, CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Phase, Stop
from etl.sqs.message import Handle, Message
from etl.sqs.queue import Queue, QueueState
from etl.sqs.quota import Quota
from etl.sqs.receiver import Receiver
from etl.sqs.run_limits import run_limits
from etl.sqs.work import Workload
from etl.text import counted


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
        max_receivers: int,
        stop: Stop,
        quota: Quota,
        sent_time_column: str | None = None,
        *,
        warns: bool = True,
    ) -> None:
        """Prepare the threads.

        :param max_receivers: threads that receive
        :param sent_time_column: a column that is made from the messages' SentTimestamp
        :param warns: of a visibility timeout that is too short
        """
        self.stop = stop
        self.workload = Workload()
        self.not_acknowledged = 0  # handled messages that are still in the queue
        self.left: LeftMessages | None = None  # a release was ended early
        self._released = 0  # deliveries
        self._limits = limits
        self._queue = queue
        self._heartbeat = Heartbeat(
            queue, visibility_seconds, partial(visibility.warn, queue.url) if warns else None
        )
        self._background = ThreadPoolExecutor(1, "background")
        self._calls = CallQueue(MAX_CALL_THREADS, lambda: stop.leave_rest)
        self.arrivals = Arrivals(
            lambda damaged, seconds: release(queue, self._heartbeat, damaged, self._calls, seconds),
            *(stop, limits.max_receive_count, sent_time_column, limits.receives_to_leave),
        )
        self._receiver = Receiver(
            queue,
            self._heartbeat,
            limits,
            max_receivers,
            stop,
            quota,
            self._calls,
            self.arrivals,
            self.workload.clock,
        )
        self._acknowledging: Future[int] | None = None
        self._refusal: DeletesRefused | None = None
        self._kept: list[Message] = []
        self.is_last = False  # no batch follows the one that was taken

    def __enter__(self) -> Self:
        self.workload.open()
        self._heartbeat.start()
        self._receiver.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.phase = Phase.RELEASING
        self.release([])
        self._heartbeat.stop(wait=not self.stop.leave_rest)
        self._background.shutdown()
        self.workload.close()

    @property
    def received(self) -> int:
        """Deliveries so far."""
        return self._receiver.received + self.arrivals.released

    @property
    def released(self) -> int:
        """Deliveries that were released so far."""
        return self._released + self.arrivals.released

    @property
    def needed_visibility(self) -> int:
        """A visibility timeout that would be long enough, in seconds; 0 if the queue's own is."""
        return self._heartbeat.needed_seconds

    @property
    def is_quiet(self) -> bool:
        """Whether SQS has answered that nothing follows the newest message for now."""
        return self._receiver.is_quiet

    def take(self) -> list[Message] | None:
        """Wait for the next batch, as :meth:`etl.sqs.receiver.Receiver.take` does.

        Messages that were kept come with it, or alone when no other batch follows.
        """
        self.workload.batch_is_done()
        taken = self._receiver.take()
        if taken or self._kept:
            self.workload.batch_was_taken(sum(message.deliveries for message in taken or ()))
        if not self._kept or (taken is None and self.stop.release_rest):
            return taken
        self.is_last = taken is None
        together = Buffer(len(self._kept), 0)
        together.add(self._kept, 0)
        together.add(taken or [], 0)
        self._kept = []
        return together.empty()

    def keep(self, messages: Sequence[Message]) -> None:
        """Keep taken messages, to take them again together with the next batch."""
        self._kept = list(messages)

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Begin to delete the messages of a committed batch, in the background.

        The deletes of one batch overlap with the loading of the next. This waits for the deletes of
        the batch before.
        """
        self.wait_for_acknowledgements()
        handles = [message.handle for message in messages]
        self.workload.to_delete = len(handles)
        self._acknowledging = self._background.submit(self._delete, handles)

    def _delete(self, handles: Sequence[Handle]) -> int:
        with self.workload.clock.working():
            return acknowledge(
                self._queue,
                self._heartbeat,
                handles,
                self._calls,
                lambda: self.stop.leave_rest or self._refusal is not None,
                self.workload.was_deleted,
                self._deletes_are_refused,
            )

    def _deletes_are_refused(self, error: DeletesRefused) -> None:
        """Stop at once: what is received and never deleted ends in the dead-letter queue."""
        self._refusal = error
        self.stop.request(error.stop_reason, release_rest=True)

    def wait_for_acknowledgements(self) -> None:
        """Wait until the deletes that were begun have ended."""
        if self._acknowledging is not None:
            self.stop.phase = Phase.ACKNOWLEDGING
            self.not_acknowledged += self._acknowledging.result()
            self._acknowledging = None
            self.stop.phase = Phase.WORKING

    def release(self, messages: Sequence[Message]) -> None:
        """Stop receiving, and release these messages and those that were not taken.

        They are left to their visibility timeout instead if a person does not want to wait.
        """
        # First stop: a poll in progress would receive the released messages at once, and each
        # receive is one of those after which SQS moves a message to the dead-letter queue.
        messages = [*messages, *self._kept, *self._receiver.end()]
        self._kept = []
        if not messages:
            return
        self.stop.phase = Phase.RELEASING
        with self.workload.clock.working(), announced(len(messages), self.stop.leave_hint):
            not_released = self._release(messages)
        self._released += sum(message.deliveries for message in messages)
        if self.stop.leave_rest and not_released:
            self.left = LeftMessages(
                f"interrupted again; not given back: {not_released:,} of "
                f"{counted(len(messages), 'message')}; they come back after the visibility timeout"
            )
        warn_of_last_receives(messages, self._limits.max_receive_count)

    def _release(self, messages: Sequence[Message]) -> int:
        return release(
            self._queue,
            self._heartbeat,
            messages,
            AtOnce(self._calls),
            after_seconds=0 if self.stop.reaches_all_workers else self._limits.hide_seconds,
            is_left=lambda: self.stop.leave_rest,
        )

    def raise_error(self) -> None:
        """Raise what ended the receiving, as :meth:`etl.sqs.receiver.Receiver.raise_error`.

        :raises NoSentTimestamp: messages come without what a column needs
        :raises LastReceives: a message has too few receives left
        :raises DeletesRefused: SQS does not let this job delete messages
        """
        self.arrivals.raise_error()
        self._receiver.raise_error()
        if self._refusal is not None:
            raise self._refusal


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
    limits = limits or run_limits(settings, queue.is_fifo, state.visibility_seconds)
    # Several workers share what is waiting.
    waiting = state.visible if settings.run.workers == 1 else 0
    return Consumer(
        queue,
        state.visibility_seconds,
        replace(limits, max_receive_count=state.max_receive_count, waiting=waiting),
        settings.queue.max_receivers,
        stop,
        quota,
        next((c.name for t in settings.tables for c in t.columns if c.is_sent_time), None),
        # Of several workers, the parent warns.
        warns=settings.run.workers == 1,
    )
