"""Which deliveries arrived damaged, and what becomes of their messages."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest

from etl import extract
from etl.embedded import sqs_messages
from etl.errors import LastReceives, NoSentTimestamp
from etl.operations.entries import QuarantineEntry, as_message
from etl.sqs import arrivals
from etl.sqs.arrivals import Arrivals
from etl.sqs.attributes import Wanted
from etl.sqs.limits import Stop
from etl.sqs.message import body_md5, read_message
from tests.unit.builders import event, message

DAMAGED = {
    "another body": {"md5": body_md5("another")},
    "a checksum in another form": {"md5": "rL0Y20zC+Fzt72VPzMSk2A=="},
    "no checksum at all in its place": {"md5": ""},
    "no body": {"body": ""},
    "no body and no checksum": {"body": "", "md5": None},
}

NOW = dt.datetime.now(dt.UTC)
SENT_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "b": {"DataType": "Binary.raw", "BinaryValue": "AP8="},
    "a": {"DataType": "Number.int", "StringValue": "12"},
    "ä": {"DataType": "String", "StringValue": "grün"},
}
DAMAGED_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "a text": {"ä": {"DataType": "String", "StringValue": "grun"}},
    "a type": {"a": {"DataType": "Number", "StringValue": "12"}},
    "bytes": {"b": {"DataType": "Binary.raw", "BinaryValue": "AP4="}},
    "no base64": {"b": {"DataType": "Binary.raw", "BinaryValue": "AP8"}},
    "no text": {"a": {"DataType": "Number.int", "StringValue": 12}},
    "no object": {"a": "12"},
    "another name": {"c": {"DataType": "String", "StringValue": "grün"}},
}


def with_attributes(**changes: Any) -> Any:
    """Make a delivery with attributes and the digest of those that were sent."""
    entry = {
        "MessageId": "m0",
        "ReceiptHandle": "handle 0",
        "Body": event(),
        "MD5OfBody": body_md5(event()),
        "MessageAttributes": SENT_ATTRIBUTES,
        "MD5OfMessageAttributes": sqs_messages.attributes_md5(SENT_ATTRIBUTES),
    }
    return read_message({**entry, **changes}, Wanted(of_sender={"message attribute ä": "ä"}))


def delivery(**changes: Any) -> Any:
    """Make a good delivery, with changes."""
    return message(**{"body": event(), **changes})


def arrivals_of(
    max_receive_count: int | None = None, column: str | None = None, stop: Stop | None = None
) -> Arrivals:
    """Make the arrivals of a worker."""
    return Arrivals(lambda *_: None, stop or Stop(), max_receive_count, column)


def handled(seen: Arrivals, *deliveries: Any) -> list[bool]:
    """Say of each delivery, one after the other, whether it is handled as it came."""
    return [bool(seen.sift([one])) for one in deliveries]


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_delivery_is_received_again(change: dict[str, Any]) -> None:
    """The next delivery is whole, so the message is loaded."""
    if "md5" not in change:
        change = {**change, "md5": body_md5(event())}
    assert handled(arrivals_of(), delivery(**change), delivery()) == [False, True]


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_a_message_that_always_arrives_damaged_is_quarantined(change: dict[str, Any]) -> None:
    """After a few deliveries it is handled as it came, and then a check refuses it."""
    damaged = delivery(**{"md5": body_md5(event()), **change})
    assert handled(arrivals_of(), damaged, damaged, damaged) == [False, False, True]
    _, rejects = extract.read([damaged], ["ip"])
    assert len(rejects) == 1


@pytest.mark.parametrize("md5", [None, body_md5(event()), body_md5(event()).upper()])
def test_a_whole_delivery_is_handled(md5: str | None) -> None:
    """Some emulators send no checksum, or write it in capitals."""
    assert handled(arrivals_of(), delivery(md5=md5)) == [True]
    assert extract.read([delivery(md5=md5)], ["ip"])[1].empty


def test_only_damaged_deliveries_count() -> None:
    """A message received many times before, whole, is not given up at the first damage."""
    damaged = delivery(md5="0" * 32, receive_count=40)
    assert handled(arrivals_of(), damaged, damaged, delivery()) == [False, False, True]
    seen = arrivals_of()
    for _ in range(5):
        assert handled(seen, damaged, damaged, delivery(receive_count=43)) == [False, False, True]


@pytest.mark.parametrize(("maximum", "count"), [(1, 1), (2, 2), (3, 3), (5, 7)])
def test_the_last_receive_is_never_given_back(maximum: int, count: int) -> None:
    """Released then, the message would go to the dead-letter queue."""
    last = delivery(md5="0" * 32, receive_count=count)
    assert handled(arrivals_of(maximum), last) == [True]
    if maximum > 1:
        earlier = delivery(md5="0" * 32, receive_count=maximum - 1)
        assert handled(arrivals_of(maximum), earlier) == [False]


def test_without_receive_counts_the_deliveries_seen_here_count() -> None:
    """Some emulators do not say how often a message was received."""
    unknown = delivery(md5="0" * 32, receive_count=0)
    assert handled(arrivals_of(2), unknown, unknown) == [False, True]


def test_a_released_message_stays_hidden_for_a_while() -> None:
    """Visible at once it would come at once; until it is back, the queue is not idle."""
    hidden: list[tuple[list[str], int]] = []
    seen = Arrivals(lambda ms, s: hidden.append(([m.message_id for m in ms], s)), Stop())
    assert not seen.come_again(time.monotonic())
    good = message(event(), 2)
    assert seen.sift([message("{", 1, md5="0" * 32), good]) == [good]
    assert hidden == [(["m1"], arrivals.PAUSE_SECONDS)]
    assert seen.released == 1
    assert seen.come_again(time.monotonic())
    assert not seen.come_again(time.monotonic() + 3600)


@pytest.mark.parametrize("damaged", [{0}, {3}, {1, 4}, {7}])
def test_what_follows_a_released_message_in_its_group_is_released_too(damaged: set[int]) -> None:
    """Or it would be loaded before it. Other groups, and messages without one, are handled."""
    groups = ["a", "a", "b", "b", "a", "b", "c", None, None]
    deliveries = [
        delivery(number=number, group=group, **({"md5": ""} if number in damaged else {}))
        for number, group in enumerate(groups)
    ]
    seen = arrivals_of()
    handled_ids = [one.message_id for one in seen.sift(deliveries)]
    expected = [
        f"m{number}"
        for number, group in enumerate(groups)
        if number not in damaged
        and not any(group is not None and groups[d] == group and d < number for d in damaged)
    ]
    assert handled_ids == expected
    assert seen.released == len(groups) - len(expected)


def test_a_follower_in_a_group_counts_as_damaged_only_when_it_is() -> None:
    """It is released as often as it must be, and not quarantined for the fault of another."""
    seen = arrivals_of()
    bad = delivery(number=0, group="a", md5="")
    follower = delivery(number=1, group="a")
    assert [len(seen.sift([bad, follower])) for _ in range(3)] == [0, 0, 2]


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other workers receive some of the released messages, so here their end is never seen."""
    monkeypatch.setattr(arrivals, "MAX_REMEMBERED", 10)
    seen = arrivals_of()
    for number in range(100):
        assert handled(seen, message("{", number, md5="0" * 32)) == [False]
    assert len(seen._damaged) == 10


