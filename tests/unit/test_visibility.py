"""A visibility timeout that is too short for the machine is named once, with the number to set."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from etl.sqs import visibility
from etl.sqs.acknowledge import acknowledge
from etl.sqs.call_queue import AtOnce, CallQueue
from etl.sqs.heartbeat import Heartbeat
from etl.sqs.message import Handle, Message
from etl.sqs.queue import FailedEntry
from etl.sqs.visibility import MAX_SECONDS, NEAR_SHARE, VisibilityCheck
from tests.integration.waiting import wait_until
from tests.unit.builders import message


def test_messages_that_are_extended_in_time_say_nothing() -> None:
    """Half of the timeout and a quarter are by design."""
    check = VisibilityCheck(30)
    check.came(1_000, again=0)
    check.held_unextended(24)
    assert check.needed_seconds == 0


@pytest.mark.parametrize("longest", [27.0, 35.0, 100.0])
def test_the_number_is_enough_for_the_longest_delay(longest: float) -> None:
    """An extension that is due at half of it and comes that late is in time."""
    check = VisibilityCheck(30)
    check.held_unextended(longest)
    check.held_unextended(3)
    assert check.needed_seconds / 2 + longest <= check.needed_seconds * NEAR_SHARE
    assert check.needed_seconds % 30 == 0


def test_sqs_takes_no_more_than_twelve_hours() -> None:
    """A process may have been suspended for days."""
    check = VisibilityCheck(30)
    check.held_unextended(1e6)
    assert check.needed_seconds == MAX_SECONDS


@pytest.mark.parametrize(("again", "needed"), [(5, 0), (10, 0), (15, 0), (30, 90)])
def test_many_messages_that_come_again_while_they_are_held_show_it_too(
    again: int, needed: int
) -> None:
    """A few may do so at any time."""
    check = VisibilityCheck(30)
    check.came(1_000, again=again)
    assert check.needed_seconds == needed


def test_the_line_can_be_copied_and_has_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has the number twice: as words, and as a command."""
    lines: list[str] = []
    monkeypatch.setattr(visibility.log, "warning", lambda text, *named: lines.append(text % named))
    visibility.warn("https://user:canary@sqs.example/1/q", 90)
    assert "VisibilityTimeout to at least 90 s: " in lines[0]
    assert lines[0].endswith(
        "aws sqs set-queue-attributes --queue-url https://sqs.example/1/q --attributes "
        "VisibilityTimeout=90"
    )


def test_what_sqs_refuses_for_good_counts_as_what_comes_again() -> None:
    """Extensions and deletes under receipt handles that have expired."""
    queue: Any = RefusingQueue()
    heartbeat = Heartbeat(queue, 30)
    held = [message("x", number) for number in range(30)]
    heartbeat.hold(held)
    assert acknowledge(queue, heartbeat, [m.handle for m in held[:20]], AtOnce(CallQueue(1))) == 20
    assert heartbeat.needed_seconds == 90


def test_a_failed_extension_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of messages since; a line for every ten messages helps nobody."""
    lines: list[str] = []
    log = SimpleNamespace(warning=lambda text, *named: lines.append(text % named))
    monkeypatch.setattr("etl.sqs.heartbeat.log", log)
    now = [1000.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("etl.sqs.heartbeat.time", clock)
    queue: Any = RefusingQueue()
    heartbeat = Heartbeat(queue, 30)
    for _ in range(70):
        now[0] += 1
        held = [message("x", number) for number in range(10)]
        heartbeat.hold(held)
        heartbeat._extend([m.handle for m in held])
    words = ": MessageNotInflight"
    assert lines == [f"SQS did not extend {n} of the held messages{words}" for n in (10, 600)]


class RefusingQueue:
    """Knows none of the messages any more."""

    def extend(self, handles: Any, _seconds: int = 0) -> list[FailedEntry]:
        """Refuse for good."""
        return [FailedEntry(handle, "MessageNotInflight", final=True) for handle in handles]

    acknowledge = extend


class SlowQueue:
    """Extends nothing in time: its first call does not end before the test allows it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def extend(self, _handles: Any, _seconds: int) -> list[Any]:
        """Wait, then extend."""
        self.go_on.wait(30)
        return []


def test_a_process_that_did_not_run_for_long_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was held then may be somebody else's by now."""
    said: list[int] = []
    queue: Any = SlowQueue()
    heartbeat = Heartbeat(queue, 2, said.append)
    heartbeat.hold([message("x")])
    began = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: began + 59)
    monkeypatch.setattr("etl.sqs.heartbeat.time", clock)
    heartbeat.start()
    assert wait_until(lambda: bool(said))
    time.sleep(0.5)  # four more looks
    queue.go_on.set()
    heartbeat.stop()
    assert said == [180]
    assert heartbeat.needed_seconds == 180


def test_a_delete_that_comes_late_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat's own threads may not have run since."""
    queue: Any = SlowQueue()
    heartbeat = Heartbeat(queue, 30)
    held = message("x")
    heartbeat.hold([held])
    began = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: began + 29)
    monkeypatch.setattr("etl.sqs.heartbeat.time", clock)
    heartbeat.handles([held])
    assert heartbeat.needed_seconds == 90


def test_a_message_under_a_new_handle_came_again() -> None:
    """Under the same one it did not."""
    queue: Any = SlowQueue()
    heartbeat = Heartbeat(queue, 30)
    for number in range(40):
        for receipt in ("a", "b"):
            heartbeat.hold([Message(f"m{number}", "", receipt, None, None)])
    assert heartbeat.needed_seconds == 90
    heartbeat.let_go([Handle(f"m{number}", "b") for number in range(40)])
    calm = Heartbeat(queue, 30)
    for _ in range(2):
        calm.hold([Message(f"m{number}", "", "a", None, None) for number in range(40)])
    assert calm.needed_seconds == 0
