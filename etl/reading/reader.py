"""Takes the events out of messages, each with a text and an id of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Protocol

from etl.config import Settings
from etl.reading.event_ids import event_id, is_event
from etl.reading.events import Bodies, Events
from etl.reading.layers import CHECKS as LAYER_CHECKS
from etl.reading.layers import Unwrap, unwrapping
from etl.reading.pointers import CHECKS as POINTER_CHECKS
from etl.reading.pointers import is_pointer
from etl.reading.splitting import CHECKS as SPLIT_CHECKS
from etl.reading.splitting import splitting
from etl.reading.unreadable import Unreadable
from etl.sqs.message import Message

CHECKS = (*LAYER_CHECKS, *SPLIT_CHECKS, *POINTER_CHECKS)


class BodySource(Protocol):
    """Puts the bodies that are elsewhere into messages."""

    def bodies(self, messages: Sequence[Message], max_bytes: float, /) -> Iterator[Bodies]:
        """Yield the messages with their bodies, as many at a time as may be in memory."""


class EventReader:
    """How the events are taken out of messages; made of the settings once for many of them."""

    def __init__(self, settings: Settings, payloads: BodySource | None = None) -> None:
        """Prepare to read.

        :param payloads: where bodies are that are not in the queue; None: such a message is refused
        """
        self._payloads = payloads
        self._unwrap = unwrapping(settings.queue.layers, settings.event.max_bytes)
        self._split = splitting(settings)

    @property
    def unwrap(self) -> Callable[[Message], str] | None:
        """The function that gives the text of an event; None if that is the body of its message."""
        return None if self._unwrap is None else partial(_unwrapped, self._unwrap)

    def events(self, messages: Sequence[Message]) -> Events:
        """Take out the events of all messages."""
        return next(self.parts(messages, math.inf, math.inf), Events([], []))

    def parts(
        self, messages: Sequence[Message], max_events: float, max_bytes: float
    ) -> Iterator[Events]:
        """Take out the events, as many at a time as may be in memory.

        A part ends with the message that brings it to the maximum of events, or of bytes. Without a
        split, each message is one event and is left as it is, and all of them are one part, unless
        bodies are put into them. The messages of a part need not be in order.
        """
        if self._payloads is None:
            yield from self._parts(messages, max_events, max_bytes)
            return
        for bodies in self._payloads.bodies(messages, max_bytes):
            parts = self._parts(bodies.messages, max_events, max_bytes)
            first = next(parts, Events([], [], are_split=self._split is not None))
            for message, check in bodies.faults:
                first.messages.append(message)
                first.add_reject(message, check)
            yield first
            yield from parts

    def _parts(
        self, messages: Sequence[Message], max_events: float, max_bytes: float
    ) -> Iterator[Events]:
        if self._split is None:
            yield Events(list(messages), list(messages))
            return
        # In a replay, an event may be there already, with an entry of its own.
        known = {message.message_id for message in messages if is_event(message)}
        part = Events([], [], are_split=True)
        for message in messages:
            part.messages.append(message)
            if message.message_id in known:
                part.add_event(message)
            else:
                self._add_events(part, message, known)
            if len(part.readable) >= max_events or part.characters >= max_bytes:
                yield part
                part = Events([], [], are_split=True)
        if part.messages:
            yield part

    def _add_events(self, part: Events, message: Message, known: Collection[str]) -> None:
        try:
            texts = self.texts(message)
        except Unreadable as finding:
            part.add_reject(message, finding.check)
            return
        if not texts:
            part.empty.append(message.message_id)
        for number, text in enumerate(texts, 1):
            event = _event(message, number, text)
            if event.message_id not in known:
                part.add_event(event, message.message_id)

    def texts(self, message: Message) -> list[str]:
        """The texts of the events of a message.

        :raises Unreadable: the message is damaged, or is not what it should be
        """
        check_whole(message)
        check_no_pointer(message)
        text = message.body if self._unwrap is None else self._unwrap(message.body)
        return [text] if self._split is None else self._split(text)


def check_whole(message: Message) -> None:
    """Check that a message came as it was sent.

    :raises Unreadable: it is empty or damaged
    """
    if not message.body:
        raise Unreadable("empty body")
    if message.has_damaged_attributes:
        raise Unreadable("MD5 of attributes")
    if message.is_damaged:
        raise Unreadable("MD5 of body")


def check_no_pointer(message: Message) -> None:
    """Check that a message is no pointer to a body elsewhere, so that its check has its name.

    :raises Unreadable: it is one
    """
    if is_pointer(message.body):
        raise Unreadable("S3 pointer")


def _unwrapped(unwrap: Unwrap, message: Message) -> str:
    # In the quarantine, an event of a split message has its own text as the body.
    if is_event(message):
        return message.body
    check_no_pointer(message)
    return unwrap(message.body)


def _event(message: Message, number: int, text: str) -> Message:
    return Message(
        message_id=event_id(message, number),
        body=text,
        receipt_handle="",
        sent_ms=message.sent_ms,
        md5=None,
        attributes=message.attributes,
    )
