"""The campaign ``fifo``: groups under kills and faults, and one run that drains them all."""

from __future__ import annotations

import random
import time

from tests.chaos.crash_plans import crashing_plans
from tests.chaos.messages import Messages
from tests.chaos.services import open_testbed
from tests.chaos.testbed import TICK_SECONDS, Result, Size, Testbed, fail_unless
from tests.chaos.workers import WorkerPlan

VISIBILITY_SECONDS = 8
RATES = {
    "throttled": 0.05,
    "cut_after": 0.03,
    "false_empty": 0.1,
    "failed_entry": 0.05,
    "stale_handle": 0.02,
}
# It does not run forever: it must tell by itself when the groups are empty.
LAST_RUN = WorkerPlan(arguments=("run", "--idle-seconds", "3"))
MAX_LAST_RUN_SECONDS = 900


def fifo(seed: int, size: Size) -> Result:
    """Kill four workers while SQS fails in its ways; then one run must drain every group."""
    groups = size.of(400, 40)
    planned = {"sigkill": size.of(80, 3), "last run": 1}
    planned |= {kind: size.of(50, 3) for kind in RATES}
    messages = Messages(seed, bad_share=0.01, groups=groups)
    settings = {"ETL_BATCH__ROWS": "300"}
    with open_testbed(
        "fifo", messages, visibility_seconds=VISIBILITY_SECONDS, settings=settings
    ) as testbed:
        testbed.sqs.set_rates(**RATES)
        testbed.send(25 * groups)
        _kill_workers(testbed, random.Random(f"fifo {seed}"), planned)
        code = _run_to_its_end(testbed)
        testbed.figures["groups"] = groups
        testbed.figures["out_of_order"] = out_of_order = _rows_out_of_order(testbed)
        return fail_unless(code == 0 and out_of_order == 0, testbed.result(planned))


def _kill_workers(testbed: Testbed, draw: random.Random, planned: dict[str, int]) -> None:
    """Start workers and kill them until enough kills and faults have happened."""
    plans = crashing_plans(draw)
    kinds = [kind for kind in planned if kind != "last run"]
    while any((testbed.fired + testbed.sqs.fired())[kind] < planned[kind] for kind in kinds):
        for ended in testbed.workers.reap():
            testbed.fired["sigkill"] += ended.is_kill
        for slot in testbed.workers.free_slots:
            testbed.workers.start(slot, next(plans))
        # Groups of many messages, so that most of them always wait for those before them.
        testbed.keep_queue_filled(10 * testbed.history.messages.groups, 1000)
        testbed.report_progress()
        time.sleep(TICK_SECONDS)
    testbed.workers.stop()


def _run_to_its_end(testbed: Testbed) -> int | None:
    """Drain the queue by a single run, which must end by itself; returns its exit code."""
    testbed.sqs.set_rates()
    end = time.monotonic() + MAX_LAST_RUN_SECONDS
    while testbed.producer.in_flight() and time.monotonic() < end:
        time.sleep(TICK_SECONDS)  # what the killed workers held
    testbed.workers.start(0, LAST_RUN)
    while time.monotonic() < end:
        for ended in testbed.workers.reap():
            testbed.fired["last run"] += 1
            return ended.code
        testbed.report_progress()
        time.sleep(TICK_SECONDS)
    return None


def _rows_out_of_order(testbed: Testbed) -> int:
    """Rows that were committed before a row of an earlier message of their group."""
    # xmin is the transaction that inserted the row. The last digits of the user are the number.
    rows = testbed.sql("select right(user_id, 8)::int, xmin::text::bigint from user_logins")
    newest: dict[str, int] = {}
    count = 0
    for number, transaction in sorted(rows):
        group = testbed.history.messages.group(number)
        count += transaction < newest.get(group, 0)
        newest[group] = max(newest.get(group, 0), transaction)
    return count
