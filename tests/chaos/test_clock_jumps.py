"""The wall clock jumps by half a day during a run, and nothing changes."""

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
from tests.chaos.proxy import Fault, Proxy, via_proxy
from tests.conftest import Job

HALF_A_DAY_SECONDS = 12 * 3600
COUNT = 60


def test_the_wall_clock_of_a_process_jumps_and_its_monotonic_clock_does_not() -> None:
    """Without this the test below would prove nothing."""
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
        times = []
        for shift in (0, HALF_A_DAY_SECONDS, -HALF_A_DAY_SECONDS):
            clock.jump_to(shift)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            times.append([float(part) for part in process.stdout.readline().split()])
        process.stdin.close()
    before, ahead, behind = times
    for kind in (0, 1):
        assert ahead[kind] - before[kind] == pytest.approx(HALF_A_DAY_SECONDS, abs=600)
        assert behind[kind] - before[kind] == pytest.approx(-HALF_A_DAY_SECONDS, abs=600)
    assert 0 <= behind[2] - before[2] < 600


class SignatureTimes:
    """Records how many hours the signatures of a job's requests to SQS are off the true time."""

    def __init__(self) -> None:
        self.hours_off: set[int] = set()

    def __call__(self, request: bytes) -> Fault:
        """Let every request pass."""
        signed = re.search(rb"X-Amz-Date: (\w+)", request, re.IGNORECASE)
        if signed:
            then = dt.datetime.strptime(signed[1].decode() + "+0000", "%Y%m%dT%H%M%SZ%z")
            self.hours_off.add(round((then - dt.datetime.now(dt.UTC)).total_seconds() / 3600))
        return Fault.NONE


@pytest.mark.long
def test_a_run_does_not_notice_that_the_clock_jumps(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres
) -> None:
    """It jumps ahead and back for both workers: no message becomes visible, no limit is reached."""
    signature_times = SignatureTimes()
    today = dt.datetime.now(dt.UTC).date()
    port = urlsplit(sqs.endpoint_url).port or 0
    with (
        jumping_clock() as clock,
        Proxy(port, signature_times) as proxy,
        new_job(sqs, postgres, visibility_seconds=4) as job,
    ):
        job.send(*logins(COUNT))
        names = ("AWS_ENDPOINT_URL", "ETL_QUEUE__URL")
        settings = {name: via_proxy(job.environment[name], proxy.port) for name in names}
        settings |= {"ETL_BATCH__ROWS": str(COUNT // 4), "ETL_RUN__MAX_SECONDS": "600"}
        with (
            ledger_locked(job) as release,
            running(job, "--workers", "2", **settings, **clock.environment) as process,
        ):
            until(lambda: len(held_sessions(job)) == 2 and visible(job) == 0, seconds=150)
            for shift in (HALF_A_DAY_SECONDS, -HALF_A_DAY_SECONDS):
                clock.jump_to(shift)
                assert not visible_to_others(job)
            release()
            summary = ended(process)
        assert clock.jumps == 2
        assert {-12, 12} <= signature_times.hours_off
        assert (summary["received"], summary["loaded"]) == (COUNT, COUNT)
        assert summary["stop_reason"] == "idle"
        assert summary["seconds"] < 600
        assert numbers(job) == (0, 0)
        assert users(job) == expected_users(COUNT)
        dates = {date for (date,) in job.rows("select create_date from user_logins")}
        assert dates <= {today, dt.datetime.now(dt.UTC).date()}


def visible_to_others(job: Job) -> bool:
    """Whether another consumer gets a message within twice the visibility timeout."""
    for _ in range(8):
        answer = job.client.receive_message(QueueUrl=job.queue_url, WaitTimeSeconds=1)
        if answer.get("Messages"):
            return True
    return False
