"""Puts the bodies that are in S3 in the place of the pointers to them.

Objects are read ahead, several at once, and given on in the order of their messages. The bodies of
a part and those that were read ahead are all that is in memory: ``batch.bytes`` and
``MAX_READS * queue.payload_max_bytes`` at the most. A message with a pointer never changes, so a
batch that is given back holds no body.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace

from etl.aws.objects import (
    MAX_READS,
    READ_SECONDS,
    NoSuchObjectError,
    ObjectRefused,
    ObjectStore,
    TooLargeError,
    check_buckets,
    open_store,
)
from etl.backoff import TICK_SECONDS, Backoff
from etl.config import QueueSettings
from etl.errors import ConfigurationError, PayloadsRefused, PayloadsUnavailable
from etl.reading.event_ids import is_event
from etl.reading.events import Bodies
from etl.reading.pointers import Pointer, is_pointer, read_pointer
from etl.reading.unreadable import Unreadable
from etl.sqs.limits import Stop
from etl.sqs.message import Message

# A run that is told to stop gives an object this long, and then releases its message.
GRACE_SECONDS = 5.0


Settled = tuple[Message, str | None]  # a message with its body, or else the check that it fails


@dataclass
class _Reading:
    """An object that is being read."""

    message: Message
    pointer: Pointer
    content: Future[bytearray]


class Payloads:
    """Reads the bodies of messages from S3, as far as the configuration allows."""

    def __init__(
        self, store: ObjectStore, settings: QueueSettings, stop: Stop, retry_seconds: float
    ) -> None:
        """Prepare to read.

        :param retry_seconds: how long an outage may last
        """
        self._store = store
        self._settings = settings
        self._stop = stop
        self._retry_seconds = retry_seconds

    def check(self) -> None:
        """Check that the buckets exist, before anything is received. Waits out an outage.

        :raises ConfigurationError: there is no such bucket, or S3 cannot be used
        :raises PayloadsUnavailable: the outage lasts too long, or the run is asked to stop
        """
        backoff = self._backoff()
        while True:
            try:
                check_buckets(self._store, self._settings.payload_buckets)
            except PayloadsRefused as error:
                raise ConfigurationError(str(error)) from None
            except PayloadsUnavailable as error:
                self._pause(backoff, error)
            else:
                backoff.end()
                return

    def bodies(self, messages: Sequence[Message], max_bytes: float) -> Iterator[Bodies]:
        """Put bodies in the place of pointers, as many at a time as may be in memory.

        :param max_bytes: a part ends with the message that brings it there
        """
        part = Bodies()
        for message, check in self._fetched(messages):
            if check is None:
                part.add(message)
            else:
                part.faults.append((message, check))
            if part.bytes >= max_bytes:
                yield part
                part = Bodies()
        if part.messages or part.faults:
            yield part

    def _fetched(self, messages: Sequence[Message]) -> Iterator[Settled]:
        """Each message with its body, or else with the check that it fails; in order."""
        ahead: deque[_Reading | Settled] = deque()
        reading = 0
        for message in messages:
            ahead.append(begun := self._begin(message))
            reading += isinstance(begun, _Reading)
            while reading == MAX_READS:
                first = ahead.popleft()
                reading -= isinstance(first, _Reading)
                yield self._end(first, ahead)
        while ahead:
            yield self._end(ahead.popleft(), ahead)

    def _begin(self, message: Message) -> _Reading | Settled:
        # A damaged pointer fails its own check. An event of a split message is no message.
        if not is_pointer(message.body) or message.is_damaged or is_event(message):
            return message, None
        try:
            pointer = read_pointer(message.body, self._settings.payload_buckets)
        except Unreadable as finding:
            return message, finding.check
        return _Reading(message, pointer, self._read(pointer))

    def _read(self, pointer: Pointer) -> Future[bytearray]:
        """Read an object in a thread of its own, which does not keep the process from ending."""
        content: Future[bytearray] = Future()

        def target() -> None:
            try:
                content.set_result(self._store.read(*pointer, self._settings.payload_max_bytes))
            except BaseException as error:  # noqa: BLE001 (raised where it is waited for)
                content.set_exception(error)

        threading.Thread(target=target, name="payload", daemon=True).start()
        return content

    def _end(
        self,
        first: _Reading | Settled,
        ahead: deque[_Reading | Settled],
    ) -> Settled:
        if not isinstance(first, _Reading):
            return first
        others = [other.content for other in ahead if isinstance(other, _Reading)]
        try:
            text = self._text(first, others)
        except Unreadable as finding:
            return first.message, finding.check
        return replace(first.message, body=text, md5=None), None

    def _text(self, first: _Reading, others: list[Future[bytearray]]) -> str:
        try:
            text = self._content(first, others).decode()
        except NoSuchObjectError:
            raise Unreadable("S3 object") from None
        except TooLargeError:
            raise Unreadable("S3 object size") from None
        except UnicodeDecodeError:
            raise Unreadable("UTF-8") from None
        # In the quarantine it would end the attributes, and no JSON has it.
        if "\0" in text:
            raise Unreadable("UTF-8")
        return text

    def _content(self, first: _Reading, others: list[Future[bytearray]]) -> bytearray:
        """Wait for an object, and wait out an outage of S3.

        :param others: that are being read as well
        """
        backoff = self._backoff()
        content, is_retry = first.content, False
        while True:
            try:
                return self._answer(content)
            except ObjectRefused:
                wait(others, READ_SECONDS)
                if not self._store.still_reads(first.pointer.bucket):
                    raise
                raise NoSuchObjectError from None
            except PayloadsUnavailable as error:
                # Read ahead during an outage that has ended since, perhaps.
                if is_retry or self._stop.ends_retries:
                    self._pause(backoff, error)
            content, is_retry = self._read(first.pointer), True

    def _answer(self, content: Future[bytearray]) -> bytearray:
        ends_at, stops_at = time.monotonic() + READ_SECONDS, math.inf
        while not wait([content], TICK_SECONDS).done:
            now = time.monotonic()
            if self._stop.ends_retries:
                stops_at = min(stops_at, now + GRACE_SECONDS)
            if now > min(ends_at, stops_at):
                raise PayloadsUnavailable("S3 has not answered yet")
        return content.result()

    def _backoff(self) -> Backoff:
        return Backoff(self._retry_seconds, lambda: self._stop.ends_retries)

    def _pause(self, backoff: Backoff, error: PayloadsUnavailable) -> None:
        if not self._stop.ends_retries:
            backoff.pause(error)
        if self._stop.ends_retries:
            raise error


def open_payloads(
    settings: QueueSettings,
    environment: Mapping[str, str],
    stop: Stop,
    retry_seconds: float | None = None,
) -> Payloads:
    """Make what reads bodies from S3. Calls nothing of S3 yet, but gets the credentials.

    :param environment: has the AWS variables
    :param retry_seconds: how long an outage may last; None: as the settings say
    :raises SettingsError: the AWS configuration cannot be used
    """
    store = open_store(settings.url or "", environment)
    seconds = settings.retry_seconds if retry_seconds is None else retry_seconds
    return Payloads(store, settings, stop, seconds)
