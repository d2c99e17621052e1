"""Send message bodies to the queue, ten in a call and with several calls in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count

from etl.backoff import Backoff
from etl.errors import QueueUnavailable
from etl.sqs.message import CALL_ENTRIES
from etl.sqs.queue import Queue

# SQS accepts at most 1 MiB in a call. The rest is room for the call's own text.
MAX_CALL_BYTES = 1024 * 1024 - 16 * 1024
RETRY_SECONDS = 60


def send_bodies(queue: Queue, bodies: Iterable[str], threads: int) -> tuple[int, list[int]]:
    """Send the bodies.

    :returns: how many bodies were sent, and the numbers (from 1) of those that SQS refused
    :raises QueueRefused: the queue does not exist or the credentials do not allow the call
    :raises QueueUnavailable: SQS has not answered for ``RETRY_SECONDS``
    """
    refused: list[int] = []
    total = 0
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[list[int]]] = set()
        for numbers, batch in _batches(bodies):
            total += len(batch)
            running.add(pool.submit(_send_batch, queue, numbers, batch))
            if len(running) >= 2 * threads:  # so that a long file is not read into memory
                done, running = wait(running, return_when=FIRST_COMPLETED)
                refused += [number for future in done for number in future.result()]
        refused += [number for future in running for number in future.result()]
    return total - len(refused), sorted(refused)


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


def _send_batch(queue: Queue, numbers: Sequence[int], batch: Sequence[str]) -> list[int]:
    """Send one batch, with retries; return the numbers of the bodies that SQS refused."""
    backoff = Backoff(RETRY_SECONDS, lambda: False)
    while True:
        try:
            return [numbers[position] for position in queue.send(batch)]
        except QueueUnavailable as error:
            backoff.pause(error)
