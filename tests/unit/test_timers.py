"""When a batch closes by its age and when receiving ends, at times of the tests' own choosing."""

from __future__ import annotations

import math
from typing import Any

from etl.sqs.limits import Limits
from etl.sqs.timers import Timers


def timers(now: float = 1000.0, **changes: Any) -> Timers:
    """Start timers with an idle time of 30 s and a batch age of 20 s."""
    values = {
        "max_rows": 10,
        "max_bytes": 100,
        "batch_seconds": 20.0,
        "idle_seconds": 30.0,
        "max_seconds": None,
        "wait_seconds": 5,
        "retry_seconds": 300.0,
    }
    return Timers(Limits(**{**values, **changes}), now)


def test_a_silent_queue_is_idle_after_the_idle_time() -> None:
    """Counted from the start when nothing has come."""
    clock = timers()
    assert clock.reason_to_stop(1029.9) is None
    assert clock.reason_to_stop(1030.0) == "idle"


def test_a_message_begins_the_idle_time_anew() -> None:
    """Counted from the last one."""
    clock = timers()
    clock.messages_came(1029.0)
    assert clock.reason_to_stop(1058.9) is None
    assert clock.reason_to_stop(1059.0) == "idle"


def test_an_outage_is_not_silence() -> None:
    """The queue may be full while SQS is away."""
    clock = timers()
    clock.queue_was_away(1029.0)
    assert clock.reason_to_stop(1058.9) is None


def test_waiting_for_room_is_not_silence() -> None:
    """Until the batch is taken, and from then on the idle time begins anew."""
    clock = timers()
    clock.messages_came(1001.0)
    clock.buffer_was_full()
    assert clock.reason_to_stop(2000.0) is None
    clock.batch_was_taken(2000.0)
    assert clock.reason_to_stop(2029.9) is None
    assert clock.reason_to_stop(2030.0) == "idle"


def test_taking_a_batch_that_was_not_full_does_not_lengthen_the_idle_time() -> None:
    """The queue has been silent all the while."""
    clock = timers()
    clock.messages_came(1001.0)
    clock.batch_was_taken(1021.0)
    assert clock.reason_to_stop(1031.0) == "idle"


def test_a_run_that_goes_on_forever_is_never_idle() -> None:
    """Its idle time has no end."""
    assert timers(idle_seconds=math.inf).reason_to_stop(1e9) is None


def test_the_longest_time_of_a_run_counts_from_its_start() -> None:
    """Messages do not lengthen it, and it comes before idleness."""
    clock = timers(max_seconds=60.0)
    clock.messages_came(1059.0)
    assert clock.reason_to_stop(1059.9) is None
    assert clock.reason_to_stop(1060.0) == "max_seconds"
    assert timers(max_seconds=60.0).reason_to_stop(1060.0) == "max_seconds"


def test_a_batch_is_old_by_its_first_message() -> None:
    """Later messages do not make it younger."""
    clock = timers()
    clock.messages_came(1005.0)
    clock.messages_came(1020.0)
    assert not clock.batch_is_old(1024.9)
    assert clock.batch_is_old(1025.0)


def test_a_batch_without_a_message_never_grows_old() -> None:
    """Neither before the first message nor after the batch was taken."""
    clock = timers()
    assert not clock.batch_is_old(1e9)
    clock.messages_came(1005.0)
    clock.batch_was_taken(1010.0)
    assert not clock.batch_is_old(1e9)
