"""Drain a receiver."""

from __future__ import annotations

from etl.sqs.receiver import Receiver


def drained(receiver: Receiver) -> int:
    """Take all batches; return how many messages there were."""
    total = 0
    while (batch := receiver.take()) is not None:
        total += len(batch)
    return total
