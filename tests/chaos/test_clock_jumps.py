"""The wall clock jumps by half a day under a run, and nothing changes."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from tests.acceptance.job_processes import (
    ended,
    expected_users,
    held_sessions,
    ledger_locked,
    logins,
    new_job,
    numbers,
    running,
    until,
    users,
    visible,
)
from tests.chaos.clock import jumping_clock
from tests.chaos.proxy import Fate, Proxy, detour
from tests.conftest import Job

HALF_A_DAY = 12 * 3600
COUNT = 60


def test_the_clock_of_a_process_jumps_and_its_monotonic_one_does_not() -> None:
    """Or the tests below would show nothing."""
    code = (
        "import sys, time, datetime as dt\n"
        "while sys.stdin.readline():\n"
        "    print(time.time(), dt.datetime.now(dt.UTC).timestamp(), time.monotonic(), flush=True)"
    )
    with (
        jumping_clock() as clock,
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=clock.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        shown = []
        for shift in (0, HALF_A_DAY, -HALF_A_DAY):
            clock.jump_to(shift)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            shown.append([float(part) for part in process.stdout.readline().split()])
        process.stdin.close()
    before, ahead, behind = shown
    for kind in (0, 1):
        assert ahead[kind] - before[kind] == pytest.approx(HALF_A_DAY, abs=600)
        assert behind[kind] - before[kind] == pytest.approx(-HALF_A_DAY, abs=600)
    assert 0 <= behind[2] - before[2] < 600


class Hours:
    """The hours that a job's requests to SQS were signed at, off the true time."""

    def __init__(self) -> None:
        self.off: set[int] = set()

    def __call__(self, request: bytes) -> Fate:
        """Let every request pass."""
        signed = re.search(rb"X-Amz-Date: (\w+)", request, re.IGNORECASE)
        if signed:
            then = dt.datetime.strptime(signed[1].decode() + "+0000", "%Y%m%dT%H%M%SZ%z")
            self.off.add(round((then - dt.datetime.now(dt.UTC)).total_seconds() / 3600))
        return Fate.PASSED


def test_a_run_does_not_notice_that_the_clock_jumps(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """Ahead and back, under both of two workers: no message shows, no limit is reached."""
    hours, today = Hours(), dt.datetime.now(dt.UTC).date()
    port = urlsplit(sqs.endpoint_url).port or 0
    with (
        jumping_clock() as clock,
        Proxy(port, hours) as proxy,
        new_job(sqs, postgres, visibility_seconds=2) as job,
    ):
        job.send(*logins(COUNT))
        names = ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL")
        more = {name: detour(job.environment[name], proxy.port) for name in names}
        more |= {"ETL_BATCH__ROWS": str(COUNT // 4), "ETL_RUN__MAX_SECONDS": "600"}
        with (
            ledger_locked(job) as let_go,
            running(job, "--workers", "2", **more, **clock.environment) as process,
        ):
            until(lambda: len(held_sessions(job)) == 2 and visible(job) == 0, seconds=150)
            for shift in (HALF_A_DAY, -HALF_A_DAY):
                clock.jump_to(shift)
                assert not seen_by_others(job)
            let_go()
            summary = ended(process)
        assert clock.jumps == 2
        assert {-12, 12} <= hours.off
        assert (summary["received"], summary["loaded"]) == (COUNT, COUNT)
        assert summary["stop_reason"] == "idle"
        assert summary["seconds"] < 600
        assert numbers(job) == (0, 0)
        assert users(job) == expected_users(COUNT)
        dates = {date for (date,) in job.rows("select create_date from user_logins")}
        assert dates <= {today, dt.datetime.now(dt.UTC).date()}


def seen_by_others(job: Job) -> bool:
    """Whether a message that the job holds shows within twice its visibility timeout."""
    for _ in range(4):
        answer = job.client.receive_message(QueueUrl=job.queue_url, WaitTimeSeconds=1)
        if answer.get("Messages"):
            return True
    return False
