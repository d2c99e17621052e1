"""Ids of the events of a split message."""

from __future__ import annotations

from etl.sqs.message import Message

# Between the id of the message and the number of the event. SQS uses it in no id.
_MARK = "#"


def event_id(message: Message, number: int) -> str:
    """The id of an event in ledger and quarantine.

    :param number: its place in the message, from 1
    """
    return f"{message.message_id}{_MARK}{number}"


def is_event(message: Message) -> bool:
    """Whether this is an event of a split message, whose text is all of the body."""
    return _MARK in message.message_id


def message_id_of(event: Message) -> str:
    """The id of the message that an event was taken from."""
    return event.message_id.partition(_MARK)[0]
