"""Send message bodies to the queue, in tens and in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count

from etl.backoff import Backoff
from etl.errors import QueueUnavailable
from etl.sqs.message import CALL_ENTRIES
from etl.sqs.queue import Queue

# SQS takes at most 1 MiB in a call; the rest is room for the call's own words.
CALL_BYTES = 1024 * 1024 - 16 * 1024
RETRY_SECONDS = 60


def send_bodies(queue: Queue, bodies: Iterable[str], threads: int) -> tuple[int, list[int]]:
    """Send the bodies.

    :returns: how many were sent, and the numbers (from 1) of those that SQS did not take
    :raises QueueRefused: no such queue, no permission
    :raises QueueUnavailable: SQS did not answer for a minute
    """
    refused: list[int] = []
    total = 0
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[list[int]]] = set()
        for numbers, ten in _calls(bodies):
            total += len(ten)
            running.add(pool.submit(_send_ten, queue, numbers, ten))
            if len(running) >= 2 * threads:  # no more than that of a long file in memory
                done, running = wait(running, return_when=FIRST_COMPLETED)
                refused += [number for each in done for number in each.result()]
        refused += [number for each in running for number in each.result()]
    return total - len(refused), sorted(refused)


def _calls(bodies: Iterable[str]) -> Iterator[tuple[list[int], list[str]]]:
    numbers: list[int] = []
    ten: list[str] = []
    size = 0
    for number, body in zip(count(1), bodies):
        length = len(body.encode("utf-8", "surrogatepass"))
        if ten and (len(ten) == CALL_ENTRIES or size + length > CALL_BYTES):
            yield numbers, ten
            numbers, ten, size = [], [], 0
        numbers.append(number)
        ten.append(body)
        size += length
    if ten:
        yield numbers, ten


def _send_ten(queue: Queue, numbers: Sequence[int], ten: Sequence[str]) -> list[int]:
    backoff = Backoff(RETRY_SECONDS, lambda: False)
    while True:
        try:
            return [numbers[position] for position in queue.send(ten)]
        except QueueUnavailable as error:
            backoff.pause(error)