def test_messages_without_a_time_stop_the_run() -> None:
    """A service that never sends SentTimestamp would put every message into quarantine."""
    without = [delivery(sent_ms=None) for _ in range(3)]
    stop = Stop()
    seen = arrivals_of(column="create_date", stop=stop)
    assert seen.sift([]) == []
    seen.raise_error()
    assert seen.sift(without) == without  # to be released with the rest
    assert (stop.reason, stop.release_rest) == ("no SentTimestamp", True)
    with pytest.raises(NoSentTimestamp, match=r"SentTimestamp.*'create_date'"):
        seen.raise_error()
    seen = arrivals_of(column=None)
    assert seen.sift(without) == without
    seen.raise_error()


@pytest.mark.parametrize(
    ("maximum", "count", "said"),
    [
        (5, 4, "a look that is refused is a receive too: load them before you look again"),
        (5, 5, "it was the last one: the next receive, also by a run, moves them there"),
        (3, 3, "it was the last one"),
        (3, 4, "it was the last one"),
    ],
)
def test_a_refused_look_says_what_the_next_receive_does(
    maximum: int, count: int, said: str
) -> None:
    """A message cannot be told from others before it is received."""
    seen = Arrivals(lambda *_: None, Stop(), maximum, receives_to_leave=2)
    seen.sift([delivery(receive_count=count)])
    with pytest.raises(LastReceives, match=said):
        seen.raise_error()


