"""The campaign ``jobs``: several jobs on one database, with equal events under equal ids."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack, closing
from dataclasses import replace

from tests.chaos.checker import TABLE
from tests.chaos.crash_plans import crashing_plans
from tests.chaos.messages import Messages
from tests.chaos.producer import History, Producer
from tests.chaos.services import make_tables, open_testbed
from tests.chaos.testbed import MAX_DRAIN_SECONDS, TICK_SECONDS, OtherJob, Result, Size, Testbed
from tests.chaos.workers import PLAIN_RUN, WorkerPlan

VISIBILITY_SECONDS = 6
WORKERS_PER_JOB = 2
TOP_UP = 150  # messages for each job, sent when fewer are visible

# The ledger's key of each job, by table. All of them get the same messages, in the same order.
KEYS = {
    TABLE: "field:user_id",
    "public.logins_by_body": "body",
    "public.logins_by_id": "message_id",
}


def jobs(seed: int, size: Size) -> Result:
    """Kill the workers of three jobs, redeliver, and send some events to each job twice."""
    planned = {
        "sigkill": size.of(120, 6),
        "redelivered": size.of(3000, 20),
        "sent again": size.of(4900, 50),  # a quarter of the good events
    }
    draw = random.Random(f"jobs {seed}")
    plans = crashing_plans(draw)
    messages = Messages(seed, bad_share=0.01)
    settings = {"ETL_BATCH__ROWS": "300", "ETL_BATCH__SECONDS": "1"}
    with ExitStack() as stack:
        testbed = stack.enter_context(
            open_testbed(
                "jobs",
                messages,
                worker_count=WORKERS_PER_JOB * len(KEYS),
                visibility_seconds=VISIBILITY_SECONDS,
                settings=settings,
            )
        )
        queues = _other_jobs(stack, testbed)
        testbed.sqs.set_rates(redelivered=0.1, same_ids=True)
        _send(testbed, size.of(20_000, 200), draw)
        while testbed.fired["sigkill"] < planned["sigkill"]:
            testbed.fired["sigkill"] += sum(ended.is_kill for ended in testbed.workers.reap())
            for slot in testbed.workers.free_slots:
                testbed.workers.start(slot, _of_job(queues, slot, next(plans)))
            # A worker that finds no messages reaches no crash point.
            if testbed.producer.visible() < TOP_UP:
                _send(testbed, TOP_UP, draw)
            testbed.report_progress()
            time.sleep(TICK_SECONDS / 2)

        def keep_workers_running() -> None:
            testbed.workers.reap()
            for slot in testbed.workers.free_slots:
                testbed.workers.start(slot, _of_job(queues, slot, PLAIN_RUN))

        testbed.run_until_empty(keep_workers_running, MAX_DRAIN_SECONDS)
        return testbed.result(planned)


def _other_jobs(stack: ExitStack, testbed: Testbed) -> list[str]:
    """Create the queues and tables of the other jobs; returns the queues of all, in order."""
    queues = [testbed.environment["ETL_QUEUE__URL"]]
    for table in list(KEYS)[1:]:
        name = table.rpartition(".")[2]
        queue_url = testbed.sqs.create_queue(
            name, max_receive_count=1000, visibility_seconds=VISIBILITY_SECONDS
        )
        make_tables(testbed.database_url, name)
        producer = stack.enter_context(closing(Producer(queue_url)))
        testbed.other_jobs.append(OtherJob(History(testbed.history.messages), producer, table))
        queues.append(queue_url)
    return queues


def _of_job(queues: list[str], slot: int, plan: WorkerPlan) -> WorkerPlan:
    """The plan, for the job whose workers have this slot."""
    number = slot % len(queues)
    table = list(KEYS)[number]
    variables = {
        **dict(plan.variables),
        "ETL_QUEUE__URL": queues[number],
        "ETL_TABLE__NAME": table.rpartition(".")[2],
        "ETL_LEDGER__KEY": KEYS[table],
    }
    return replace(plan, variables=tuple(variables.items()))


def _send(testbed: Testbed, count: int, draw: random.Random) -> None:
    """Send the next messages to all jobs, and some good events again to those with such a key."""
    first = testbed.history.sent
    testbed.send(count)
    good = [n for n in range(first, first + count) if testbed.history.messages.is_good(n)]
    again = draw.sample(good, len(good) // 4)
    testbed.producer.send_again(testbed.history, again)
    for job in testbed.other_jobs:
        job.producer.send(job.history, count)
        if KEYS[job.table] != "message_id":
            job.producer.send_again(job.history, again)
    testbed.fired["sent again"] += len(again)
