"""Runs whose output or errors nobody can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import ROOT, Job
from tests.fork_server import Fork
from tests.unit.builders import EVENT, some_long

GOOD = [json.dumps({**EVENT, "user_id": f"u{number}"}) for number in range(6)]


@contextmanager
def unwritable(kind: str) -> Iterator[int]:
    """Open a file that takes nothing: on a full disk, or a pipe whose reader has gone."""
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "case",
    some_long([
        ("dead", {"ETL_RUN__WORKERS": "2"}),
        ("full", {"ETL_RUN__MAX_MESSAGES": "6"}),
        ("dead", {"ETL_RUN__MAX_MESSAGES": "6", "ETL_LOG__LEVEL": "debug"}),
        ("full", {"ETL_RUN__WORKERS": "2", "ETL_LOG__FORMAT": "json"}),
    ]),
)  # fmt: skip
def test_a_run_whose_log_nobody_can_read_does_its_work(
    job: Job, case: tuple[str, dict[str, str]]
) -> None:
    """Its summary and its exit code are those of any other run, also with several workers."""
    kind, variables = case
    job.send(*GOOD)
    arguments = ["run", "--json", "--idle-seconds", "1"]
    with (
        unwritable(kind) as err,
        Fork(arguments, {**job.environment, **variables}, None, err=err) as process,
    ):
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["loaded"] == 6
    assert job.left() == 0


@pytest.mark.parametrize(
    ("kind", "arguments", "why"),
    [
        ("full", ["--json"], "No space left on device"),
        *some_long([("dead", [], "Broken pipe")]),
    ],
)
def test_a_run_whose_summary_is_lost_is_complete_and_says_so_once(
    job: Job, kind: str, arguments: list[str], why: str
) -> None:
    """Its exit code says how the run ended, not that nobody listened."""
    job.send(*GOOD)
    command = ["run", "--max-messages", "6", *arguments]
    with (
        unwritable(kind) as out,
        Fork(command, job.environment, None, out=out) as process,
    ):
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    sentence = f"cannot write to standard output: {why}; the summary is lost, and the work is done"
    assert errors.splitlines()[-1] == sentence
    assert errors.count("standard output") == 1
    assert job.left() == 0


@pytest.mark.parametrize("kind", some_long(["full", "dead"]))
def test_the_exit_code_of_a_stopped_run_survives_the_loss_of_both_streams(
    job: Job, kind: str
) -> None:
    """The scheduler has nothing else to go by."""
    job.send("not JSON")
    variables = {"ETL_QUARANTINE__MAX_FRACTION": "0", "ETL_QUARANTINE__MIN_MESSAGES": "1"}
    arguments = ["run", "--max-messages", "1"]
    with (
        unwritable(kind) as lost,
        Fork(arguments, {**job.environment, **variables}, None, out=lost, err=lost) as process,
    ):
        process.communicate(timeout=60)
    assert process.returncode == 3


@pytest.mark.parametrize(("kind", "code"), [("full", 1), ("dead", 141)])
def test_a_command_whose_result_is_lost_has_not_done_its_work(
    job: Job, kind: str, code: int
) -> None:
    """A reader who leaves, as head does, is told nothing: it knows."""
    assert job.command("init").returncode == 0
    with unwritable(kind) as out, Fork(["history"], job.environment, None, out=out) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    full = "error: cannot write to standard output: No space left on device\n"
    assert errors == (full if kind == "full" else "")


@pytest.mark.long
@pytest.mark.parametrize("closing", ["2>&-", "<&- 2>&- >&-", "<&- >&-"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_with_closed_streams_loads_everything(job: Job, closing: str, workers: int) -> None:
    """No connection to the database gets the log lines."""
    job.send(*GOOD)
    done = subprocess.run(
        ["bash", "-c", f"exec {sys.executable} -m etl run --idle-seconds 1 --json {closing}"],
        env={**job.environment, "ETL_RUN__WORKERS": str(workers), "ETL_LOG__LEVEL": "debug"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert job.rows("select count(*) from user_logins") == [(6,)]
    assert job.left() == 0
