"""The receiver and the heartbeat on a real queue."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber

from etl.embedded.sqs import EmbeddedSqs
from etl.errors import QueueRefused, QueueUnavailable
from etl.sqs import acknowledge
from etl.sqs.call_queue import CallQueue
from etl.sqs.calls import Calls
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.limits import Limits, Stop
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry, Queue
from etl.sqs.quota import NoQuota, open_quota
from etl.sqs.receiver import Receiver
from tests.integration.waiting import wait_until
from tests.unit import aws_server

LIMITS = Limits(
    max_rows=100,
    max_bytes=1_000_000,
    batch_seconds=60,
    idle_seconds=0.5,
    max_seconds=None,
    wait_seconds=1,
    retry_seconds=5,
)


@pytest.fixture(params=["curl", "boto3"])
def make_queue(sqs: EmbeddedSqs, request: pytest.FixtureRequest) -> Callable[..., Queue]:
    """Make queues with a given visibility timeout, over each transport."""

    def make(visibility_seconds: int = 30) -> Queue:
        name = f"r-{uuid.uuid4().hex[:12]}"
        url = sqs.create_queue(name, dead_letter=False, visibility_seconds=visibility_seconds)
        return aws_server.queue(sqs.environment, url, request.param)

    return make


@pytest.fixture
def queue(make_queue: Callable[..., Queue]) -> Queue:
    """A queue with a visibility timeout of 30 s."""
    return make_queue()


@pytest.fixture
def calls() -> CallQueue:
    """No calls besides the receives; a thread of its own would make them."""
    return CallQueue(1)


@pytest.fixture
def receiver(queue: Queue, calls: CallQueue) -> Iterator[Callable[..., Receiver]]:
    """Start receivers on the queue, which end with the test."""
    started: list[Receiver] = []

    def start(
        stop: Stop | None = None,
        threads: int = 3,
        max_messages: int | None = None,
        **changes: Any,
    ) -> Receiver:
        heartbeat = Heartbeat(queue, 30)
        limits = replace(LIMITS, **changes)
        allowed = open_quota(max_messages)
        started.append(Receiver(queue, heartbeat, limits, threads, stop or Stop(), allowed, calls))
        started[-1].start()
        return started[-1]

    yield start
    for running in started:
        running.end()


def fill(queue: Queue, count: int, size: int = 10) -> None:
    """Send messages."""
    bodies = [f"{i:0{size}d}" for i in range(count)]
    for start in range(0, count, 10):
        assert queue.send(bodies[start : start + 10]) == []


def batches(receiver: Receiver) -> list[list[Message]]:
    """Take batches until there are no more."""
    taken = []
    while (batch := receiver.take()) is not None:
        taken.append(batch)
    return taken


@pytest.mark.parametrize(("quick_seconds", "working"), [(3600, 1), (0, 3)])
def test_several_threads_receive_only_where_answers_take_time(
    quick_seconds: float,
    working: int,
    queue: Queue,
    receiver: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where SQS answers at once, the first thread receives alone."""
    monkeypatch.setattr("etl.sqs.receives.QUICK_SECONDS", quick_seconds)
    receive, names = queue.receive, set()

    def noting(limit: int, wait_seconds: int) -> list[Message]:
        names.add(threading.current_thread().name)
        return receive(limit, wait_seconds)

    monkeypatch.setattr(queue, "receive", noting)
    fill(queue, 30)
    assert sum(map(len, batches(receiver(threads=3, idle_seconds=3)))) == 30
    assert names == {f"receiver-{i}" for i in range(working)}


