"""Worker processes: one that meets a bug, and when one that died is replaced."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import config, logs
from etl.errors import UsageError
from etl.postgres.event_counts import EventCounts
from etl.postgres.findings import Findings
from etl.runs import Counts, Run, Share, Totals, WorkerResult
from etl.sqs.limits import Stop
from etl.sqs.quota import NoQuota
from etl.workers import process, restarts
from etl.workers.fork_server import ForkServer
from etl.workers.pool import check_may_start_processes, first_batch, run_workers
from etl.workers.restarts import Restarts
from etl.workers.results import Worker, sum_results
from tests.unit.builders import ROOT


def end_of_a_worker(error: Exception, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exit code of a worker whose work ends with an error."""

    def buggy(*_: Any) -> WorkerResult:
        raise error

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logs, "hide_values_in_tracebacks", lambda: None)
    monkeypatch.setattr(logs, "open_standard_streams", lambda: None)
    monkeypatch.setattr(logs, "start", lambda *_: None)
    settings = config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"})
    parent_end, worker_end = multiprocessing.Pipe()
    with parent_end, pytest.raises(SystemExit) as ended:
        process.run_worker(settings, Share(Run("run", "hash")), NoQuota(), worker_end, buggy)
    return ended.value.code


def test_a_bug_in_a_worker_is_shown_without_its_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By itself, multiprocessing would print the whole traceback, with the values in it."""
    assert end_of_a_worker(ValueError("canary-value"), monkeypatch) == 1
    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert "canary" not in shown


def test_a_worker_that_may_open_no_more_files_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The places of the error would tell nobody which limit to raise."""
    assert end_of_a_worker(OSError(errno.EMFILE, "canary"), monkeypatch) == 1
    words = "too many open files: raise the limit of this process (ulimit -n)"
    assert caplog.messages == [f"a worker cannot go on: {words}"]
    assert ".py" not in capsys.readouterr().err


def test_a_dead_worker_is_replaced_soon_and_later_each_time() -> None:
    """Until so many have died within ten minutes that another one would not help."""
    deaths = Restarts(workers=2)
    pauses = [deaths.died(1000.0 + second) for second in range(7)]
    assert pauses == [1, 2, 4, 8, 16, 32, None]


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
def test_deaths_that_are_far_apart_are_replaced_for_ever(workers: int) -> None:
    """A worker that dies once a week is replaced after a second each time."""
    deaths = Restarts(workers)
    assert {deaths.died(week * 604_800.0) for week in range(100)} == {1.0}


def test_no_pause_is_longer_than_a_minute() -> None:
    """However many workers there are, and die together."""
    deaths = Restarts(workers=64)
    pauses = [deaths.died(0.0) for _ in range(192)]
    assert max(pause for pause in pauses if pause) == 60
    assert None not in pauses
    assert deaths.died(1.0) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=6))
def test_no_two_batches_of_a_run_have_one_number(lives: list[tuple[int, int]]) -> None:
    """Whatever workers die after however many batches, each perhaps with one more on its way."""
    workers, committed, used = 4, 0, Counter[int]()
    run = Run("run", "hash")
    for index in range(workers):
        used.update(Share(run, index, workers).batch_number(batches) for batches in range(3))
        committed += 2
    for number, (index, batches) in enumerate(lives):
        share = Share(run, index, workers, first_batch=first_batch(committed, number))
        used.update(share.batch_number(done) for done in range(batches + 1))
        committed += batches
    assert set(used.values()) == {1}


