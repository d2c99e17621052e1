"""The faults that several campaigns inject, and the wait until every worker has recovered."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from tests.chaos.clock import Clock
from tests.chaos.proxy import Fault, RandomFaults
from tests.chaos.testbed import TICK_SECONDS, Testbed

HALF_A_DAY_SECONDS = 12 * 3600
MAX_WAIT_SECONDS = 60

# Rates of what AWS allows SQS to do, and SQS does only rarely.
SQS_RATES = {
    "redelivered": 0.3,
    "failed_entry": 0.2,
    "stale_handle": 0.05,
    "throttled": 0.2,
    "cut_after": 0.1,
    "false_empty": 0.3,
}


class CommitFaults:
    """Drops some COMMITs, and the replies to some, while ``enabled``."""

    def __init__(self, seed: int, share: float) -> None:
        self._random_faults = RandomFaults(seed, {Fault.UNANSWERED: share, Fault.LOST: share})
        self.enabled = True

    def __call__(self, request: bytes) -> Fault:
        """Choose the fault of a request."""
        return self._random_faults(request) if self.enabled else Fault.NONE


def slow_down_loads(testbed: Testbed, seconds: float, *, per_row: bool = False) -> None:
    """Make the database take this time for every load of at least one row, or for every row."""
    rows = "(select count(*) from fresh)" if per_row else "1"
    testbed.sql(
        "create sequence slow_loads; "
        "create function slow() returns trigger language plpgsql as "
        "$$ begin if exists (select from fresh) then "
        f"perform nextval('slow_loads'), pg_sleep({seconds} * {rows}); end if; "
        "return null; end $$; "
        "create trigger slow after insert on user_logins referencing new table as fresh "
        "execute function slow()"
    )


def restore_load_speed(testbed: Testbed) -> None:
    """Undo `slow_down_loads`."""
    testbed.sql("drop trigger slow on user_logins")


def slow_loads(testbed: Testbed) -> int:
    """How many loads were slowed down; those that were rolled back count, as in any sequence."""
    return int(testbed.sql("select last_value from slow_loads")[0][0])


def end_sessions(testbed: Testbed) -> int:
    """Terminate the workers' database sessions; returns how many there were."""
    statement = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where datname = current_database() and application_name = 'etl'"
    )
    return int(testbed.sql(statement)[0][0])


def jump_randomly(clock: Clock, draw: random.Random) -> None:
    """Set the wall clock half a day back, to the true time, or half a day ahead."""
    clock.jump_to(draw.choice((-HALF_A_DAY_SECONDS, 0, HALF_A_DAY_SECONDS)))


def wait_until_all_commit(testbed: Testbed) -> float:
    """Wait until every worker has committed a batch; returns the seconds that it took."""
    started = time.monotonic()
    before = _batches(testbed)
    while time.monotonic() < started + MAX_WAIT_SECONDS:
        testbed.keep_workers_running()
        batches = _batches(testbed)
        advanced = [run for run, count in batches.items() if count > before.get(run, 0)]
        if len(advanced) >= len(testbed.workers.busy_slots):
            break
        time.sleep(TICK_SECONDS)
    return time.monotonic() - started


def _batches(testbed: Testbed) -> dict[str, int]:
    """The batches of each run so far."""
    return dict(testbed.sql("select run_id::text, batches from etl.runs"))


def occasional_faults(
    testbed: Testbed, draw: random.Random, clock: Clock | None, *, full_size: bool
) -> Iterator[None]:
    """Keep the workers running, and inject at each step the faults whose time has come."""
    intervals = {"sigkill": 15.0, "terminated backend": 20.0, "restart": 45.0}
    if clock:
        intervals["clock jump"] = 30.0
    due = {
        kind: time.monotonic() + (seconds if full_size else 3)
        for kind, seconds in intervals.items()
    }
    while True:
        testbed.fired["sigkill"] += sum(ended.is_kill for ended in testbed.workers.reap())
        testbed.workers.fill()
        for kind, moment in due.items():
            if time.monotonic() < moment:
                continue
            due[kind] = time.monotonic() + intervals[kind] * draw.uniform(0.5, 1.5)
            _inject(kind, testbed, draw, clock)
        yield


def _inject(kind: str, testbed: Testbed, draw: random.Random, clock: Clock | None) -> None:
    busy = testbed.workers.busy_slots
    if kind == "sigkill" and busy:
        testbed.workers.kill(draw.choice(busy))  # counted when the worker has ended
    elif kind == "restart":
        testbed.postgres.restart("immediate")
        testbed.fired[kind] += 1
    elif kind == "clock jump" and clock:
        jump_randomly(clock, draw)
        testbed.fired[kind] += 1
    elif kind == "terminated backend":
        testbed.fired[kind] += end_sessions(testbed)
