"""The first answer of SQS: waited for like the database, since nothing has been received yet."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from etl.backoff import TICK_SECONDS, Backoff
from etl.errors import ConfigurationError, QueueRefused, QueueUnavailable
from etl.sqs.limits import Stop

Answer = TypeVar("Answer")

# A service that can be reached answers within this, so a run that is told to stop while it starts
# still ends normally.
GRACE_SECONDS = 5.0


def first_answer(ask: Callable[[], Answer], retry_seconds: float, stop: Stop) -> Answer:
    """Ask SQS until it answers.

    :param retry_seconds: how long an outage may last
    :raises ConfigurationError: SQS refuses, or can never be reached by this configuration
    :raises QueueUnavailable: the outage lasts too long, or the run is asked to stop
    """
    backoff = Backoff(retry_seconds, lambda: stop.ends_retries)
    while True:
        try:
            return _ask_until_stopped(ask, stop, "SQS")
        except QueueRefused as error:
            # Nothing has been received yet, so this is a matter of the configuration.
            raise ConfigurationError(str(error)) from None
        except QueueUnavailable as error:
            if not stop.ends_retries:
                backoff.pause(error)
            if stop.ends_retries:
                raise _given_up(str(error), stop, "SQS") from None


def until_stopped(ask: Callable[[], Answer], stop: Stop, service: str) -> Answer:
    """Ask once; what it raises is raised.

    :param service: whose answer is waited for, in words
    :raises QueueUnavailable: the run is asked to stop
    """
    try:
        return _ask_until_stopped(ask, stop, service)
    except QueueUnavailable as error:
        raise _given_up(str(error), stop, service) from None


def _ask_until_stopped(ask: Callable[[], Answer], stop: Stop, service: str) -> Answer:
    """Ask in another thread: a call to a host that takes no packets lasts for most of a minute."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001 (raised again by the thread that waits)
            errors.append(error)

    # A daemon, which does not keep the process from ending.
    thread = threading.Thread(target=target, name="first answer", daemon=True)
    thread.start()
    grace_ends = time.monotonic() + GRACE_SECONDS
    while thread.is_alive():
        thread.join(TICK_SECONDS)
        if thread.is_alive() and stop.ends_retries and time.monotonic() > grace_ends:
            raise QueueUnavailable(f"{service} has not answered yet")
    if errors:
        raise errors[0]
    return answers[0]


def _given_up(problem: str, stop: Stop, service: str) -> QueueUnavailable:
    given_up = QueueUnavailable(
        f"{problem}; nothing was received, and {stop.reason} has ended the wait for {service}"
    )
    given_up.stop_reason = str(stop.reason)
    return given_up
