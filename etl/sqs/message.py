"""One SQS message as received, and the handle that acknowledges or releases it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from etl.sqs.attributes import (
    Attributes,
    Wanted,
    are_damaged,
    read_attributes,
    with_attributes,
)

Item = TypeVar("Item")

CALL_ENTRIES = 10  # SQS takes at most ten entries in a batch call, and returns at most ten messages

MAX_SENT_MS = 253_402_300_799_999  # the end of the year 9999, the last that a date can hold
MAX_RECEIVES = 2**31 - 1
MAX_DIGITS = len(str(MAX_SENT_MS))  # Python refuses to read some thousands of them


@dataclass(slots=True, eq=False)
class Message:
    """One SQS message as received. Its repr shows only the id."""

    message_id: str
    body: str = field(repr=False)
    receipt_handle: str = field(repr=False)
    sent_ms: int | None = field(repr=False)  # SentTimestamp: milliseconds since 1970 UTC
    md5: str | None = field(repr=False)  # MD5OfBody, which botocore does not check
    deliveries: int = field(default=1, repr=False)  # times it arrived while we held it
    # ApproximateReceiveCount, this receive included; 0 if SQS did not say.
    receive_count: int = field(default=0, repr=False)
    group: str | None = field(default=None, repr=False)  # MessageGroupId, of a FIFO queue
    attributes: Attributes | None = field(default=None, repr=False)  # those that the job reads
    has_damaged_attributes: bool = field(default=False, repr=False)
    _is_damaged: bool | None = field(default=None, init=False, repr=False)

    @property
    def is_damaged(self) -> bool:
        """Whether it is not as it was sent, as far as the MD5 of body and of attributes say.

        A checksum in another form than SQS's is damage too. SQS takes no message without a body.
        """
        if self._is_damaged is None:
            if self.md5 is None:
                is_damaged = not self.body
            else:
                right = body_md5(self.body)
                is_damaged = self.md5 != right and str(self.md5).strip().lower() != right
            self._is_damaged = is_damaged or self.has_damaged_attributes
        return self._is_damaged

    @property
    def body_bytes(self) -> int:
        """Length of the body in bytes of UTF-8."""
        if self.body.isascii():
            return len(self.body)
        return len(self.body.encode("utf-8", "surrogatepass"))

    @property
    def to_seal(self) -> str:
        """What the quarantine keeps of the message, sealed."""
        return with_attributes(self.body, self.attributes)

    @property
    def handle(self) -> Handle:
        """What acknowledges or releases the message."""
        return Handle(self.message_id, self.receipt_handle)


class Handle(NamedTuple):
    """The id and receipt handle of a delivered message. Its repr shows only the id."""

    message_id: str
    receipt_handle: str

    def __repr__(self) -> str:
        return f"Handle(message_id={self.message_id!r})"


def read_message(entry: Any, wanted: Wanted | None = None) -> Message:
    """Make a message of an entry of SQS's answer, with the wanted attributes."""
    attributes = entry.get("Attributes") or {}
    body = entry.get("Body")
    return Message(
        message_id=entry["MessageId"],
        body=body if isinstance(body, str) else "",
        receipt_handle=entry["ReceiptHandle"],
        sent_ms=_number(attributes.get("SentTimestamp"), MAX_SENT_MS),
        md5=entry.get("MD5OfBody"),
        receive_count=_number(attributes.get("ApproximateReceiveCount"), MAX_RECEIVES) or 0,
        group=attributes.get("MessageGroupId"),
        attributes=read_attributes(entry, wanted) if wanted else None,
        has_damaged_attributes=bool(wanted and wanted.of_sender) and are_damaged(entry),
    )


def _number(text: Any, maximum: int) -> int | None:
    """Read an attribute; what is not a number in range counts as absent."""
    digits = text if isinstance(text, str) else str(text)
    if not (len(digits) <= MAX_DIGITS and digits.isdecimal() and digits.isascii()):
        return None
    number = int(digits)
    return number if number <= maximum else None


def body_md5(body: str) -> str:
    """MD5 of a message body in hex, as SQS computes it: a checksum, not a safeguard."""
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def in_tens(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yield the items ten at a time, as batch calls take them."""
    for start in range(0, len(items), CALL_ENTRIES):
        yield items[start : start + CALL_ENTRIES]
