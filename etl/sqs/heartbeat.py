"""Keeps the messages that the job holds hidden from other consumers, for as long as it holds them.

A message is extended when half of its visibility timeout has passed. Calls take ten messages each,
and several calls run at a time: one after the other they would fall behind when SQS throttles or
answers late. The heartbeat knows the newest receipt handle of each message, because deleting with
an older one can succeed and delete nothing. SQS lets nobody hold a message for more than twelve
hours; after that it comes again, and the ledger recognises it.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.errors import EtlError
from etl.sqs.message import CALL_ENTRIES, Handle, Message
from etl.sqs.queue import Queue

log = logging.getLogger(__name__)

# A failed extension is tried again after this share of the visibility timeout. That leaves three
# more tries before the message shows again.
RETRY_SHARE = 1 / 8

# SQS counts these from the receive, however often the visibility is extended.
MAX_VISIBILITY_SECONDS = 12 * 3600
HEARTBEAT_THREADS = 4  # extensions in progress at once; there is rarely anything to extend


@dataclass(slots=True)
class _Held:
    receipt_handle: str
    received: float  # monotonic seconds
    due_at: float  # monotonic seconds at which to extend


class Heartbeat:
    """The messages held now, and the threads that extend their visibility."""

    def __init__(self, queue: Queue, visibility_seconds: int) -> None:
        self._queue = queue
        self._visibility_seconds = visibility_seconds
        self._held: dict[str, _Held] = {}
        # A heap. An entry is out of date, and skipped, when its time is not the one in _held.
        self._schedule: list[tuple[float, str]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat, name=f"heartbeat-{i}", daemon=True)
            for i in range(HEARTBEAT_THREADS)
        ]
        self.extended = 0

    def start(self) -> None:
        """Begin to extend."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads. Messages that are still held are no longer extended."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def hold(self, messages: Iterable[Message]) -> None:
        """Hold messages just received. A newer receipt handle replaces an older one."""
        now = time.monotonic()
        due_at = now + self._visibility_seconds / 2
        with self._lock:
            for message in messages:
                self._put(message.handle, received=now, due_at=due_at)

    def handles(self, messages: Iterable[Message | Handle]) -> list[Handle]:
        """The newest receipt handle of each message, in the given order."""
        with self._lock:
            return [self._newest(message) for message in messages]

    def let_go(self, handles: Iterable[Handle]) -> None:
        """Stop extending these messages, unless they came again under another handle."""
        with self._lock:
            for handle in handles:
                if self._is_held_by(handle):
                    del self._held[handle.message_id]

    def __len__(self) -> int:
        return len(self._held)

    def _put(self, handle: Handle, *, received: float, due_at: float) -> None:
        self._held[handle.message_id] = _Held(handle.receipt_handle, received, due_at)
        heapq.heappush(self._schedule, (due_at, handle.message_id))

    def _newest(self, message: Message | Handle) -> Handle:
        held = self._held.get(message.message_id)
        return Handle(message.message_id, (held or message).receipt_handle)

    def _is_held_by(self, handle: Handle) -> bool:
        held = self._held.get(handle.message_id)
        return held is not None and held.receipt_handle == handle.receipt_handle

    def _beat(self) -> None:
        while not self._stop.is_set():
            messages = self._take_due()
            if messages:
                self._extend(messages)
            else:
                self._stop.wait(min(0.5, self._visibility_seconds / 8))

    def _take_due(self) -> list[tuple[Handle, float]]:
        """Take up to ten messages that are due, each with the time at which it was received."""
        now = time.monotonic()
        taken: list[tuple[Handle, float]] = []
        with self._lock:
            while self._schedule and self._schedule[0][0] <= now and len(taken) < CALL_ENTRIES:
                due_at, message_id = heapq.heappop(self._schedule)
                held = self._held.get(message_id)
                if held is None or held.due_at != due_at:
                    continue
                if now - held.received + self._visibility_seconds > MAX_VISIBILITY_SECONDS:
                    # SQS would refuse every extension from here on; say so once.
                    del self._held[message_id]
                    log.warning(
                        "message %s has reached SQS's 12-hour visibility limit; SQS will deliver "
                        "it again, and the ledger will recognise it",
                        message_id,
                    )
                    continue
                taken.append((Handle(message_id, held.receipt_handle), held.received))
        return taken

    def _extend(self, messages: Sequence[tuple[Handle, float]]) -> None:
        handles = [handle for handle, _ in messages]
        retry, lost = self._call(handles)
        now = time.monotonic()
        with self._lock:
            self.extended += len(messages) - len(retry) - len(lost)
            for handle, received in messages:
                if not self._is_held_by(handle):
                    continue  # acknowledged or received again in the meantime
                if handle.message_id in lost:
                    del self._held[handle.message_id]
                    continue
                share = RETRY_SHARE if handle.message_id in retry else 1 / 2
                self._put(handle, received=received, due_at=now + self._visibility_seconds * share)

    def _call(self, handles: Sequence[Handle]) -> tuple[set[str], set[str]]:
        """Extend; return the ids of messages to try again, and of those that are lost to us."""
        try:
            failed = self._queue.extend(handles, self._visibility_seconds)
        except EtlError as error:
            log.warning("cannot extend the visibility of %d messages: %s", len(handles), error)
            return {handle.message_id for handle in handles}, set()
        if failed:
            codes = ", ".join(sorted({entry.code for entry in failed}))
            log.warning(
                "SQS did not extend %d of %d messages: %s", len(failed), len(handles), codes
            )
        retry = {entry.handle.message_id for entry in failed if not entry.final}
        lost = {entry.handle.message_id for entry in failed if entry.final}
        return retry, lost
