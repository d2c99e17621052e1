"""What a run imports: pandas and pandera only if there are messages."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT, Job
from tests.unit.builders import event

# Libraries that only a batch needs; to import them costs more CPU than the rest of a start.
FOR_BATCHES = {"pandas", "pandera"}

# Runs the job in a new process, and prints which of these libraries it has imported: before the
# first receive, which is when the display of the progress begins, and at the end.
PROGRAM = """
import contextlib, json, os, sys
from pathlib import Path
from etl import config, job

found = []

def note(*_):
    found.append(sorted({"pandas", "pandera"} & set(sys.modules)))
    return contextlib.nullcontext()

settings = config.load(Path("config.yaml"), os.environ)
loaded = job.run(settings, os.environ, watch=note).counts.loaded
note()
print(json.dumps([loaded, *found]))
"""


@pytest.fixture
def run(job: Job) -> Any:
    """Return a function that runs the program above."""

    def run_program() -> Any:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**job.environment, "ETL_RUN__IDLE_SECONDS": "1"},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_program


def test_a_run_that_finds_nothing_imports_neither_pandas_nor_pandera(run: Any) -> None:
    """Most runs of a schedule find nothing, and cost half as much CPU without them."""
    assert run() == [0, [], []]


def test_the_stages_are_imported_before_waiting_messages_are_received(job: Job, run: Any) -> None:
    """An import that fails must not cost the messages a receive."""
    job.send(event())
    assert run() == [1, sorted(FOR_BATCHES), sorted(FOR_BATCHES)]


def test_s3_is_imported_only_for_a_job_that_wants_it(job: Job) -> None:
    """Nothing of it is imported, and so nothing opened."""
    job.send(event())
    code = (
        "import sys; from etl.cli import main\n"
        "main(['run', '--idle-seconds', '0.1'], standalone_mode=False)\n"
        "sys.exit(repr({'etl.aws.objects', 'etl.reading.payloads'} & set(sys.modules) or 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=job.environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr.splitlines()[-1] == "0"


def test_the_command_prints_its_summary_without_pandas(job: Job) -> None:
    """The output imports no more than the run."""
    code = (
        "import sys; from etl.cli import main\n"
        "main(['run', '--idle-seconds', '0.1'], standalone_mode=False)\n"
        f"sys.exit(repr({FOR_BATCHES} & set(sys.modules) or 0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=job.environment, capture_output=True, text=True, cwd=ROOT
    )
    assert "stopped: idle" in done.stdout
    assert done.stderr.splitlines()[-1] == "0"
