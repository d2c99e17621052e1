"""Acknowledge and release messages, ten a call, with retries; report how many SQS did not take."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from etl.errors import DeletesRefused, EtlError, QueueUnavailable
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.message import Handle, Message, in_tens
from etl.sqs.queue import FailedEntry, Queue
from etl.text import counted

log = logging.getLogger(__name__)

# A failed delete costs no more than a redelivery, which the ledger recognises, so there are few
# rounds. A failed release costs the visibility timeout.
MAX_ROUNDS = 4
PAUSE_SECONDS = 0.2  # before the second round; doubled for each round after it

# When SQS has not answered for this long, the remaining calls are not tried: a stop must not wait
# for a thousand calls to fail one by one.
MAX_SILENCE_SECONDS = 15.0

# After this many calls in a row without an answer (boto3 tries each three times), the remaining
# calls wait for the next round.
MAX_UNANSWERED = 5

# A release of more messages is announced, and one that takes longer.
MANY_MESSAGES = 300
SILENT_SECONDS = 1.0

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class CallMaker(Protocol):
    """What makes the calls: a pool, or the receiving threads."""

    def map(
        self, call: Callable[[Item], Answer], items: Sequence[Item], /
    ) -> Iterable[Answer | None]:
        """Make a call for each item; the answers come in order. None: it was left."""


def acknowledge(
    queue: Queue,
    heartbeat: Heartbeat,
    handles: Sequence[Handle],
    call_maker: CallMaker,
    is_left: Callable[[], bool] = lambda: False,
    note: Callable[[int], None] = lambda _: None,
    note_refusal: Callable[[DeletesRefused], None] = lambda _: None,
) -> int:
    """Delete handled messages from the queue; return how many stay in it.

    :param is_left: whether the rest is no longer to be deleted
    :param note: called after each call, with the number of messages that it has settled
    :param note_refusal: called at once when SQS refuses the call as such; the rest is left then
    """
    calls = _Calls(
        queue.acknowledge, heartbeat, is_left, note, lambda error: note_refusal(_explained(error))
    )
    left = calls.for_all(handles, call_maker)
    if left:
        log.warning(
            "could not delete %s; SQS will deliver what is left again, and the ledger will "
            "recognise it",
            counted(left, "handled message"),
        )
    return left


def _explained(error: EtlError) -> DeletesRefused:
    return DeletesRefused(
        f"handled messages cannot be deleted: {error}; until sqs:DeleteMessage is allowed, each "
        "run receives the same messages again, and SQS moves them to the dead-letter queue; what "
        "was loaded stays loaded, and the next run only deletes it"
    )


def release(
    queue: Queue,
    heartbeat: Heartbeat,
    messages: Sequence[Message],
    call_maker: CallMaker,
    after_seconds: int = 0,
    is_left: Callable[[], bool] = lambda: False,
) -> int:
    """Show messages to other consumers; return how many wait for their timeout instead.

    :param after_seconds: hide them for that long first; by default they are visible at once
    :param is_left: whether the rest is no longer to be released
    """
    call = partial(queue.extend, seconds=after_seconds) if after_seconds else queue.release
    left = _Calls(call, heartbeat, is_left).for_all(messages, call_maker)
    if left:
        log.warning("could not release %s before the visibility timeout", counted(left, "message"))
    return left


@contextmanager
def announced(messages: int, hint: str) -> Iterator[None]:
    """Say that so many messages are released: before it, if they are many, or if it takes long.

    :param hint: how a person can end it
    """
    line = f"giving {counted(messages, 'message')} back{hint}"
    timer = threading.Timer(SILENT_SECONDS, log.info, ("%s", line))
    timer.daemon = True
    if messages > MANY_MESSAGES:
        log.info("%s", line)
    else:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def warn_of_last_receives(messages: Sequence[Message], maximum: int | None) -> None:
    """Warn of released messages that become dead letters at their next receive.

    :param maximum: the queue's ``maxReceiveCount``; None if it has no dead-letter queue
    """
    last = maximum and sum(message.receive_count >= maximum for message in messages)
    if last:
        log.warning(
            "of %s released, %d had the last of %s (maxReceiveCount): at the next one, SQS moves "
            "such a message to the dead-letter queue",
            counted(len(messages), "message"),
            last,
            counted(maximum or 0, "receive"),
        )


class _Calls:
    """One kind of call for many messages, ten at a time; what SQS does not take is tried again."""

    def __init__(
        self,
        call: Callable[[Sequence[Handle]], list[FailedEntry]],
        heartbeat: Heartbeat,
        is_left: Callable[[], bool],
        note: Callable[[int], None] = lambda _: None,
        note_refusal: Callable[[EtlError], None] = lambda _: None,
    ) -> None:
        self._call = call
        self._heartbeat = heartbeat
        self._is_left = is_left
        self._note = note
        self._note_refusal = note_refusal
        self._unanswered_since: float | None = None  # monotonic seconds
        self._unanswered = 0  # calls in a row, in this round
        self._is_refused = False  # SQS refuses the call as such, whatever its entries

    def for_all(self, messages: Sequence[Message | Handle], call_maker: CallMaker) -> int:
        """Make the calls; return for how many messages they did not work."""
        waiting = self._heartbeat.handles(messages)
        given_up = 0
        pause = PAUSE_SECONDS
        for number in range(MAX_ROUNDS):
            if number:
                # Between the rounds and not within a call, which would block a thread.
                time.sleep(pause)
                pause *= 2
            self._unanswered = 0
            tens = list(in_tens(waiting))
            answers = [
                (ten, 0) if answer is None else answer
                for ten, answer in zip(tens, call_maker.map(self._call_for_ten, tens), strict=True)
            ]
            given_up += sum(final for _, final in answers)
            waiting = [handle for again, _ in answers for handle in again]
            if not waiting or self._is_hopeless():
                break
        self._heartbeat.let_go(waiting)
        return given_up + len(waiting)

    def _call_for_ten(self, handles: Sequence[Handle]) -> tuple[Sequence[Handle], int]:
        """Call; return the handles worth another try, and how many will never work."""
        if self._is_hopeless() or self._unanswered >= MAX_UNANSWERED:
            return handles, 0
        began = time.monotonic()
        try:
            failed = self._call(handles)
        except QueueUnavailable:
            self._unanswered += 1
            self._unanswered_since = self._unanswered_since or time.monotonic()
            return handles, 0
        except EtlError as error:
            if not self._is_refused:  # calls that run at the same time are all refused
                self._is_refused = True
                log.warning("%s", error)
            self._note_refusal(error)
            return handles, 0
        self._heartbeat.note_call(time.monotonic() - began)
        self._unanswered = 0
        self._unanswered_since = None
        # What SQS calls the sender's fault stays refused, however often it is sent.
        again = [entry.handle for entry in failed if not entry.final]
        self._heartbeat.let_go(
            [handle for handle in handles if handle not in again] if again else handles
        )
        if len(failed) > len(again):
            self._heartbeat.note_refused(len(failed) - len(again))
        self._note(len(handles) - len(again))
        return again, len(failed) - len(again)

    def _is_hopeless(self) -> bool:
        since = self._unanswered_since
        return (
            self._is_refused
            or self._is_left()
            or (since is not None and time.monotonic() - since > MAX_SILENCE_SECONDS)
        )