def test_a_single_message_without_a_time_is_received_again() -> None:
    """Others came with one, so the service does send it."""
    seen = arrivals_of(column="create_date")
    without = delivery(sent_ms=None)
    whole = message(event(), 2)
    assert seen.sift([without, whole]) == [whole]
    assert handled(seen, without, without) == [False, True]
    assert handled(arrivals_of(), without) == [True]


@pytest.mark.parametrize("text", [None, "", "soon", "-1", "1.5", "9" * 30, "253402300800000", "²"])
def test_an_attribute_that_is_no_time_counts_as_absent(text: str | None) -> None:
    """It must not end the receiving thread."""
    attributes = {"SentTimestamp": text, "ApproximateReceiveCount": text}
    received = read_message({"MessageId": "m", "ReceiptHandle": "h", "Attributes": attributes})
    assert (received.sent_ms, received.receive_count, received.body) == (None, 0, "")


def test_the_attributes_of_a_message_are_read() -> None:
    """SQS sends numbers as text."""
    attributes = {"SentTimestamp": "1700000000000", "ApproximateReceiveCount": "3"}
    entry = {"MessageId": "m", "ReceiptHandle": "h", "Body": "{}", "Attributes": attributes}
    received = read_message(entry)
    assert (received.sent_ms, received.receive_count, received.body) == (1_700_000_000_000, 3, "{}")


@pytest.mark.parametrize("change", DAMAGED_ATTRIBUTES.values(), ids=DAMAGED_ATTRIBUTES)
def test_damaged_attributes_are_damage_too(change: dict[str, Any]) -> None:
    """The message is received again, and in the end quarantined for what was damaged."""
    damaged = with_attributes(MessageAttributes={**SENT_ATTRIBUTES, **change})
    assert handled(arrivals_of(), damaged, with_attributes()) == [False, True]
    assert handled(arrivals_of(), damaged, damaged, damaged) == [False, False, True]
    _, rejects = extract.read([damaged], ["ip"])
    assert rejects["check"].tolist() == ["MD5 of attributes"]


def test_whole_attributes_are_handled() -> None:
    """As both transports give them, and without a digest, as some emulators answer."""
    decoded = {**SENT_ATTRIBUTES, "b": {"DataType": "Binary.raw", "BinaryValue": b"\x00\xff"}}
    upper = sqs_messages.attributes_md5(SENT_ATTRIBUTES).upper()
    for changes in (
        {},
        {"MessageAttributes": decoded},
        {"MD5OfMessageAttributes": upper},
        {"MD5OfMessageAttributes": None},
        {"MessageAttributes": {}},
    ):
        whole = with_attributes(**changes)
        assert handled(arrivals_of(), whole) == [True]
        assert extract.read([whole], ["ip"])[1].empty


def test_a_message_with_damaged_attributes_never_loads_from_quarantine() -> None:
    """Its right attributes are no longer known."""
    reasons = [{"column": "message", "check": "MD5 of attributes"}]
    entry = QuarantineEntry(1, "j", "m0", "r", None, NOW, reasons, [], b"")
    _, rejects = extract.read([as_message(entry, event())], ["ip"])
    assert rejects["check"].tolist() == ["MD5 of attributes"]
