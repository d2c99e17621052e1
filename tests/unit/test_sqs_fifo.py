"""FIFO queues of the embedded SQS: groups, order and deduplication, as AWS documents them."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.embedded.sqs_messages import StoredMessage
from etl.embedded.sqs_model import Redelivery, SqsAccount, StoredQueue
from etl.embedded.sqs_refusals import Refusal

NOW = 1_700_000_000_000
MINUTE = 60_000


def fifo_queue(account: SqsAccount | None = None, name: str = "q.fifo", **more: str) -> StoredQueue:
    """Create a FIFO queue with a visibility timeout of 30 s."""
    return (account or SqsAccount()).create(name, {"FifoQueue": "true", **more}, NOW)


def send(
    queue: StoredQueue,
    body: str,
    group: str = "g",
    dedup: str | None = None,
    now: int = NOW,
    **more: Any,
) -> StoredMessage:
    """Send a message; without *dedup* its body is its deduplication id."""
    delay = more.get("delay_seconds")
    dedup_id = body if dedup is None else dedup
    return queue.send(body, {}, delay, now, group=group, dedup_id=dedup_id)


def receive(queue: StoredQueue, limit: int = 10, now: int = NOW) -> list[str]:
    """Receive; return the bodies."""
    return [message.body for message in queue.receive(limit, None, now)]


def code(refusal: pytest.ExceptionInfo[Refusal]) -> str:
    """The code of a refusal."""
    return refusal.value.code


def test_messages_of_a_group_come_in_the_order_in_which_they_were_sent() -> None:
    """At most ten in a receive, and the rest only once these are gone."""
    queue = fifo_queue()
    for number in range(25):
        send(queue, f"{number:02}")
    first = queue.receive(10, None, NOW)
    assert [message.body for message in first] == [f"{n:02}" for n in range(10)]
    assert not queue.has_visible(NOW)
    assert receive(queue) == []
    for message in first[:-1]:
        queue.delete(queue.handle(message), NOW)
    assert receive(queue) == []  # one of them is still in flight
    queue.delete(queue.handle(first[-1]), NOW)
    assert receive(queue) == [f"{n:02}" for n in range(10, 20)]


def test_a_receive_takes_as_many_messages_of_one_group_as_it_can() -> None:
    """Then those of the next group."""
    queue = fifo_queue()
    for number in range(4):
        send(queue, f"a{number}", "a")
        send(queue, f"b{number}", "b")
    assert receive(queue, 6) == ["a0", "a1", "a2", "a3", "b0", "b1"]
    assert receive(queue, 6) == []  # b2 waits for b0 and b1


def test_groups_do_not_wait_for_each_other() -> None:
    """Only the group of the message in flight does."""
    queue = fifo_queue()
    for group in "abc":
        send(queue, f"{group}0", group)
        send(queue, f"{group}1", group)
    assert receive(queue, 1) == ["a0"]
    assert receive(queue, 2) == ["b0", "b1"]
    assert receive(queue, 10) == ["c0", "c1"]


def test_a_timeout_gives_a_group_back_from_its_oldest_message() -> None:
    """Whatever was sent in the meantime comes later."""
    queue = fifo_queue()
    send(queue, "0")
    send(queue, "1")
    assert receive(queue) == ["0", "1"]
    send(queue, "2")
    assert receive(queue) == []
    assert receive(queue, now=NOW + 30_000) == ["0", "1", "2"]


def test_a_release_gives_a_group_back_once_no_message_of_it_is_in_flight() -> None:
    """In order, even if the messages were released in another one."""
    queue = fifo_queue()
    for number in range(3):
        send(queue, str(number))
    messages = queue.receive(10, None, NOW)
    for message in reversed(messages):
        assert receive(queue) == []
        queue.change_visibility(queue.handle(message), 0, NOW)
    assert receive(queue) == ["0", "1", "2"]


def test_a_receive_that_hides_nothing_locks_nothing() -> None:
    """A visibility timeout of 0."""
    queue = fifo_queue()
    send(queue, "0")
    send(queue, "1")
    assert [m.body for m in queue.receive(1, 0, NOW)] == ["0"]
    assert receive(queue) == ["0", "1"]


def test_the_counts_are_of_all_groups() -> None:
    """A message that waits for its group counts as visible."""
    queue = fifo_queue()
    for number in range(15):
        send(queue, str(number))
    receive(queue)
    described = queue.describe(NOW)
    assert described["ApproximateNumberOfMessages"] == "5"
    assert described["ApproximateNumberOfMessagesNotVisible"] == "10"
    assert described["FifoQueue"] == "true"


def test_a_message_sent_again_within_five_minutes_is_one_message() -> None:
    """The answer is that of the first one, even after it was deleted."""
    queue = fifo_queue()
    first = send(queue, "body", dedup="x")
    assert send(queue, "other body", dedup="x", now=NOW + 4 * MINUTE) is first
    (message,) = queue.receive(10, None, NOW)
    queue.delete(queue.handle(message), NOW)
    assert send(queue, "body", dedup="x", now=NOW + 5 * MINUTE - 1) is first
    assert receive(queue) == []
    assert send(queue, "body", dedup="x", now=NOW + 5 * MINUTE).id != first.id
    assert receive(queue, now=NOW + 5 * MINUTE) == ["body"]


def test_equal_bodies_are_one_message_if_the_queue_deduplicates_by_content() -> None:
    """An id that is given goes before that."""
    queue = fifo_queue(ContentBasedDeduplication="true")
    first = send(queue, "body", dedup="")
    assert send(queue, "body", dedup="").id == first.id
    assert send(queue, "body", dedup="own").id != first.id
    assert send(queue, "other", dedup="").id != first.id


def test_deduplication_can_be_by_group() -> None:
    """The same id in two groups are two messages."""
    queue = fifo_queue(DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    assert send(queue, "body", "a", "x").id == send(queue, "body", "a", "x").id
    assert send(queue, "body", "a", "x").id != send(queue, "body", "b", "x").id


def test_sequence_numbers_grow() -> None:
    """As numbers of twenty digits."""
    queue = fifo_queue()
    numbers = [send(queue, str(n)).sequence_number for n in range(3)]
    assert numbers == sorted(numbers)
    assert {len(number) for number in numbers} == {20}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"group": ""}, "MissingParameter"),
        ({"group": "a b"}, "InvalidParameterValue"),
        ({"group": "g" * 129}, "InvalidParameterValue"),
        ({"dedup": ""}, "InvalidParameterValue"),
        ({"dedup": "ü"}, "InvalidParameterValue"),
        ({"delay_seconds": 5}, "InvalidParameterValue"),
    ],
)
def test_what_a_fifo_queue_does_not_take(changes: dict[str, Any], expected: str) -> None:
    """Nothing is added."""
    queue = fifo_queue()
    with pytest.raises(Refusal) as refusal:
        send(queue, "body", **changes)
    assert code(refusal) == expected
    assert receive(queue) == []


def test_a_standard_queue_takes_a_group_but_no_deduplication_id() -> None:
    """Fair queues have groups, without an order."""
    queue = SqsAccount().create("q", {}, NOW)
    queue.send("0", {}, None, NOW, group="g")
    queue.send("1", {}, None, NOW, group="g")
    assert receive(queue, 1) == ["0"]
    assert receive(queue, 1) == ["1"]
    with pytest.raises(Refusal) as refusal:
        queue.send("2", {}, None, NOW, dedup_id="x")
    assert code(refusal) == "InvalidParameterValue"


def test_a_queue_can_have_its_own_delay() -> None:
    """Only a message cannot."""
    queue = fifo_queue(DelaySeconds="10")
    send(queue, "0")
    assert receive(queue) == []
    assert receive(queue, now=NOW + 10_000) == ["0"]


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("q.fifo", {}, "InvalidParameterValue"),
        ("q", {"FifoQueue": "true"}, "InvalidParameterValue"),
        (".fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("q" * 76 + ".fifo", {"FifoQueue": "true"}, "InvalidParameterValue"),
        ("q", {"ContentBasedDeduplication": "true"}, "InvalidAttributeName"),
        ("q.fifo", {"FifoQueue": "true", "DeduplicationScope": "x"}, "InvalidAttributeValue"),
        (
            "q.fifo",
            {"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"},
            "InvalidAttributeValue",
        ),
    ],
)
def test_which_queues_cannot_be_created(
    name: str, attributes: dict[str, str], expected: str
) -> None:
    """The name and the attribute must agree."""
    with pytest.raises(Refusal) as refusal:
        SqsAccount().create(name, attributes, NOW)
    assert code(refusal) == expected


def test_a_dead_letter_queue_is_of_the_same_type() -> None:
    """The message keeps its group there."""
    account = SqsAccount()
    standard = account.create("dead", {}, NOW)
    dead = fifo_queue(account, "dead.fifo")
    policy = '{"deadLetterTargetArn": "%s", "maxReceiveCount": 1}'
    with pytest.raises(Refusal):
        fifo_queue(account, RedrivePolicy=policy % standard.arn)
    queue = fifo_queue(account, RedrivePolicy=policy % dead.arn)
    send(queue, "0")
    send(queue, "1")
    assert receive(queue, 1) == ["0"]
    assert receive(queue, now=NOW + 30_000) == ["1"]
    assert receive(dead, now=NOW + 30_000) == ["0"]


def test_a_handle_is_refused_once_its_time_has_passed() -> None:
    """A standard queue would say that all is well."""
    queue = fifo_queue()
    send(queue, "0")
    (message,) = queue.receive(1, None, NOW)
    handle = queue.handle(message)
    with pytest.raises(Refusal, match="expired"):
        queue.delete(handle, NOW + 30_000)
    (message,) = queue.receive(1, None, NOW + 30_000)
    with pytest.raises(Refusal, match="expired"):
        queue.delete(handle, NOW + 30_000)
    queue.delete(queue.handle(message), NOW + 30_000)
    queue.delete(queue.handle(message), NOW + 30_000)  # it is gone, which is what was wanted


def test_a_fifo_queue_delivers_no_deleted_message_again() -> None:
    """That is what a standard queue may do."""
    queue = fifo_queue(SqsAccount(Redelivery(1.0)))
    send(queue, "0")
    (message,) = queue.receive(1, None, NOW)
    queue.delete(queue.handle(message), NOW)
    assert receive(queue, now=NOW + 60_000) == []


@given(seed=st.integers(0, 10_000))
def test_no_group_is_ever_out_of_order(seed: int) -> None:
    """Whatever is received, released, deleted and timed out, each group is handled in order."""
    draw = random.Random(seed)
    queue = fifo_queue()
    for number in range(60):
        send(queue, f"{number:02}", f"g{draw.randrange(5)}")
    now = NOW
    done: dict[str, list[str]] = {}
    held: list[StoredMessage] = []
    while sum(map(len, done.values())) < 60:
        taken = queue.receive(draw.randint(1, 10), None, now)
        assert {message.group for message in held}.isdisjoint(message.group for message in taken)
        held += taken
        what = draw.choice(("wait", "time out", "release", "delete", "delete"))
        if what == "time out":
            now += 30_000
        elif what == "release":
            for message in held:
                queue.change_visibility(queue.handle(message), 0, now)
        elif what == "delete":
            for message in held:
                queue.delete(queue.handle(message), now)
                done.setdefault(message.group, []).append(message.body)
        if what != "wait":
            held = []
    assert all(bodies == sorted(bodies) for bodies in done.values())
