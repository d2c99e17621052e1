"""The buffer's bookkeeping, without a queue, a thread or a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etl.sqs.buffer import Buffer
from etl.sqs.message import Message


def message(message_id: str, body: str = "x", receipt_handle: str = "h") -> Message:
    """Make a message as SQS delivers it."""
    return Message(message_id, body, receipt_handle, 0, None)


def receive(buffer: Buffer, *messages: Message, rows: int = 10) -> None:
    """Reserve what room there is, up to *rows*, and add what came."""
    reserved = min(rows, buffer.room)
    buffer.reserve(reserved)
    buffer.add(messages, reserved)


def test_a_new_buffer_has_room_for_a_whole_batch() -> None:
    """The room is the batch's rows."""
    buffer = Buffer(max_rows=7, max_bytes=100)
    assert (buffer.room, len(buffer), buffer.is_full) == (7, 0, False)


def test_a_reservation_takes_room_until_its_receive_has_ended() -> None:
    """Two receives in progress cannot both count on the same rows."""
    buffer = Buffer(max_rows=12, max_bytes=100)
    buffer.reserve(10)
    assert (buffer.room, buffer.reserved) == (2, 10)
    buffer.add([message("a")], reserved=10)
    assert (buffer.room, buffer.reserved) == (11, 0)


def test_reservations_alone_do_not_make_the_buffer_full() -> None:
    """A batch closes by the messages that it has, not by those that may come."""
    buffer = Buffer(max_rows=10, max_bytes=100)
    buffer.reserve(10)
    assert buffer.room == 0
    assert not buffer.is_full


def test_the_buffer_is_full_at_its_rows() -> None:
    """A full buffer has no room for another receive."""
    buffer = Buffer(max_rows=2, max_bytes=100)
    receive(buffer, message("a"), message("b"))
    assert buffer.is_full
    assert buffer.room == 0


def test_the_buffer_is_full_at_its_bytes() -> None:
    """Bytes are those of the bodies in UTF-8, not characters."""
    buffer = Buffer(max_rows=10, max_bytes=4)
    receive(buffer, message("a", "ü"))
    assert not buffer.is_full
    receive(buffer, message("b", "ü"))
    assert buffer.is_full
    assert buffer.room == 0


def test_only_the_first_batch_is_expected() -> None:
    """What waited at the start says nothing about what comes later."""
    buffer = Buffer(max_rows=10, max_bytes=100, expected=2)
    receive(buffer, message("a"))
    assert not buffer.is_complete
    receive(buffer, message("b"))
    assert buffer.is_complete
    buffer.empty()
    receive(buffer, message("c"), message("d"))
    assert not buffer.is_complete


def test_without_a_number_no_batch_is_the_expected_one() -> None:
    """Zero waiting messages means that the number is not known."""
    buffer = Buffer(max_rows=10, max_bytes=100)
    receive(buffer, message("a"))
    assert not buffer.is_complete


def test_a_body_with_a_lone_surrogate_has_a_length_too() -> None:
    """It becomes a reject later; here it must not raise."""
    buffer = Buffer(max_rows=10, max_bytes=3)
    receive(buffer, message("a", "\ud800"))
    assert buffer.is_full


def test_a_message_that_comes_again_stays_one_row() -> None:
    """It keeps its newest receipt handle and counts its deliveries."""
    buffer = Buffer(max_rows=10, max_bytes=100)
    receive(buffer, message("a", receipt_handle="old"), message("b"))
    receive(buffer, message("a", receipt_handle="new"))
    first, second = buffer.empty()
    assert (first.message_id, first.receipt_handle, first.deliveries) == ("a", "new", 2)
    assert (second.message_id, second.deliveries) == ("b", 1)


def test_a_message_twice_in_one_receive_counts_twice() -> None:
    """SQS may do that as well."""
    buffer = Buffer(max_rows=10, max_bytes=100)
    receive(buffer, message("a"), message("a"), message("a"))
    (only,) = buffer.empty()
    assert only.deliveries == 3


def test_a_redelivery_does_not_count_its_bytes_twice() -> None:
    """Only the newest body is in memory."""
    buffer = Buffer(max_rows=10, max_bytes=10)
    receive(buffer, message("a", "12345678"))
    receive(buffer, message("a", "12345678"))
    assert not buffer.is_full


def test_emptying_makes_room_but_keeps_reservations() -> None:
    """A receive may be in progress while the batch is taken."""
    buffer = Buffer(max_rows=10, max_bytes=100)
    receive(buffer, message("a"))
    buffer.reserve(4)
    assert [taken.message_id for taken in buffer.empty()] == ["a"]
    assert (len(buffer), buffer.room, buffer.is_full) == (0, 6, False)
    assert buffer.empty() == []


@given(
    max_rows=st.integers(1, 30),
    receives=st.lists(st.lists(st.integers(0, 40), max_size=10), max_size=30),
)
def test_the_bound_in_rows_is_exact_and_no_delivery_is_lost(
    max_rows: int, receives: list[list[int]]
) -> None:
    """Whatever comes, however often, into however small a batch."""
    buffer = Buffer(max_rows, max_bytes=1_000_000)
    came = 0
    accounted = 0
    for numbers in receives:
        reserved = min(10, buffer.room)
        buffer.reserve(reserved)
        bodies = numbers[:reserved]
        buffer.add([message(str(number)) for number in bodies], reserved)
        came += len(bodies)
        assert len(buffer) <= max_rows
        assert buffer.reserved == 0
        if buffer.is_full:
            accounted += sum(taken.deliveries for taken in buffer.empty())
    accounted += sum(taken.deliveries for taken in buffer.empty())
    assert accounted == came
