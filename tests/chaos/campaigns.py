"""The campaigns: what each one sends, which faults it injects, and how many make it a proof.

The sizes are those of share 1, for which the promises hold; the smoke test runs a small share.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.chaos.clock import jumping_clock
from tests.chaos.crash_plans import COPY, crashing_plans
from tests.chaos.database_campaign import database
from tests.chaos.fifo_campaign import fifo
from tests.chaos.hostile_campaign import hostile_server
from tests.chaos.injected_faults import (
    SQS_RATES,
    CommitFaults,
    jump_randomly,
    occasional_faults,
    restore_load_speed,
    slow_down_loads,
    slow_loads,
    wait_until_all_commit,
)
from tests.chaos.jobs_campaign import jobs
from tests.chaos.messages import Messages
from tests.chaos.redrive_campaign import redrive
from tests.chaos.services import open_testbed
from tests.chaos.testbed import TICK_SECONDS, Result, Size, fail_unless
from tests.chaos.upsert_campaign import upsert

MAX_MB = 350  # resident memory of a worker, however many messages it has processed


def kills(seed: int, size: Size) -> Result:
    """Kill four workers with SIGKILL, at each named point in turn and at random moments."""
    planned = {"sigkill": size.of(200, 6), "different named points": size.of(12, 3)}
    plans = crashing_plans(random.Random(f"kills {seed}"))
    messages = Messages(seed, bad_share=0.01)
    settings = {"ETL_BATCH__ROWS": "500", "ETL_BATCH__SECONDS": "1"}
    with open_testbed("kills", messages, visibility_seconds=6, settings=settings) as testbed:
        testbed.sqs.set_rates(redelivered=0.05)
        testbed.send(size.of(200_000, 2000))
        points: set[str] = set()
        while any(testbed.fired[kind] < count for kind, count in planned.items()):
            for ended in testbed.workers.reap():
                testbed.fired["sigkill"] += ended.is_kill
                testbed.fired["at a named point"] += ended.reached_crash_point
                if ended.reached_crash_point:
                    points.add(str(ended.plan.crash_point))
            testbed.fired["different named points"] = len(points)
            for slot in testbed.workers.free_slots:
                testbed.workers.start(slot, next(plans))
            # A worker that finds no messages reaches no crash point.
            testbed.keep_queue_filled(2000, 2000)
            testbed.report_progress()
            time.sleep(TICK_SECONDS / 2)
        testbed.drain()
        return testbed.result(planned)


def sqs(seed: int, size: Size) -> Result:
    """Let SQS do everything that it may, with a visibility timeout of 2 s and loads of 10 s."""
    messages = Messages(seed, bad_share=0.01)
    settings = {"ETL_BATCH__ROWS": "250", "ETL_BATCH__SECONDS": "4"}
    with open_testbed("sqs", messages, visibility_seconds=2, settings=settings) as testbed:
        slow_down_loads(testbed, 10 if size.share >= 1 else 3)
        testbed.send(size.of(12_000, 1000))
        testbed.sqs.set_rates(**SQS_RATES)
        testbed.drain()
        planned = {kind: size.of(100, 5) for kind in SQS_RATES}
        testbed.fired["slow load"] = slow_loads(testbed)
        return testbed.result(planned | {"slow load": 4})


def order(seed: int, size: Size) -> Result:
    """Deliver each message three times, to four workers, in opposite orders."""
    count = size.of(40_000, 2000)
    chunk = min(1000, count // 4)
    settings = {"ETL_BATCH__ROWS": str(chunk * 3 // 4), "ETL_BATCH__SECONDS": "5"}
    with open_testbed("order", Messages(seed), visibility_seconds=10, settings=settings) as testbed:
        testbed.send(count)
        testbed.sqs.set_rates(opposite_chunk=chunk)
        testbed.drain()
        log = testbed.postgres.log_path.read_text(errors="replace")
        testbed.figures["deadlocks"] = log.count("deadlock detected")
        return testbed.result({"opposite_order": 3 * count})


def bad_input(seed: int, size: Size) -> Result:
    """Mutate every other message; the ones in between are good."""
    mutated = size.of(100_000, 1500)
    messages = Messages(seed, mutated=True)
    settings = {"ETL_BATCH__ROWS": "5000", "ETL_BATCH__SECONDS": "5"}
    with open_testbed("bad-input", messages, worker_count=2, settings=settings) as testbed:
        testbed.send(2 * mutated)
        testbed.fired["mutated"] = mutated
        testbed.drain()
        testbed.figures["quarantined"] = testbed.sql("select count(*) from etl.quarantine")[0][0]
        return testbed.result({"mutated": mutated})


def million(seed: int, size: Size) -> Result:
    """Send a million messages, redeliver 20 %, make 2 % bad, and inject a few of all faults."""
    draw = random.Random(f"million {seed}")
    commit_faults = CommitFaults(seed, 0.02)
    messages = Messages(seed, bad_share=0.02)
    settings = {**COPY, "ETL_BATCH__SECONDS": "5"}
    rates = {kind: rate / 10 for kind, rate in SQS_RATES.items()} | {"redelivered": 0.2}
    planned = {kind: size.of(1000, 1) for kind in rates if kind != "cut_after"}
    planned |= {"cut_after": size.of(100, 1), "sigkill": size.of(10, 1)}
    planned |= {"restart": size.of(5, 1), "terminated backend": size.of(20, 1)}
    with ExitStack() as stack:
        # A smoke runs without it, since not every machine has a C compiler.
        clock = stack.enter_context(jumping_clock()) if size.share >= 0.1 else None
        if clock:
            planned["clock jump"] = size.of(10, 1)
        libraries = clock.environment if clock else None
        testbed = stack.enter_context(
            open_testbed(
                "million", messages, settings=settings, policy=commit_faults, libraries=libraries
            )
        )
        testbed.sqs.set_rates(
            **rates, failed=0.005, unavailable=0.005, cut_before=0.005, slow=0.005
        )
        with testbed.sending(size.of(1_000_000, 2000)) as sender:
            full_size = planned["sigkill"] >= 10
            faults = occasional_faults(testbed, draw, clock, full_size=full_size)
            testbed.run_until_empty(lambda: next(faults), 4 * 3600, lambda: not sender.is_alive())
        result = testbed.result(planned)
        return fail_unless(result["peak_mb"] <= MAX_MB, result)


def clock(seed: int, size: Size) -> Result:
    """Make the workers' wall clock jump by 12 or 24 hours, back and forth, with some SQS faults."""
    jumps = size.of(50, 4)
    draw = random.Random(f"clock {seed}")
    settings = {"ETL_BATCH__ROWS": "300", "ETL_BATCH__SECONDS": "1"}
    with ExitStack() as stack:
        wall_clock = stack.enter_context(jumping_clock())
        testbed = stack.enter_context(
            open_testbed(
                "clock",
                Messages(seed, bad_share=0.01),
                worker_count=2,
                visibility_seconds=10,
                settings=settings,
                libraries=wall_clock.environment,
            )
        )
        testbed.sqs.set_rates(redelivered=0.1, throttled=0.02)
        testbed.send(size.of(60_000, 2000))
        slow_down_loads(testbed, 0.5)  # so that jumps hit transactions, and there is work left
        wait_until_all_commit(testbed)
        while wall_clock.jumps < jumps:
            testbed.keep_queue_filled(2000, 1000)
            jump_randomly(wall_clock, draw)
            wait_until_all_commit(testbed)
            testbed.report_progress()
        restore_load_speed(testbed)
        testbed.drain()
        testbed.fired["clock jump"] = wall_clock.jumps
        return testbed.result({"clock jump": jumps})


CAMPAIGNS: dict[str, Callable[[int, Size], Result]] = {
    "kills": kills,
    "database": database,
    "jobs": jobs,
    "hostile-server": hostile_server,
    "sqs": sqs,
    "order": order,
    "bad-input": bad_input,
    "fifo": fifo,
    "redrive": redrive,
    "upsert": upsert,
    "clock": clock,
    "million": million,
}
