"""A look at a few messages of the queue, as shapes: nothing in it is a value of a message.

Each look is one of the receives after which SQS moves a message to the dead-letter queue, whoever
received it. So a look is refused where few receives are allowed, and ends where few are left.
Needs neither a database nor keys, for the day on which these are what does not work.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from etl.config import Settings
from etl.errors import ConfigurationError, LastReceives, LeftMessages, UsageError
from etl.operations.look_tables import field_names, table_finder, values_at_paths
from etl.operations.shapes import Members, Shape, read_json, shape_of, shape_of_text
from etl.reading.reader import EventReader
from etl.reading.unreadable import Unreadable
from etl.sqs.acknowledge import release, warn_of_last_receives
from etl.sqs.call_queue import AtOnce, CallQueue
from etl.sqs.client import open_queue
from etl.sqs.first_answer import first_answer, until_stopped
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Stop
from etl.sqs.message import CALL_ENTRIES, Message
from etl.sqs.queue import Queue, QueueState
from etl.text import counted

# A look uses one, and after it a message has two left: one for a run that fails, and one for the
# run that loads it. Below this, the second look could be the one that does harm.
MIN_MAX_RECEIVE_COUNT = 4
RECEIVES_TO_LEAVE = 2

# A long poll of this length asks all servers of SQS.
WAIT_SECONDS = 1
MAX_EMPTY = 2  # answers before the first message

OBJECT = "JSON objects"
NO_OBJECT = "other JSON"
NO_JSON = "not JSON"
REFUSED = {"SNS notification": "no SNS notifications", "S3 pointer": "pointers to S3"}  # by check
NO_EVENT = "without an event"
DAMAGED = "damaged"


@dataclass
class FieldShapes:
    """What a field looks like, or all fields whose names look alike."""

    events: int = 0  # that have it
    names: set[str] = field(default_factory=set, repr=False)  # never shown; their number is
    shapes: Counter[Shape] = field(default_factory=Counter)


@dataclass
class Look:
    """What was seen, and what it has cost."""

    state: QueueState  # before the look
    messages: int = 0
    # Of the largest body, rounded up to a power of two: exact sizes would tell "yes" from "no".
    max_kib: int = 0
    # By what they are; of a message that is split, each event by what it is.
    bodies: Counter[str] = field(default_factory=Counter)
    body_shapes: Counter[Shape] = field(default_factory=Counter)  # of those without fields
    tables: Counter[str | None] = field(default_factory=Counter)  # events, if there are several
    fields: dict[str, FieldShapes] = field(default_factory=dict)  # by configured name
    other_fields: dict[Shape, FieldShapes] = field(default_factory=dict)  # by the name's shape
    receive_count: int | None = None  # of the messages, at the most; None if SQS did not say
    not_released: int = 0
    ended_by: str | None = None  # a signal

    @property
    def events(self) -> int:
        """Events with fields."""
        return self.bodies[OBJECT]

    def check_cost(self) -> None:
        """Raise what a person must know before the next look.

        :raises LeftMessages: messages were not given back
        :raises LastReceives: the next look would leave them too few receives
        """
        if self.not_released:
            raise LeftMessages(
                f"not given back: {self.not_released} of {counted(self.messages, 'message')}; SQS "
                f"does so after the visibility timeout of {self.state.visibility_seconds} s"
            )
        maximum = self.state.max_receive_count
        if _has_few_receives(self.receive_count, maximum):
            raise LastReceives(
                "SQS moves a message to the dead-letter queue after "
                f"{counted(maximum or 0, 'receive')} (maxReceiveCount), and this look was receive "
                f"{self.receive_count}; load the messages before you look again"
            )


def open_look(
    settings: Settings, environment: Mapping[str, str], stop: Stop
) -> tuple[Queue, QueueState]:
    """Open the queue and ask for its numbers. Receives nothing.

    :raises ConfigurationError: the queue cannot be used, or does not allow enough receives
    :raises QueueUnavailable: SQS does not answer
    """
    # Short polls, so that a call whose answer is lost does not hold up a person.
    one_at_a_time = {"wait_seconds": WAIT_SECONDS, "max_receivers": 1}
    queue = until_stopped(
        lambda: open_queue(settings.queue.model_copy(update=one_at_a_time), environment),
        stop,
        "the service that gives the AWS credentials",
    )
    state = first_answer(queue.state, settings.queue.retry_seconds, stop)
    maximum = state.max_receive_count
    if maximum is not None and maximum < MIN_MAX_RECEIVE_COUNT:
        raise UsageError(
            f"the queue's maxReceiveCount is {maximum}, and each look is a receive: SQS would soon "
            "move good messages to the dead-letter queue; nothing was received; set it to 5 or "
            "more, or see the failed checks of a run: etl history"
        )
    if state.visibility_seconds < 1:
        raise ConfigurationError(
            "the queue's visibility timeout is 0 s, so every message would come back at once"
        )
    return queue, state


def peek(
    queue: Queue, state: QueueState, settings: Settings, max_messages: int, stop: Stop
) -> Look:
    """Look at a few messages as :func:`look_at` does, and describe them."""
    look, messages = look_at(queue, state, max_messages, stop)
    return describe(look, messages, settings)


def look_at(
    queue: Queue, state: QueueState, max_messages: int, stop: Stop
) -> tuple[Look, list[Message]]:
    """Receive a few messages, and give all of them back at once.

    :param state: the queue's numbers before it
    :param stop: ends the look early; what was received is given back all the same
    :returns: what it has cost, and the messages, which are no longer held
    :raises QueueRefused: SQS does not let this login receive
    :raises QueueUnavailable: SQS does not answer for now
    """
    held: dict[str, Message] = {}
    look = Look(state)
    try:
        _receive(queue, state, held, max_messages, stop)
    finally:
        messages = list(held.values())
        heartbeat = Heartbeat(queue, state.visibility_seconds)
        # One call after the other: the groups of a FIFO queue stay in order.
        look.not_released = release(queue, heartbeat, messages, AtOnce(CallQueue(1)))
        warn_of_last_receives(messages, state.max_receive_count)
    look.ended_by = stop.reason
    look.messages, look.receive_count = len(messages), _receive_count(messages)
    return look, messages


def _receive(
    queue: Queue, state: QueueState, held: dict[str, Message], max_messages: int, stop: Stop
) -> None:
    """Fill *held*, by message id; the newest delivery of a message is the one that counts."""
    # Later, the first messages could come a second time, which is a receive too.
    ends_at = time.monotonic() + state.visibility_seconds / 2
    empty = 0
    while stop.reason is None and len(held) < max_messages:
        came = queue.receive(min(CALL_ENTRIES, max_messages - len(held)), WAIT_SECONDS)
        empty += not came
        is_new = any(message.message_id not in held for message in came)
        held.update((message.message_id, message) for message in came)
        is_costly = _has_few_receives(_receive_count(came), state.max_receive_count)
        if is_costly or (held and not is_new) or empty == MAX_EMPTY or time.monotonic() > ends_at:
            return


def _has_few_receives(receive_count: int | None, maximum: int | None) -> bool:
    if receive_count is None or maximum is None:
        return False
    return receive_count + RECEIVES_TO_LEAVE > maximum


def _receive_count(messages: Iterable[Message]) -> int | None:
    return max((message.receive_count for message in messages), default=0) or None


def describe(look: Look, messages: Sequence[Message], settings: Settings) -> Look:
    """Fill a look with the shapes of messages."""
    look.messages, look.receive_count = len(messages), _receive_count(messages)
    largest = max((message.body_bytes for message in messages), default=0)
    look.max_kib = 1 << max((largest - 1) // 1024, 0).bit_length()
    look.fields |= {name: FieldShapes() for name in field_names(settings)}
    reader, table_of = EventReader(settings), table_finder(settings)
    for message in messages:
        for what, content in _read(message, reader):
            look.bodies[what] += 1
            if isinstance(content, Members):
                _add_event(look, content)
                look.tables.update(table_of(content))
            elif content is not None:
                look.body_shapes[content] += 1
    return look


def _read(message: Message, reader: EventReader) -> Iterator[tuple[str, Members | Shape | None]]:
    """What a body is, or each event in it, and its fields or else its shape."""
    if message.is_damaged:
        yield DAMAGED, None
        return
    try:
        texts = reader.texts(message)
    except Unreadable as finding:
        what, content = _read_text(message.body)
        if what != NO_JSON:
            what = REFUSED.get(finding.check, f"failed check {finding.check!r}")
        yield what, shape_of(content) if isinstance(content, Members) else content
        return
    if not texts:
        yield NO_EVENT, None
    for text in texts:
        yield _read_text(text)


def _read_text(text: str) -> tuple[str, Members | Shape]:
    try:
        document = read_json(text)
    except ValueError:
        return NO_JSON, shape_of_text(text)
    if isinstance(document, Members):
        return OBJECT, document
    return NO_OBJECT, shape_of(document)


def _add_event(look: Look, event: Members) -> None:
    found: dict[int, FieldShapes] = {}
    for name, value in (*event, *values_at_paths(event, look.fields)):
        if (shapes := look.fields.get(name)) is None:
            shapes = look.other_fields.setdefault(shape_of_text(name), FieldShapes())
        shapes.names.add(name)
        shapes.shapes[shape_of(value)] += 1
        found[id(shapes)] = shapes
    for shapes in found.values():
        shapes.events += 1
