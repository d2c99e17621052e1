"""The campaign ``database``: outages of every kind, and the time until all workers recover."""

from __future__ import annotations

import random
import time

from tests.chaos.injected_faults import (
    CommitFaults,
    end_sessions,
    restore_load_speed,
    slow_down_loads,
    wait_until_all_commit,
)
from tests.chaos.messages import Messages
from tests.chaos.services import open_testbed
from tests.chaos.testbed import Result, Size, Testbed, fail_unless

MAX_RECOVERY_SECONDS = 5.0  # promised for the time until every worker has committed again


def database(seed: int, size: Size) -> Result:
    """Restart the server, end sessions, cut connections, swallow replies to COMMIT."""
    planned = {
        "restart": size.of(50, 2),
        "terminated backend": size.of(200, 8),
        "cut": size.of(50, 4),
        "unanswered": size.of(20, 1),
    }
    commit_faults = CommitFaults(seed, 0.04)
    messages = Messages(seed, bad_share=0.01)
    settings = {"ETL_BATCH__ROWS": "40", "ETL_BATCH__SECONDS": "1"}
    with open_testbed("database", messages, settings=settings, policy=commit_faults) as testbed:
        # With small, slow loads most faults hit a transaction, and there is always work left.
        slow_down_loads(testbed, 0.5)
        testbed.send(3000)
        wait_until_all_commit(testbed)
        seconds = _recovery_seconds(testbed, seed, commit_faults, planned)
        restore_load_speed(testbed)
        testbed.drain()
        seconds.sort()
        testbed.figures["back_to_work_seconds"] = {
            "median": round(seconds[len(seconds) // 2], 1),
            "p95": round(seconds[int(len(seconds) * 0.95)], 1),
            "longest": round(seconds[-1], 1),
        }
        # Times are promised for the full size only, so a smaller run does not judge them.
        in_time = size.share < 1 or seconds[-1] <= MAX_RECOVERY_SECONDS
        return fail_unless(in_time, testbed.result(planned))


def _recovery_seconds(
    testbed: Testbed, seed: int, commit_faults: CommitFaults, planned: dict[str, int]
) -> list[float]:
    """Inject the planned faults; returns the seconds until all workers had committed after each."""
    draw = random.Random(f"database {seed}")
    seconds: list[float] = []
    while any((testbed.fired + testbed.proxy.fired)[kind] < n for kind, n in planned.items()):
        testbed.keep_queue_filled(2000, 1000)
        commit_faults.enabled = True
        time.sleep(draw.uniform(0.2, 1.5))
        commit_faults.enabled = False  # so that the time measured is that of one fault
        _inject_database_fault(testbed, draw, planned)
        seconds.append(wait_until_all_commit(testbed))
        testbed.report_progress()
    commit_faults.enabled = True
    return seconds


def _inject_database_fault(testbed: Testbed, draw: random.Random, planned: dict[str, int]) -> None:
    """Inject one of the kinds of fault that have not reached their planned number."""
    fired = testbed.fired + testbed.proxy.fired
    kinds = [k for k in ("restart", "terminated backend", "cut") if fired[k] < planned[k]]
    kind = draw.choice(kinds or ["cut"])
    if kind == "restart":
        testbed.postgres.restart(draw.choice(("immediate", "fast")))
        testbed.fired[kind] += 1
    elif kind == "cut":
        testbed.proxy.cut()
    else:
        testbed.fired[kind] += end_sessions(testbed)
