"""Keeps the messages that the job holds hidden from other consumers, for as long as it holds them.

:class:`etl.sqs.schedule.Schedule` says which messages are to be extended. Calls take ten messages
each, and as many calls run at a time as are needed to keep up: one after the other they would fall
behind when SQS throttles or answers late. The heartbeat knows the newest receipt handle of each
message, because deleting with an older one can succeed and delete nothing. SQS lets nobody hold a
message for more than twelve hours; after that it comes again, and the ledger recognises it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from etl.errors import EtlError
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry, Queue
from etl.sqs.schedule import Schedule
from etl.sqs.visibility import VisibilityCheck
from etl.text import counted

log = logging.getLogger(__name__)

MAX_HEARTBEAT_THREADS = 16  # extensions in progress at once; mostly there is nothing to extend

# Of a call to SQS, before the first one was measured; and the weight of a newer call in the mean.
FIRST_CALL_SECONDS = 0.02
NEW_CALL_WEIGHT = 0.1

COMPLAINT_SECONDS = 60.0  # between two log lines about messages that SQS did not extend


class Heartbeat:
    """The messages held now, and the threads that extend their visibility."""

    def __init__(
        self,
        queue: Queue,
        visibility_seconds: int,
        say_too_short: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare the threads.

        :param say_too_short: called once, with the seconds that would be enough, if the visibility
            timeout turns out to be too short
        """
        self._queue = queue
        self._check = VisibilityCheck(visibility_seconds)
        self._say_too_short = say_too_short
        self.visibility_seconds = visibility_seconds
        self._schedule = Schedule(visibility_seconds)
        self._lock = threading.Lock()  # guards the schedule and the numbers below
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._callers: set[threading.Thread] = set()
        self._may_complain_at = 0.0  # monotonic seconds
        self._not_extended = 0  # since the last complaint
        self.extended = 0
        self.call_seconds = FIRST_CALL_SECONDS  # what a call with ten messages takes, on average

    def start(self) -> None:
        """Begin to extend."""
        self._watcher.start()

    def stop(self, *, wait: bool = True) -> None:
        """End the threads. Messages that are still held are no longer extended.

        :param wait: until the calls in progress have ended
        """
        self._stop.set()
        with self._lock:
            threads = [self._watcher, *self._callers]
        for thread in threads if wait else ():
            if thread.is_alive():
                thread.join()

    def hold(self, messages: Sequence[Message]) -> None:
        """Hold messages just received. A newer receipt handle replaces an older one."""
        with self._lock:
            self._check.came(len(messages), self._schedule.hold(messages, time.monotonic()))

    def handles(self, messages: Iterable[Message | Handle]) -> list[Handle]:
        """The newest receipt handle of each message, in the given order."""
        with self._lock:
            # Before they are deleted or released, which is too late if they show again.
            self._check.held_unextended(self._schedule.oldest_seconds(time.monotonic()))
            return self._schedule.newest(messages)

    def let_go(self, handles: Iterable[Handle]) -> None:
        """Stop extending these messages, unless they came again under another handle."""
        with self._lock:
            self._schedule.let_go(handles)

    def note_refused(self, messages: int) -> None:
        """Note that SQS refused for good to delete or release held messages."""
        with self._lock:
            self._check.refused(messages)

    def note_call(self, seconds: float) -> None:
        """Note how long a call with ten messages took."""
        self.call_seconds += (seconds - self.call_seconds) * NEW_CALL_WEIGHT

    @property
    def needed_seconds(self) -> int:
        """A visibility timeout that would be long enough; 0 if the queue's own is."""
        return self._check.needed_seconds

    def __len__(self) -> int:
        return len(self._schedule)

    def _watch(self) -> None:
        """Start a thread when messages are due. A call that hangs here would hold up the others."""
        while not self._stop.wait(min(0.5, self.visibility_seconds / 16)):
            with self._lock:
                self._check.held_unextended(self._schedule.oldest_seconds(time.monotonic()))
            self._start_caller_if_needed()
            if self._say_too_short and self.needed_seconds:
                self._say_too_short(self.needed_seconds)
                self._say_too_short = None

    def _start_caller_if_needed(self) -> None:
        with self._lock:
            now = time.monotonic()
            enough = bool(self._callers) and not self._schedule.is_behind(now)
            if enough or len(self._callers) >= MAX_HEARTBEAT_THREADS or self._stop.is_set():
                return
            if self._schedule.is_due(now):
                caller = threading.Thread(target=self._extend_due, name="heartbeat", daemon=True)
                self._callers.add(caller)
                caller.start()

    def _extend_due(self) -> None:
        """Extend what is due, ten messages at a time, until nothing is."""
        try:
            while not self._stop.is_set() and (handles := self._take_due()):
                self._start_caller_if_needed()
                self._extend(handles)
        finally:
            with self._lock:
                self._callers.discard(threading.current_thread())

    def _take_due(self) -> list[Handle]:
        with self._lock:
            taken, too_long = self._schedule.take_due(time.monotonic())
        for message_id in too_long:
            log.warning(
                "message %s has reached SQS's 12-hour visibility limit; SQS will deliver it again, "
                "and the ledger will recognise it",
                message_id,
            )
        return taken

    def _extend(self, handles: Sequence[Handle]) -> None:
        began = time.monotonic()
        try:
            failed = self._queue.extend(handles, self.visibility_seconds)
        except EtlError as error:
            messages = counted(len(handles), "message")
            log.warning("cannot extend the visibility of %s: %s", messages, error)
            failed = [FailedEntry(handle, "", final=False) for handle in handles]
        now = time.monotonic()
        with self._lock:
            self.note_call(now - began)
            self.extended += len(handles) - len(failed)
            # The others were deleted, or received again, while the call was in progress.
            failed = [entry for entry in failed if self._schedule.is_held(entry.handle)]
            self._schedule.has_failed((entry.handle for entry in failed if not entry.final), now)
            refused = [entry.handle for entry in failed if entry.final]
            self._schedule.let_go(refused)
            self._check.refused(len(refused))
        if codes := ", ".join(sorted({entry.code for entry in failed if entry.code})):
            self._complain(len(failed), codes, now)

    def _complain(self, messages: int, codes: str, now: float) -> None:
        """Log that SQS did not extend messages, but not at every call."""
        with self._lock:
            self._not_extended += messages
            if now < self._may_complain_at:
                return
            self._may_complain_at = now + COMPLAINT_SECONDS
            messages, self._not_extended = self._not_extended, 0
        log.warning("SQS did not extend %d of the held messages: %s", messages, codes)
