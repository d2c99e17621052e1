"""Keeps the messages that the job holds hidden from other consumers, for as long as it holds them.

A message is extended when half of its visibility timeout has passed, in tens, some calls at a time:
where SQS throttles or answers late, one call after the other would fall behind. The newest receipt
handle of each message id is kept, because deleting with an older one can succeed and delete
nothing. SQS lets nobody hold a message for more than twelve hours; after that it comes again, and
the ledger tells.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from etl.errors import EtlError
from etl.sqs.client import THREADS_TO_EXTEND
from etl.sqs.queue import (
    LONGEST_VISIBILITY_SECONDS,
    TENS,
    Handle,
    Message,
    Queue,
)

log = logging.getLogger(__name__)

# A failed extension is tried again after this share of the visibility timeout: three more tries
# before the message shows again.
RETRY_SHARE = 1 / 8


@dataclass(slots=True)
class _Held:
    receipt_handle: str
    received: float  # monotonic seconds
    due: float  # monotonic seconds: when to extend


class Heartbeat:
    """The messages held now, and the threads that keep them."""

    def __init__(self, queue: Queue, visibility_seconds: int) -> None:
        self._queue = queue
        self._visibility_seconds = visibility_seconds
        self._held: dict[str, _Held] = {}
        # A heap. An entry whose due time is not the one in _held is out of date and skipped.
        self._due: list[tuple[float, str]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat, name=f"heartbeat-{i}", daemon=True)
            for i in range(THREADS_TO_EXTEND)
        ]
        self.extended = 0

    def start(self) -> None:
        """Begin to extend."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; what is still held is no longer extended."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def hold(self, messages: Iterable[Message]) -> None:
        """Take up messages just received; a newer receipt handle takes the older one's place."""
        now = time.monotonic()
        with self._lock:
            for message in messages:
                self._put(
                    message.message_id,
                    message.receipt_handle,
                    now,
                    now + self._visibility_seconds / 2,
                )

    def handles(self, messages: Iterable[Message | Handle]) -> list[Handle]:
        """Newest receipt handle of each message, in the order given."""
        with self._lock:
            return [
                Handle(m.message_id, held.receipt_handle if held else m.receipt_handle)
                for m in messages
                for held in (self._held.get(m.message_id),)
            ]

    def let_go(self, handles: Iterable[Handle]) -> None:
        """Stop extending these messages, unless they came again under another handle."""
        with self._lock:
            for handle in handles:
                held = self._held.get(handle.message_id)
                if held is not None and held.receipt_handle == handle.receipt_handle:
                    del self._held[handle.message_id]

    def __len__(self) -> int:
        return len(self._held)

    def _put(self, message_id: str, receipt_handle: str, received: float, due: float) -> None:
        self._held[message_id] = _Held(receipt_handle, received, due)
        heapq.heappush(self._due, (due, message_id))

    def _beat(self) -> None:
        while not self._stop.is_set():
            ten = self._next_ten()
            if ten:
                self._extend(ten)
            else:
                self._stop.wait(min(0.5, self._visibility_seconds / 8))

    def _next_ten(self) -> list[tuple[Handle, float]]:
        """Up to ten messages that are due, with the time they were received."""
        now = time.monotonic()
        ten: list[tuple[Handle, float]] = []
        with self._lock:
            while self._due and self._due[0][0] <= now and len(ten) < TENS:
                due, message_id = heapq.heappop(self._due)
                held = self._held.get(message_id)
                if held is None or held.due != due:
                    continue
                if now - held.received + self._visibility_seconds > LONGEST_VISIBILITY_SECONDS:
                    # SQS would refuse, and a refusal a beat helps nobody.
                    del self._held[message_id]
                    log.warning("message %s cannot be held beyond SQS' 12 hours", message_id)
                    continue
                ten.append((Handle(message_id, held.receipt_handle), held.received))
        return ten

    def _extend(self, ten: Sequence[tuple[Handle, float]]) -> None:
        handles = [handle for handle, _ in ten]
        try:
            refused = self._queue.extend(handles, self._visibility_seconds)
        except EtlError as error:
            log.warning("cannot extend the visibility of %d messages: %s", len(ten), error)
            again, lost = {handle.message_id for handle in handles}, set()
        else:
            again = {r.handle.message_id for r in refused if not r.final}
            lost = {r.handle.message_id for r in refused if r.final}
            if refused:
                codes = ", ".join(sorted({r.code for r in refused}))
                log.warning(
                    "SQS did not extend %d of %d messages: %s", len(refused), len(ten), codes
                )
        now = time.monotonic()
        with self._lock:
            self.extended += len(ten) - len(again) - len(lost)
            for handle, received in ten:
                held = self._held.get(handle.message_id)
                if held is None or held.receipt_handle != handle.receipt_handle:
                    continue  # acknowledged or received anew in the meantime
                if handle.message_id in lost:
                    del self._held[handle.message_id]
                    continue
                share = RETRY_SHARE if handle.message_id in again else 1 / 2
                due = now + self._visibility_seconds * share
                self._put(handle.message_id, handle.receipt_handle, received, due)
