"""A look at the queue shows no value, gives every message back at once, and says what it costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from etl import config
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import LeftMessages, QueueRefused, QueueUnavailable
from etl.operations.peek import peek
from etl.sqs.limits import Stop
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry, QueueState
from etl.sqs.redrive import RedrivePolicy
from tests import fork_server
from tests.acceptance.job_processes import until
from tests.acceptance.leak_scan import search
from tests.chaos.proxy import Fault, Proxy, via_proxy
from tests.unit.builders import ROOT, event

CANARY = ("Quixotella", "203.0.113.77", "Vortigern@example.org", "8675309867")


class Place:
    """A queue, and the command line without a database and without keys."""

    def __init__(self, sqs: EmbeddedSqs, ending: str = "", **queue: Any) -> None:
        name = f"peek-{uuid.uuid4().hex[:12]}{ending}"
        self.client = sqs.client()
        self.url = sqs.create_queue(name, **queue)
        self.port = urlsplit(sqs.endpoint_url).port or 0
        self.environment = {
            "PATH": os.environ["PATH"],
            **sqs.environment,
            "ETL_QUEUE__URL": self.url,
        }

    def send(self, *bodies: str, **more: Any) -> None:
        """Send messages, one after the other."""
        for body in bodies:
            self.client.send_message(QueueUrl=self.url, MessageBody=body, **more)

    def peek(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Look at the queue."""
        return fork_server.run(("peek", *arguments), self.environment, None)

    def counts(self) -> tuple[int, int]:
        """The messages that are visible, and those in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        visible, in_flight = (int(answer["Attributes"][name]) for name in names)
        return visible, in_flight

    def received(self) -> list[tuple[str, int]]:
        """Receive ten messages: the body and the receive count of each, in their order."""
        answer = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["ApproximateReceiveCount"],
        )
        return [
            (message["Body"], int(message["Attributes"]["ApproximateReceiveCount"]))
            for message in answer["Messages"]
        ]


def test_a_look_shows_no_value_and_changes_no_more_than_the_receive_counts(
    sqs: EmbeddedSqs,
) -> None:
    """In fields, names, attributes and bodies that cannot be read; without database and keys."""
    place = Place(sqs)
    attributes = {CANARY[0]: {"DataType": "String", "StringValue": CANARY[2]}}
    place.send(
        event(user_id=CANARY[0], ip=CANARY[1], device_id=CANARY[3]),
        json.dumps({CANARY[2]: {CANARY[0]: CANARY[1]}, CANARY[0]: [CANARY[3]]}),
        CANARY[0],
        f"{{{CANARY[1]}",
        json.dumps([CANARY[2]]),
        CANARY[3],
        MessageAttributes=attributes,
    )
    place.environment["ETL_LOG__LEVEL"] = "debug"
    for arguments in ((), ("--json",)):
        done = place.peek(*arguments)
        assert done.returncode == 0, done.stderr
        assert "after 5 receives (maxReceiveCount)" in done.stderr
        places = {"out": done.stdout.encode(), "err": done.stderr.encode()}
        assert search(places.items(), CANARY) == set()
        assert place.counts() == (6, 0)
    assert json.loads(done.stdout)["receive_count"] == 2
    assert [count for _, count in place.received()] == [3] * 6


@pytest.mark.parametrize(("messages", "seen"), [("12", 12), ("100", 25)])
def test_as_many_messages_are_looked_at_as_asked(
    sqs: EmbeddedSqs, messages: str, seen: int
) -> None:
    """Or as many as there are; each once."""
    place = Place(sqs, dead_letter=False)
    place.send(*(event(user_id=f"u{number}") for number in range(25)))
    done = place.peek("--messages", messages, "--json")
    look = json.loads(done.stdout)
    assert (look["messages"], look["given_back"], look["max_receive_count"]) == (seen, seen, None)
    assert place.counts() == (25, 0)
    assert "maxReceiveCount" not in done.stderr


@pytest.mark.parametrize("maximum", [1, 3])
def test_a_queue_that_allows_few_receives_is_not_looked_at(sqs: EmbeddedSqs, maximum: int) -> None:
    """Nothing is received, and there is no option to do it all the same."""
    place = Place(sqs, max_receive_count=maximum)
    place.send("{}")
    done = place.peek()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"maxReceiveCount is {maximum}" in done.stderr
    assert place.received() == [("{}", 1)]


def test_a_look_that_leaves_few_receives_says_so_and_fails(sqs: EmbeddedSqs) -> None:
    """Two are left for the runs that follow; what was received is shown, and then no more."""
    place = Place(sqs, max_receive_count=4)
    place.send(*(event(user_id=f"u{number}") for number in range(20)))
    for number in (1, 2):
        done = place.peek("--messages", "20")
        assert done.returncode == 0, done.stderr
        assert f"it was receive {number} of 4 (maxReceiveCount)" in done.stdout
    done = place.peek("--messages", "20", "--json")
    assert done.returncode == 1
    assert "this look was receive 3; load the messages before you look again" in done.stderr
    assert json.loads(done.stdout)["messages"] == 10
    assert place.counts() == (20, 0)


def test_an_empty_queue_is_said_to_be_empty(sqs: EmbeddedSqs) -> None:
    """Unless another consumer holds its messages."""
    place = Place(sqs)
    done = place.peek()
    assert (done.returncode, done.stdout) == (0, "the queue is empty\n")
    place.send("{}")
    place.received()
    assert "0 visible, 1 in flight, 0 delayed" in place.peek().stdout
    assert json.loads(place.peek("--json").stdout)["before"]["in_flight"] == 1


def test_a_fifo_queue_keeps_its_order(sqs: EmbeddedSqs) -> None:
    """SQS shows ten messages of a group at most, while they are held."""
    place = Place(sqs, ".fifo")
    for number in range(12):
        place.send(f"{number}", MessageGroupId="g", MessageDeduplicationId=f"{number}")
    done = place.peek("--messages", "12")
    assert "given back: 10; it was receive 1 of 5" in done.stdout
    assert place.counts() == (12, 0)
    assert place.received() == [(f"{number}", 2) for number in range(10)]


@contextmanager
def held_up(place: Place, fault: Fault) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Hold up the receives of a look: until the second event is set, or for good by a fault.

    The first event is set when a receive begins.
    """
    began, goes_on = threading.Event(), threading.Event()

    def policy(request: bytes) -> Fault:
        if b"ReceiveMessage" not in request:
            return Fault.NONE
        began.set()
        if fault is Fault.NONE:
            goes_on.wait(60)
        return fault

    with Proxy(place.port, policy) as proxy:
        for name in ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL"):
            place.environment[name] = via_proxy(place.environment[name], proxy.port)
        yield began, goes_on


