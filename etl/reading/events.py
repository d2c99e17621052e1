"""The events of some messages, and which message each of them is from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

from etl.frames import Reject
from etl.sqs.message import Message


@dataclass
class Bodies:
    """Messages whose bodies are here, and those whose bodies cannot be had, with the check."""

    messages: list[Message] = field(default_factory=list)
    faults: list[tuple[Message, str]] = field(default_factory=list)
    bytes: int = 0

    def add(self, message: Message) -> None:
        """Add a message with its body."""
        self.messages.append(message)
        self.bytes += message.body_bytes


@dataclass
class Events:
    """The events of some messages: the messages themselves, unless they are split.

    An event of a split message is a message of its own: with an id such as ``<message id>#2``, its
    own text as the body, and the time of the message.
    """

    messages: list[Message]
    readable: list[Message]
    # Messages that cannot be split, or whose bodies cannot be had, whole; and why.
    unsplit: list[Message] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    message_ids: dict[str, str] = field(default_factory=dict)  # of split messages, by event id
    empty: list[str] = field(default_factory=list)  # ids of messages without an event
    characters: int = 0  # of the events of split messages
    are_split: bool = False

    def add_event(self, event: Message, of_message: str | None = None) -> None:
        """Add an event to those of split messages.

        :param of_message: the id of the message that it was taken from; None: it came alone
        """
        self.readable.append(event)
        self.characters += len(event.body)
        if of_message is not None:
            self.message_ids[event.message_id] = of_message

    def add_reject(self, message: Message, check: str) -> None:
        """Add a message whose events cannot be taken out, whole."""
        self.rejects.append((message.message_id, "message", check))
        self.unsplit.append(message)

    @property
    def readable_messages(self) -> int:
        """How many messages the events were taken from."""
        if not self.message_ids:
            return len(self.readable)
        return len(self.messages_of(event.message_id for event in self.readable))

    @cached_property
    def by_id(self) -> dict[str, Message]:
        """What becomes a row or an entry of the quarantine, each with its id in the frames."""
        return {event.message_id: event for event in (*self.readable, *self.unsplit)}

    @cached_property
    def claims(self) -> list[str]:
        """The ids for the ledger.

        Those of split messages are among them: under another configuration such a message, which
        SQS may deliver again, would have other events, or be one itself.
        """
        messages = dict.fromkeys(self.message_ids.values())
        return [*self.by_id, *messages, *self.empty]

    def of_new_messages(self, fresh: set[str]) -> set[str]:
        """Those of the claimed ids that are new, and so are their messages."""
        if not self.message_ids:
            return fresh
        return {i for i in fresh if self.message_ids.get(i, i) in fresh}

    def messages_of(self, event_ids: Iterable[str]) -> set[str]:
        """The ids of the messages of some events."""
        return {self.message_ids.get(event_id, event_id) for event_id in event_ids}

    def without(self, message_ids: Collection[str]) -> Events:
        """The same without some messages and their events."""
        kept = {m.message_id for m in self.messages}.difference(message_ids)
        return replace(
            self,
            messages=[m for m in self.messages if m.message_id in kept],
            readable=[
                event
                for event in self.readable
                if self.message_ids.get(event.message_id, event.message_id) in kept
            ],
            unsplit=[m for m in self.unsplit if m.message_id in kept],
            rejects=[reject for reject in self.rejects if reject[0] in kept],
            message_ids={i: m for i, m in self.message_ids.items() if m in kept},
            empty=[message_id for message_id in self.empty if message_id in kept],
        )