def dies(*_: Any) -> WorkerResult:
    """End like a process that the kernel has killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class NoRow(Run):
    """A run without a database."""

    def committed(self, _: Any) -> tuple[Counts, int]:
        """Nothing was committed."""
        return Counts(), 0

    def committed_events(self, engine: Any) -> EventCounts:
        """Nor have events."""
        return EventCounts()


@pytest.mark.parametrize(("forever", "deaths"), [(True, 4), (False, 1)])
def test_workers_that_only_die_end_the_run_with_the_reason(
    forever: bool, deaths: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the first death, or at the fourth within ten minutes of a run that goes on forever."""
    monkeypatch.setattr(restarts, "FIRST_PAUSE_SECONDS", 0.01)
    settings = config.load(
        ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"}, {"run.forever": forever}
    )
    nothing: Any = None
    result = run_workers(
        settings, nothing, NoRow("run", "hash"), ForkServer(NoQuota(), dies), Stop(), None, nothing
    )
    assert (result.stop_reason, result.exit_code) == ("worker died", 1)
    assert caplog.text.count("died by signal SIGKILL") == deaths
    assert "SQS will deliver its messages again" in str(result.problem)
    assert ("4 workers died within 10 minutes" in str(result.problem)) == forever


def worker(reason: str | None, loaded: int = 0, *, exit_code: int = 0) -> Worker:
    """Make a worker that has ended, or that died if there is no reason."""
    nothing: Any = None
    result = None
    if reason is not None:
        counts = Counts(received=loaded, loaded=loaded)
        result = WorkerResult(Totals(counts), reason, problem=None, exit_code=exit_code)
    return Worker(0, SimpleNamespace(exitcode=-9), nothing, result=result)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ended", "asked", "reason", "code"),
    [
        (("idle", "max_messages"), None, "max_messages", 0),
        (("idle", "idle"), ("SIGTERM", True), "SIGTERM", 0),
        (("idle", "idle"), ("max_seconds", False), "idle", 0),
        (("SIGINT", "database unavailable!"), ("SIGINT", True), "database unavailable", 1),
        (("idle", None), None, "worker died", 1),
        ((None, None), ("SIGTERM", True), "worker died", 1),
    ],
)
def test_the_reason_of_a_run_is_what_ended_it(
    ended: tuple[str | None, ...], asked: tuple[str, bool] | None, reason: str, code: int
) -> None:
    """The workers may have ended for different reasons; an error comes first, then a signal."""
    stop = Stop()
    if asked:
        stop.request(asked[0], release_rest=asked[1])
    workers = [
        worker(name and name.strip("!"), exit_code=int(bool(name and name.endswith("!"))))
        for name in ended
    ]
    nothing: Any = None
    total = sum_results(workers, NoRow("run", "hash"), nothing, stop, None)
    assert (total.stop_reason, total.exit_code) == (reason, code)


def test_what_any_worker_released_is_in_the_totals() -> None:
    """Each of them may have been stopped by the budget, with failed checks of its own."""
    workers = [worker("quarantine budget", exit_code=3) for _ in range(2)]
    for number, each in enumerate(workers, 1):
        assert each.result is not None
        released = Findings(
            Counter({("ip", "type"): number}),
            Counter({"new": number, None: 1}),
            Counter({("ip", "max"): number}),
        )
        each.result = replace(each.result, totals=Totals(released_findings=released))
    nothing: Any = None
    total = sum_results(workers, NoRow("run", "hash"), nothing, Stop(), None)
    assert total.totals.released_findings.checks == {("ip", "type"): 3}
    assert total.totals.released_findings.unknown_fields == {"new": 3, None: 2}
    assert total.totals.released_findings.notes == {("ip", "max"): 3}


SCRIPT = f"""
import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
from etl import config, job
from etl.errors import UsageError
variables = {{"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q", "ETL_RUN__WORKERS": "2"}}
try:
    job.run(config.load(pathlib.Path({str(ROOT / "config.yaml")!r}), variables), variables)
except UsageError as error:
    print(error)
    sys.exit(9)
"""


def test_a_script_that_runs_again_in_its_workers_is_an_error_before_anything_is_entered(
    tmp_path: Path,
) -> None:
    """Or else each worker would begin a run of its own before multiprocessing fails."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    code = (
        "import multiprocessing, runpy, sys\n"
        "multiprocessing.current_process()._inheriting = True\n"
        f"runpy.run_path({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (9, "")
    assert done.stdout.endswith("put the call under if __name__ == '__main__':\n")


def test_a_daemonic_process_is_told_to_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of multiprocessing.Pool."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(UsageError, match=r"set run\.workers to 1"):
        check_may_start_processes()