def test_a_signal_gives_the_messages_back(sqs: EmbeddedSqs) -> None:
    """Those of a receive in progress too."""
    place = Place(sqs)
    place.send(*["{}"] * 5)
    with held_up(place, Fault.NONE) as (began, goes_on):
        process = fork_server.start(("peek",), place.environment, None)
        assert began.wait(60)
        process.send_signal(signal.SIGINT)
        goes_on.set()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Ctrl-C: giving the messages back; a second signal leaves them" in err
    assert "given back: 5" in out
    assert place.counts() == (5, 0)


def test_a_second_signal_leaves_the_messages_to_the_visibility_timeout(sqs: EmbeddedSqs) -> None:
    """A person does not wait for an answer that never comes."""
    place = Place(sqs)
    place.send(*["{}"] * 5)
    with held_up(place, Fault.SILENT):
        process = fork_server.start(("peek",), place.environment, None)
        until(lambda: place.counts() == (0, 5))
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
    assert "what is held comes back after the visibility timeout" in err
    assert place.counts() == (0, 5)


class StandInQueue:
    """A queue whose receives do what a test says, and that notes what is given back."""

    def __init__(self, *receives: Any, refuses_release: bool = False) -> None:
        self.receives = list(receives)
        self.released: list[str] = []
        self.refuses_release = refuses_release

    def receive(self, limit: int, wait_seconds: int) -> list[Message]:
        """Return what the plan has next, or raise it."""
        planned = self.receives.pop(0)
        if isinstance(planned, BaseException):
            raise planned
        came: list[Message] = planned
        return came

    def release(self, handles: list[Handle]) -> list[FailedEntry]:
        """Note which messages are given back."""
        if self.refuses_release:
            raise QueueRefused("allow sqs:ChangeMessageVisibility")
        self.released += [handle.receipt_handle for handle in handles]
        return []


STATE = QueueState(30, 5, 0, redrive=RedrivePolicy("arn:aws:sqs:r:1:dead", 9))
SETTINGS = config.load(ROOT / "config.yaml", {})


def delivered(*names: str, receive_count: int = 1) -> list[Message]:
    """Messages whose handles are their ids with an apostrophe for each later delivery."""
    return [Message(name[:1], "{}", name, 0, None, receive_count=receive_count) for name in names]


@pytest.mark.parametrize("error", [QueueUnavailable("away"), KeyboardInterrupt(), MemoryError()])
def test_whatever_ends_a_look_gives_the_messages_back(error: BaseException) -> None:
    """An outage, or a bug."""
    queue: Any = StandInQueue(delivered("a", "b"), error)
    with pytest.raises(type(error)):
        peek(queue, STATE, SETTINGS, 10, Stop())
    assert queue.released == ["a", "b"]


def test_a_message_that_comes_again_ends_the_look() -> None:
    """Each further delivery would be a receive; the newest handle gives it back."""
    queue: Any = StandInQueue(delivered("a", "b"), delivered("b'", "a'", receive_count=2))
    look = peek(queue, STATE, SETTINGS, 10, Stop())
    assert (look.messages, look.receive_count) == (2, 2)
    assert queue.released == ["a'", "b'"]


def test_messages_that_cannot_be_given_back_fail_the_look() -> None:
    """They are hidden for the visibility timeout, and somebody may miss them."""
    queue: Any = StandInQueue(delivered("a", "b"), [], refuses_release=True)
    look = peek(queue, STATE, SETTINGS, 10, Stop())
    with pytest.raises(LeftMessages, match="not given back: 2 of 2 messages;"):
        look.check_cost()
