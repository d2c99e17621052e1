"""Receivers on queues that a test has made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from etl.sqs.call_queue import CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Stop
from etl.sqs.quota import open_quota
from etl.sqs.receiver import Receiver

Start = Callable[..., tuple[Receiver, Stop]]


@contextmanager
def running_receivers(limits: Limits, threads: int) -> Iterator[Start]:
    """Give a function that starts a receiver on a queue; all of them end with the block.

    :param threads: unless the function is called with another number
    """
    started: list[Receiver] = []

    def start(
        queue: Any, threads: int = threads, max_messages: int | None = None, **changes: Any
    ) -> tuple[Receiver, Stop]:
        stop = Stop()
        receiver = Receiver(
            queue,
            Heartbeat(queue, 30),
            replace(limits, **changes),
            threads,
            stop,
            open_quota(max_messages),
            CallQueue(1),  # no calls besides the receives
        )
        started.append(receiver)
        receiver.start()
        return receiver, stop

    yield start
    for receiver in started:
        receiver.end()


def drained(receiver: Receiver) -> int:
    """Take all batches; return how many messages there were."""
    total = 0
    while (batch := receiver.take()) is not None:
        total += len(batch)
    return total
