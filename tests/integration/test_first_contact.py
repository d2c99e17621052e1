"""The first contact with AWS, from the command line: one line, an exit code, and an end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from etl import job as job_module
from etl.config import Settings
from tests.chaos.proxy import Fault, Proxy, RandomFaults, via_proxy
from tests.conftest import Job
from tests.unit.builders import event, some_long

REFUSED = "http://127.0.0.1:9"
COMMANDS = ["run", "run --workers 2", "run --dry-run", "send --sample 1"]


@pytest.mark.parametrize("command", some_long(COMMANDS))
def test_a_fault_in_the_aws_configuration_is_one_line(
    command: str, job: Job, tmp_path: Path
) -> None:
    """Whichever command meets it."""
    (tmp_path / "config").write_text("[profile nightly]\n")
    done = job.command(
        *command.split(), AWS_PROFILE="nigthly", AWS_CONFIG_FILE=str(tmp_path / "config")
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: AWS_PROFILE names profile 'nigthly', which does not exist; did you mean "
        "'nightly'?\n"
    )


@pytest.mark.parametrize("command", some_long(COMMANDS))
def test_a_queue_that_does_not_exist_is_one_line(command: str, job: Job) -> None:
    """It says where SQS was asked."""
    endpoint, region = job.environment["AWS_ENDPOINT_URL"], job.environment["AWS_REGION"]
    done = job.command(*command.split(), ETL_QUEUE__URL=f"{endpoint}/000000000000/nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: SQS answered 'AWS.SimpleQueueService.NonExistentQueue' ")
    assert done.stderr.endswith(
        "there is no such queue: check 'queue.url' and the region "
        f"(asked at {endpoint}, region '{region}')\n"
    )


@pytest.mark.parametrize("command", some_long(COMMANDS))
def test_an_outage_at_the_start_is_waited_out(command: str, job: Job) -> None:
    """As one of the database is, and then the command does its work."""
    endpoint = job.environment["AWS_ENDPOINT_URL"]
    port = int(endpoint.rpartition(":")[2])
    # botocore itself tries three times.
    faults = RandomFaults(1, {Fault.LOST: 1.0}, among=lambda _: True, max_faults=4)
    with Proxy(port, faults) as proxy:
        idle = {"ETL_RUN__IDLE_SECONDS": "1"}
        done = job.command(
            *command.split(), AWS_ENDPOINT_URL=via_proxy(endpoint, proxy.port), **idle
        )
    assert done.returncode == 0, done.stderr
    assert "no answer from SQS to" in done.stderr


@pytest.mark.parametrize("command", some_long(COMMANDS[:3]))
def test_a_signal_ends_the_wait_for_sqs(command: str, job: Job) -> None:
    """Nothing has been received, so nothing has to be finished."""
    with job.start(*command.split(), AWS_ENDPOINT_URL=REFUSED) as process:
        assert process.stderr is not None
        assert "no answer from SQS to" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.endswith("nothing was received, and SIGTERM has ended the wait for SQS\n")


@pytest.mark.parametrize("command", some_long(COMMANDS[:3]))
def test_the_time_of_the_run_ends_the_wait_for_sqs(command: str, job: Job) -> None:
    """It is shorter than the wait."""
    done = job.command(*command.split(), "--max-seconds", "1", AWS_ENDPOINT_URL=REFUSED)
    assert done.returncode == 1
    assert "max_seconds has ended the wait for SQS" in done.stderr


def test_the_job_uses_the_aws_variables_that_it_is_given(
    job: Job, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs it may have others of its own."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.setenv(name, "other")
    job.send(event())
    summary = job_module.run(settings(run__idle_seconds=1), job.environment)
    assert (summary.counts.loaded, summary.exit_code) == (1, 0)