def test_a_batch_closes_at_its_rows(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """The bound is exact, whatever the number of threads."""
    fill(queue, 250)
    assert [len(batch) for batch in batches(receiver(max_rows=100))] == [100, 100, 50]


def test_rows_below_ten_are_kept_too(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """A receive asks for no more messages than there is room for."""
    fill(queue, 7)
    assert [len(batch) for batch in batches(receiver(max_rows=3))] == [3, 3, 1]


def test_a_batch_closes_at_its_bytes(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """It exceeds them by no more than the receives in progress bring."""
    fill(queue, 100, size=1000)
    sizes = [len(batch) for batch in batches(receiver(max_bytes=20_000, threads=2))]
    assert sum(sizes) == 100
    assert all(20 <= size < 20 + 2 * 10 for size in sizes[:-1])


def test_a_batch_closes_at_its_age(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """A few messages are loaded even if no more follow."""
    fill(queue, 3)
    taken = receiver(batch_seconds=0.3, idle_seconds=60).take()
    assert taken is not None
    assert len(taken) == 3


def test_receiving_ends_when_idle(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """The reason for the stop is ``idle``."""
    stop = Stop()
    assert batches(receiver(stop)) == []
    assert stop.reason == "idle"


def test_receiving_ends_at_the_maximum_exactly(
    queue: Queue, receiver: Callable[..., Receiver]
) -> None:
    """No message beyond the maximum leaves the queue."""
    fill(queue, 60)
    stop = Stop()
    taken = batches(receiver(stop, max_messages=37))
    assert sum(map(len, taken)) == 37
    assert stop.reason == "max_messages"
    assert queue.state().visible == 23


def test_receiving_ends_after_its_time(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """The messages received until then are handed over."""
    fill(queue, 5)
    stop = Stop()
    taken = batches(receiver(stop, max_seconds=1, idle_seconds=60))
    assert sum(map(len, taken)) == 5
    assert stop.reason == "max_seconds"


def test_a_stop_that_gives_back_leaves_the_messages_to_be_released(
    queue: Queue, receiver: Callable[..., Receiver]
) -> None:
    """After SIGTERM, take() ends at once and end() hands over the rest."""
    fill(queue, 5)
    stop = Stop()
    running = receiver(stop, idle_seconds=60)
    assert wait_until(lambda: running.buffered >= 5)
    stop.request("SIGTERM", release_rest=True)
    assert running.take() is None
    assert len(running.end()) == 5


def test_the_buffer_holds_no_more_than_a_batch(
    queue: Queue, receiver: Callable[..., Receiver]
) -> None:
    """Messages wait in the queue, not in memory."""
    fill(queue, 80)
    running = receiver(max_rows=30, idle_seconds=60)
    assert wait_until(lambda: running.buffered >= 30)
    time.sleep(0.3)
    assert running.buffered == 30
    assert queue.state().visible == 50


def test_waiting_for_room_is_not_idleness(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """A load that takes longer than the idle time does not end the run."""
    fill(queue, 60)
    stop = Stop()
    running = receiver(stop, max_rows=20, idle_seconds=0.5)
    taken = 0
    while (batch := running.take()) is not None:
        taken += len(batch)
        time.sleep(0.8)  # a slow load
    assert taken == 60


def test_a_redelivery_while_held_is_one_message_with_two_deliveries(
    make_queue: Callable[..., Queue], calls: CallQueue
) -> None:
    """It keeps its newest receipt handle, because the older one may delete nothing."""
    queue = make_queue(visibility_seconds=1)
    fill(queue, 1)
    # No heartbeat thread runs, so the message shows again after a second.
    heartbeat = Heartbeat(queue, 1)
    receiver = Receiver(
        queue, heartbeat, replace(LIMITS, idle_seconds=30), 1, Stop(), NoQuota(), calls
    )
    receiver.start()
    assert wait_until(lambda: receiver.received >= 2)
    batch = receiver.end()
    assert [message.deliveries for message in batch] == [receiver.received]
    assert queue.acknowledge(heartbeat.handles(batch)) == []
    state = queue.state()
    assert state.visible + state.in_flight == 0


def test_a_queue_that_is_not_there_ends_the_receiving_with_its_error(
    sqs: EmbeddedSqs, calls: CallQueue
) -> None:
    """Waiting would not help."""
    queue = Queue(Calls(sqs.client()), sqs.endpoint_url + "/000000000000/nowhere")
    receiver = Receiver(queue, Heartbeat(queue, 30), LIMITS, 2, Stop(), NoQuota(), calls)
    receiver.start()
    assert receiver.take() is None
    receiver.end()
    with pytest.raises(QueueRefused, match=r"NonExistentQueue|QueueDoesNotExist"):
        receiver.raise_error()


def test_an_sqs_that_is_away_is_waited_for_and_then_given_up(calls: CallQueue) -> None:
    """It is waited for as long as the configuration allows."""
    with EmbeddedSqs() as own:
        url = own.create_queue("q", dead_letter=False)
        client = own.client()
    queue = Queue(Calls(client), url)
    limits = replace(LIMITS, retry_seconds=0.5, idle_seconds=60)
    receiver = Receiver(queue, Heartbeat(queue, 30), limits, 1, Stop(), NoQuota(), calls)
    receiver.start()
    assert receiver.take() is None
    receiver.end()
    with pytest.raises(QueueUnavailable):
        receiver.raise_error()


def test_a_held_message_stays_hidden_beyond_its_timeout(make_queue: Callable[..., Queue]) -> None:
    """The heartbeat extends it when half of its timeout has passed."""
    queue = make_queue(visibility_seconds=4)
    fill(queue, 25)
    heartbeat = Heartbeat(queue, 4)
    heartbeat.start()
    held: list[Message] = []
    while len(held) < 25:
        messages = queue.receive(10, 1)
        heartbeat.hold(messages)
        held += messages
    seen = [message for _ in range(6) for message in queue.receive(10, 1)]
    heartbeat.stop()
    assert seen == []
    assert heartbeat.extended >= 25


def test_a_slow_extension_does_not_hold_up_the_next(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of four calls is answered only once all four are in progress."""
    all_four = threading.Barrier(4)

    def extend(handles: Sequence[Handle], seconds: int) -> list[FailedEntry]:
        if heartbeat.extended < 40:  # the next time round nobody need wait for anybody
            all_four.wait(20)
        return []

    monkeypatch.setattr(queue, "extend", extend)
    heartbeat = Heartbeat(queue, 2)
    heartbeat.hold([Message(str(number), "", "handle", 0, None) for number in range(40)])
    heartbeat.start()
    assert wait_until(lambda: heartbeat.extended >= 40 or all_four.broken)
    heartbeat.stop()
    assert not all_four.broken


def test_a_message_let_go_shows_again(make_queue: Callable[..., Queue]) -> None:
    """The heartbeat no longer extends it."""
    queue = make_queue(visibility_seconds=1)
    fill(queue, 1)
    heartbeat = Heartbeat(queue, 1)
    heartbeat.start()
    first = queue.receive(1, 1)
    heartbeat.hold(first)
    heartbeat.let_go(heartbeat.handles(first))
    again = queue.receive(1, 5)
    heartbeat.stop()
    assert [message.message_id for message in again] == [first[0].message_id]


def test_letting_go_of_an_old_handle_keeps_the_new_one(queue: Queue) -> None:
    """The message has come again in the meantime and is held under its new handle."""
    heartbeat = Heartbeat(queue, 30)
    heartbeat.hold([Message("m", "", "old", 0, None)])
    heartbeat.hold([Message("m", "", "new", 0, None)])
    heartbeat.let_go([Handle("m", "old")])
    assert len(heartbeat) == 1
    assert heartbeat.handles([Message("m", "", "old", 0, None)]) == [Handle("m", "new")]


def test_released_messages_show_at_once(queue: Queue) -> None:
    """A release sets the visibility timeout to 0."""
    fill(queue, 12)
    taken = queue.receive(10, 1) + queue.receive(10, 1)
    assert queue.release([Handle(m.message_id, m.receipt_handle) for m in taken]) == []
    assert queue.state().visible == 12


def test_a_refused_entry_is_reported_though_the_call_succeeds(queue: Queue) -> None:
    """DeleteMessageBatch answers 200 with failed entries inside."""
    fill(queue, 1)
    good = queue.receive(1, 1)[0]
    handles = [Handle("x", "no handle at all"), Handle(good.message_id, good.receipt_handle)]
    refused = queue.acknowledge(handles)
    assert [(r.handle.message_id, r.final) for r in refused] == [("x", True)]
    assert queue.state().in_flight == 0


def test_no_repr_shows_a_body_or_a_handle() -> None:
    """A message could end up in a log line by mistake."""
    shown = repr(Message("id", "a body", "a handle", 0, None)) + repr(Handle("id", "a handle"))
    assert "a body" not in shown
    assert "a handle" not in shown


def test_the_receiving_threads_end(queue: Queue, receiver: Callable[..., Receiver]) -> None:
    """No receiving thread is alive afterwards."""
    running = receiver()
    batches(running)
    running.end()
    assert not [t for t in threading.enumerate() if t.name.startswith("receiver")]


def test_a_message_is_not_held_beyond_twelve_hours(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """SQS would refuse to extend it; the ledger handles its redelivery."""
    heartbeat = Heartbeat(queue, 30)
    heartbeat.hold([Message("m", "", "handle", 0, None)])
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 12 * 3600 - 20)
    heartbeat.start()
    while len(heartbeat):
        time.sleep(0.01)
    heartbeat.stop()
    assert heartbeat.extended == 0
    assert "message m has reached SQS's 12-hour visibility limit" in caplog.text


def test_an_extension_that_fails_is_tried_again(
    make_queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try comes before the message shows again."""
    queue = make_queue(visibility_seconds=6)
    fill(queue, 1)
    heartbeat = Heartbeat(queue, 6)
    extend, calls = queue.extend, []

    def failing_once(handles: Any, seconds: int) -> Any:
        calls.append(len(handles))
        if len(calls) == 1:
            raise QueueUnavailable("throttled")
        return extend(handles, seconds)

    monkeypatch.setattr(queue, "extend", failing_once)
    heartbeat.hold(queue.receive(1, 1))
    heartbeat.start()
    assert wait_until(lambda: heartbeat.extended >= 1)
    heartbeat.stop()
    assert calls == [1, 1]
    assert queue.state().visible == 0


def test_a_delete_that_sqs_refuses_for_now_is_tried_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the refused entries are sent again, and the heartbeat keeps them until then."""
    fill(queue, 20)
    heartbeat = Heartbeat(queue, 30)
    held = [message for _ in range(2) for message in queue.receive(10, 1)]
    heartbeat.hold(held)
    delete, calls = queue.acknowledge, []

    def refusing(handles: Sequence[Handle]) -> list[FailedEntry]:
        calls.append([handle.message_id for handle in handles])
        if len(calls) > 2:
            return delete(handles)
        delete(handles[1:])
        return [FailedEntry(handles[0], "InternalError", final=False)]

    monkeypatch.setattr(queue, "acknowledge", refusing)
    handles = [Handle(message.message_id, message.receipt_handle) for message in held]
    with ThreadPoolExecutor(1) as pool:
        assert acknowledge.acknowledge(queue, heartbeat, handles, pool) == 0
    assert calls[2:] == [[calls[0][0], calls[1][0]]]
    assert len(heartbeat) == 0
    assert queue.state().in_flight == 0


def test_a_stop_does_not_wait_for_an_sqs_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the remaining calls are not tried."""
    with EmbeddedSqs() as own:
        queue = Queue(Calls(own.client()), own.create_queue("q", dead_letter=False))
    calls: list[int] = []

    def away(handles: Sequence[Handle]) -> list[FailedEntry]:
        calls.append(len(handles))
        raise QueueUnavailable("nobody answers")

    monkeypatch.setattr(queue, "release", away)
    monkeypatch.setattr(acknowledge, "MAX_SILENCE_SECONDS", 0.5)
    held = [Message(f"m{i}", "", "handle", 0, None) for i in range(2_000)]
    with ThreadPoolExecutor(2) as pool:
        left = acknowledge.release(queue, Heartbeat(queue, 30), held, pool)
    assert left == 2_000
    assert len(calls) < 20


SIGNED_AT = "20260101T000000Z is now earlier than 20260101T060000Z (20260101T060500Z - 5 min.)"


@pytest.mark.parametrize(
    ("code", "words", "kind", "told"),
    [
        ("InvalidSignatureException", f"Signature expired: {SIGNED_AT}", QueueUnavailable, "clock"),
        ("SignatureDoesNotMatch", "Signature not yet current: ...", QueueUnavailable, "clock"),
        ("InvalidSignatureException", "The request signature we", QueueRefused, "InvalidSig"),
    ],
)
def test_a_clock_that_is_off_is_told_from_a_wrong_key(
    code: str, words: str, kind: type[Exception], told: str, sqs: EmbeddedSqs
) -> None:
    """A wrong clock passes once it is set; a wrong key does not."""
    client = sqs.client()
    with Stubber(client) as stubber:
        stubber.add_client_error("receive_message", code, words, http_status_code=403)
        with pytest.raises(kind, match=told):
            Queue(Calls(client), "").receive(10, 0)
