"""The messages gathered for the next batch: bookkeeping without a thread, a lock or a clock."""

from __future__ import annotations

from collections.abc import Iterable

from etl.sqs.message import Message


class Buffer:
    """Messages with distinct ids, bounded in rows and in bytes of their bodies.

    A receive reserves room before it asks SQS, because the messages that it brings must fit. The
    bound in rows is exact, unless it is lowered below what is here already. The size of a message
    is known only when it has arrived, so receives that were in progress can exceed the bound in
    bytes.
    """

    def __init__(self, max_rows: int, max_bytes: int, expected: int = 0) -> None:
        """Gather the first batch.

        :param expected: messages that are known to be waiting; 0 if that is not known
        """
        self.max_rows = max_rows  # may be changed at any time
        self._max_bytes = max_bytes
        self._expected = expected
        self._messages: dict[str, Message] = {}
        self._bytes = 0
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def reserved(self) -> int:
        """Rows that receives in progress may still bring."""
        return self._reserved

    @property
    def is_full(self) -> bool:
        """Whether the batch has reached its rows or its bytes."""
        return len(self._messages) >= self.max_rows or self._bytes >= self._max_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the batch is full, or is the first and has every message that was expected."""
        return self.is_full or 0 < self._expected <= len(self._messages)

    @property
    def room(self) -> int:
        """Rows that a further receive may bring; 0 when there is no room for now."""
        if self._bytes >= self._max_bytes:
            return 0
        return max(self.max_rows - len(self._messages) - self._reserved, 0)

    def reserve(self, rows: int) -> None:
        """Keep room for a receive that may bring *rows* messages, at most :attr:`room`."""
        self._reserved += rows

    def add(self, messages: Iterable[Message], reserved: int) -> None:
        """Take in what a receive brought, in place of the rows it had reserved.

        A message that is here already came again: it stays one message, with the number of its
        deliveries and its newest receipt handle.
        """
        self._reserved -= reserved
        for message in messages:
            earlier = self._messages.get(message.message_id)
            if earlier is not None:
                message.deliveries += earlier.deliveries
                self._bytes -= earlier.body_bytes
            self._messages[message.message_id] = message
            self._bytes += message.body_bytes

    def empty(self) -> list[Message]:
        """Hand over all messages, in the order in which they first came."""
        messages = list(self._messages.values())
        self._messages = {}
        self._bytes = 0
        self._expected = 0
        return messages
