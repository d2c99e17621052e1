"""Send message bodies to the queue, ten in a call and with several calls in parallel."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from threading import Event

from etl.backoff import Backoff
from etl.errors import ConfigurationError, QueueRefused, QueueUnavailable, UsageError
from etl.sqs.message import CALL_ENTRIES
from etl.sqs.queue import Queue

# SQS accepts at most 1 MiB in a call. The rest is room for the call's own text.
MAX_CALL_BYTES = 1024 * 1024 - 16 * 1024

SENDERS = 4  # calls in flight; with answers after 15 ms, 2,500 messages take a second


@dataclass(frozen=True)
class _Calls:
    """How the bodies of one command are sent."""

    queue: Queue
    retry_seconds: float
    group: str | None
    has_own_ids: bool  # each message gets a MessageDeduplicationId
    has_sent: Event = field(default_factory=Event)  # SQS has taken a call
    is_over: Event = field(default_factory=Event)  # no call is tried again

    def parameters(self, batch: Sequence[str]) -> list[dict[str, str]]:
        """What a FIFO queue needs besides the bodies."""
        if not self.queue.is_fifo:
            return []
        parameters = [{"MessageGroupId": self.group or str(uuid.uuid4())} for _ in batch]
        if self.has_own_ids:
            # Also makes a retry harmless: SQS takes a message with this id only once.
            for entry in parameters:
                entry["MessageDeduplicationId"] = str(uuid.uuid4())
        return parameters


def send_bodies(
    queue: Queue,
    bodies: Iterable[str],
    threads: int,
    retry_seconds: float,
    group: str | None = None,
) -> tuple[int, list[int]]:
    """Send the bodies.

    :param retry_seconds: how long an outage of SQS may last
    :param group: FIFO group of all messages, which are then sent in order; None gives each message
        a group of its own
    :returns: how many bodies were sent, and the numbers (from 1) of those that SQS refused
    :raises UsageError: a group for a queue that is not a FIFO queue
    :raises ConfigurationError: SQS refuses, or cannot be reached, and nothing was sent
    :raises QueueRefused: SQS refuses after it has taken some
    :raises QueueUnavailable: SQS has not answered for *retry_seconds*
    """
    if group is not None and not queue.is_fifo:
        raise UsageError("a group is for FIFO queues only, whose names end in '.fifo'")
    calls = _Calls(queue, retry_seconds, group, _needs_own_ids(queue, retry_seconds))
    if group is not None:
        threads = 1  # calls in parallel would lose the order
    try:
        return _send_all(calls, bodies, threads)
    except QueueRefused as error:
        if calls.has_sent.is_set():
            raise
        raise ConfigurationError(str(error)) from None


def _send_all(calls: _Calls, bodies: Iterable[str], threads: int) -> tuple[int, list[int]]:
    refused: list[int] = []
    total = 0
    pool = ThreadPoolExecutor(threads)
    try:
        running: set[Future[list[int]]] = set()
        for numbers, batch in _batches(bodies):
            total += len(batch)
            running.add(pool.submit(_send_batch, calls, numbers, batch))
            if len(running) >= 2 * threads:  # so that a long file is not read into memory
                done, running = wait(running, return_when=FIRST_COMPLETED)
                refused += [number for future in done for number in future.result()]
        refused += [number for future in running for number in future.result()]
    except BaseException:
        # Ctrl-C, or an error: nobody waits for what the other threads would still try.
        calls.is_over.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return total - len(refused), sorted(refused)


def _needs_own_ids(queue: Queue, retry_seconds: float) -> bool:
    backoff = Backoff(retry_seconds, lambda: False)
    while queue.is_fifo:
        try:
            return not queue.deduplicates_by_content()
        except QueueRefused:
            return True  # who may only send cannot ask; an id of its own is always allowed
        except QueueUnavailable as error:
            backoff.pause(error)
    return False


def _batches(bodies: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
    """Yield the numbers and the bodies of each call."""
    numbers: list[int] = []
    batch: list[str] = []
    batch_bytes = 0
    for number, body in zip(count(1), bodies):
        body_bytes = len(body.encode("utf-8", "surrogatepass"))
        if batch and (len(batch) == CALL_ENTRIES or batch_bytes + body_bytes > MAX_CALL_BYTES):
            yield numbers, batch
            numbers = []
            batch = []
            batch_bytes = 0
        numbers.append(number)
        batch.append(body)
        batch_bytes += body_bytes
    if batch:
        yield numbers, batch


def _send_batch(calls: _Calls, numbers: Sequence[int], batch: Sequence[str]) -> list[int]:
    """Send one batch, with retries; return the numbers of the bodies that SQS refused."""
    backoff = Backoff(calls.retry_seconds, calls.is_over.is_set)
    parameters = calls.parameters(batch)
    while True:
        try:
            refused = [numbers[position] for position in calls.queue.send(batch, parameters)]
        except QueueUnavailable as error:
            backoff.pause(error)
            if calls.is_over.is_set():
                raise
        else:
            calls.has_sent.set()
            return refused
