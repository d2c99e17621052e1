"""Receive all messages of the queue, and then delete or release them, as the job does.

Run as ``python -m bench.settle delete N`` or ``release N``. It reads the variables that the job
reads and prints JSON: the seconds from the order until SQS has answered for the last message. The
messages are not loaded, so that only the calls are measured. A release begins with a stop, as
SIGTERM asks for one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path

from etl import config
from etl.sqs.client import open_queue
from etl.sqs.consumer import Consumer, open_consumer
from etl.sqs.limits import Stop
from etl.sqs.quota import NoQuota
from etl.sqs.run_limits import run_limits
from etl.worker import tune_interpreter

LOOK_SECONDS = 0.01  # between two looks at how many messages have come


class NotAllSettled(Exception):  # noqa: N818  (it says what happened)
    """Some messages were neither deleted nor released."""


def main() -> None:
    """Settle the messages once."""
    parser = argparse.ArgumentParser(prog="python -m bench.settle")
    parser.add_argument("way", choices=("delete", "release"))
    parser.add_argument("messages", type=int)
    options = parser.parse_args()
    settings = config.load(Path("config.yaml"), os.environ)
    tune_interpreter()
    queue = open_queue(settings.queue, os.environ)
    state = queue.state()
    limits = run_limits(settings, queue.is_fifo, state.visibility_seconds)
    # One batch of all messages: the receivers have nothing left to do when it is settled.
    limits = replace(limits, max_rows=options.messages, grows=False)
    stop = Stop()
    with open_consumer(settings, queue, state, stop, NoQuota(), limits) as consumer:
        while consumer.received < options.messages:
            consumer.raise_error()
            time.sleep(LOOK_SECONDS)
        settle = _delete if options.way == "delete" else _release
        print(json.dumps({"seconds": settle(consumer, stop, options.messages)}))


def _delete(consumer: Consumer, stop: Stop, count: int) -> float:
    stop.request("idle")
    messages = consumer.take() or []
    began = time.perf_counter()
    consumer.acknowledge(messages)
    consumer.wait_for_acknowledgements()
    seconds = time.perf_counter() - began
    if len(messages) != count or consumer.not_acknowledged:
        raise NotAllSettled(f"{len(messages)} taken, {consumer.not_acknowledged} not deleted")
    return seconds


def _release(consumer: Consumer, stop: Stop, count: int) -> float:
    began = time.perf_counter()
    stop.request("SIGTERM", release_rest=True)
    consumer.release([])
    seconds = time.perf_counter() - began
    if consumer.released != count:
        raise NotAllSettled(f"{consumer.released} of {count} messages were released")
    return seconds


if __name__ == "__main__":
    main()
