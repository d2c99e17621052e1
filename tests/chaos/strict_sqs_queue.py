"""The strict SQS's account and queues: a limit in flight, redelivery, new ids, opposite orders.

With the rate ``opposite_chunk`` each message is delivered three times, to three of four consumers,
which the server recognizes by the last digit of their access key. All of them go through the queue
in chunks of that number of messages, and every other consumer goes through each chunk backwards. So
they hold the same messages at the same time, in opposite orders.
"""

from __future__ import annotations

import uuid
from collections import deque
from typing import Any

from etl.embedded.sqs_messages import StoredMessage
from etl.embedded.sqs_model import Redelivery, SqsAccount, StoredQueue
from etl.embedded.sqs_refusals import Refusal
from tests.chaos.strict_sqs_faults import Faults

CONSUMERS = 4


class StrictRedelivery(Redelivery):
    """Redelivers deleted messages at the faults' rate, and counts them."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def chooses(self) -> bool:
        """Whether to deliver the message that was just deleted once more."""
        return self._faults.fires_for_entry("redelivered", -1)


class StrictAccount(SqsAccount):
    """An account whose queues know the faults and the consumer of the current request."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(StrictRedelivery(faults), StrictQueue)
        self.faults = faults
        self.consumer = 0
        self.frozen: set[int] = set()  # consumers that receive nothing
        self.received = [0] * CONSUMERS  # messages, by consumer

    def last_receive_seconds(self, consumer: int, now_ms: int) -> float | None:
        """How long ago the consumer received a message for the last time that the queue allows.

        Only messages that it still holds count; None if there is none.
        """
        queues = [self.queue(name) for name in self.names()]
        moments = [
            moment
            for queue in queues
            if isinstance(queue, StrictQueue)
            for moment in queue.last_receives(consumer, now_ms)
        ]
        return (now_ms - max(moments)) / 1000 if moments else None


class StrictQueue(StoredQueue):
    """A queue with a limit in flight, double deliveries, new or equal ids, and opposite orders."""

    _account: StrictAccount

    def send(self, *arguments: Any, **more: Any) -> StoredMessage:
        """Add a message, with the id that its place in the queue has in every queue if asked to."""
        message = super().send(*arguments, **more)
        if self._account.faults.rates.same_ids:
            message.id = str(uuid.uuid5(uuid.NAMESPACE_OID, str(self._sent)))
            self._sent += 1
        return message

    def purge(self) -> None:
        """Forget every message, in flight or not."""
        super().purge()
        self._sequences: list[deque[StoredMessage]] = []
        self._sent = 0  # while ids are to be the same
        # Messages that were received as often as they may be: by whom, and when.
        self._last_receives: dict[int, tuple[int, int]] = {}

    def last_receives(self, consumer: int, now_ms: int) -> list[int]:
        """When the consumer received those messages that it still holds and nobody may again."""
        self.advance(now_ms)
        held = self._last_receives.items()
        self._last_receives = {n: receive for n, receive in held if n in self._in_flight}
        return [moment for who, moment in self._last_receives.values() if who == consumer]

    def _note_receives(self, messages: list[StoredMessage], now_ms: int) -> None:
        self._account.received[self._account.consumer] += len(messages)
        policy = self._redrive_policy
        for message in messages:
            if policy is not None and message.receive_count >= policy.max_receives:
                self._last_receives[message.number] = (self._account.consumer, now_ms)
                self._account.faults.fired["last_receive"] += 1

    def check_in_flight(self, now_ms: int) -> None:
        """Refuse a receive beyond the limit, which AWS does not do to a long poll: it waits.

        :raises Refusal: OverLimit
        """
        self.advance(now_ms)
        if len(self._in_flight) >= self._account.faults.rates.in_flight:
            self._account.faults.fired["over_limit"] += 1
            raise Refusal("OverLimit", "Too many messages in flight.")

    def receive(
        self, limit: int, visibility_seconds: int | None, now_ms: int
    ) -> list[StoredMessage]:
        """Deliver up to *limit* messages."""
        self.advance(now_ms)
        faults = self._account.faults
        if faults.rates.opposite_chunk and (sequence := self._sequence()):
            return self._deliver_again(sequence, limit, now_ms)
        messages = super().receive(limit, visibility_seconds, now_ms)
        self._note_receives(messages, now_ms)
        for message in messages:
            # A FIFO queue does not do that.
            if not self.is_fifo and faults.fires_for_entry("twice", -1):
                self._in_flight.discard(message.number)
                self._visible.show(message)
        return messages

    def _sequence(self) -> deque[StoredMessage]:
        """The messages left for this consumer; the first receive fixes the order of all."""
        if not self._sequences:
            self._sequences = [self._sequence_of(consumer) for consumer in range(CONSUMERS)]
        return self._sequences[self._account.consumer]

    def _sequence_of(self, consumer: int) -> deque[StoredMessage]:
        messages = list(self._messages.values())
        size = self._account.faults.rates.opposite_chunk
        sequence: deque[StoredMessage] = deque()
        for start in range(0, len(messages), size):
            chunk = messages[start : start + size]
            chunk = [message for message in chunk if message.number % CONSUMERS != consumer]
            sequence.extend(reversed(chunk) if consumer % 2 else chunk)
        return sequence

    def _deliver_again(
        self, sequence: deque[StoredMessage], limit: int, now_ms: int
    ) -> list[StoredMessage]:
        messages = [sequence.popleft() for _ in range(min(limit, len(sequence)))]
        for message in messages:
            if message.number not in self._messages:
                self._admit(message)  # it was deleted, but SQS may still deliver it
            self._visible.discard(message)
            self._hand_out(message, int(self.attributes["VisibilityTimeout"]), now_ms)
        self._account.faults.fired["opposite_order"] += len(messages)
        return messages

    def _moves_to_dead_letters(self, message: StoredMessage) -> bool:
        moves = super()._moves_to_dead_letters(message)
        if moves and self._account.faults.rates.dead_letter_new_ids:
            # AWS keeps the id here and gives a new one at the redrive; doing both is harder.
            message.id = str(uuid.uuid4())
            self._account.faults.fired["dead_letter"] += 1
        return moves

    def redrive(self, arn: str, now_ms: int) -> int:
        """Send every visible message to the queue *arn* as a new one; returns how many."""
        target = self._account.find(arn)
        if target is None:
            raise Refusal("ResourceNotFoundException", "The destination does not exist.")
        messages = [self._messages[number] for number in self._visible]
        for message in messages:
            self._forget(message)
            target.send(message.body, message.attributes, None, now_ms)
        self._account.faults.fired["redriven"] += len(messages)
        return len(messages)
