"""Worker processes that a campaign starts again when they end, and what it records about them.

They are forked from a server process that has imported the program once: a campaign with hundreds
of crashes would otherwise spend its time importing pandas. Each worker is still a separate process
with its own connections and threads, and a SIGKILL leaves nothing of it behind.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

from tests.chaos import crash_points
from tests.conftest import ROOT

STOP_SECONDS = 120
UNHANDLED_EXCEPTION = 70  # exit code
EXPECTED_EXIT_CODES = (0, 1, -signal.SIGKILL, -signal.SIGTERM)


@dataclass(frozen=True)
class WorkerPlan:
    """How to start a worker, and when to kill it, if at all."""

    arguments: tuple[str, ...] = ("run", "--forever")
    variables: tuple[tuple[str, str], ...] = ()  # of the environment, besides the common ones
    crash_point: str | None = None  # the process kills itself there
    nth: int = 1  # pass of the crash point, from 1
    kill_after_seconds: float | None = None  # the campaign kills it then


PLAIN_RUN = WorkerPlan()


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended."""

    plan: WorkerPlan
    code: int
    killed_by_campaign: bool

    @property
    def is_kill(self) -> bool:
        """Whether it died by SIGKILL, either at its crash point or by the campaign."""
        return self.code == -signal.SIGKILL

    @property
    def reached_crash_point(self) -> bool:
        """Whether it killed itself."""
        return self.is_kill and not self.killed_by_campaign and self.plan.crash_point is not None


@dataclass
class _Worker:
    plan: WorkerPlan
    process: BaseProcess
    started: float  # monotonic seconds
    killed_by_campaign: bool = False

    def kill(self) -> None:
        self.killed_by_campaign = True
        self.process.kill()

    def is_overdue(self) -> bool:
        """Whether its time is up and it has not been killed yet."""
        limit = self.plan.kill_after_seconds
        if limit is None or self.killed_by_campaign:
            return False
        return time.monotonic() - self.started > limit


class Workers:
    """A fixed number of slots, each with one process at most and one file for its output."""

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        size: int,
        libraries: Mapping[str, str] | None = None,
    ) -> None:
        """Take the environment of the processes and the number of slots.

        :param libraries: variables that take effect before Python starts (``LD_PRELOAD``); with
            them each process is started from scratch, not forked
        """
        self._libraries = libraries
        self._environment = environment
        self._folder = folder
        self._slots: list[_Worker | None] = [None] * size
        self._context = multiprocessing.get_context("spawn" if libraries else "forkserver")
        self._context.set_forkserver_preload(["tests.chaos.worker_imports"])
        self.peak_mb = 0.0  # resident memory of the largest process so far
        self.crashes: list[str] = []  # exit codes that no fault explains, with the last output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._slots:
            if worker is not None:
                worker.process.kill()
                worker.process.join()

    @property
    def free_slots(self) -> list[int]:
        """Slots without a process."""
        return [slot for slot, worker in enumerate(self._slots) if worker is None]

    @property
    def busy_slots(self) -> list[int]:
        """Slots with a process."""
        return [slot for slot, worker in enumerate(self._slots) if worker is not None]

    def kill(self, slot: int) -> None:
        """Send SIGKILL to the process in a slot."""
        worker = self._slots[slot]
        if worker is not None:
            worker.kill()

    def start(self, slot: int, plan: WorkerPlan = PLAIN_RUN) -> None:
        """Start a process in a free slot."""
        # The strict SQS recognizes a consumer by the last digit of its access key.
        access_key = {"AWS_ACCESS_KEY_ID": f"consumer{slot}"}
        environment = {**self._environment, **access_key, **dict(plan.variables)}
        process = self._context.Process(
            target=_run_worker, args=(plan, environment, self._output(slot))
        )
        with _variables(self._libraries or {}):
            process.start()
        self._slots[slot] = _Worker(plan, process, time.monotonic())

    def fill(self, plan: WorkerPlan = PLAIN_RUN) -> None:
        """Start a process in each free slot."""
        for slot in self.free_slots:
            self.start(slot, plan)

    def reap(self) -> list[WorkerExit]:
        """Kill the workers whose time is up; returns those that ended since the last call."""
        exits: list[WorkerExit] = []
        for slot, worker in enumerate(self._slots):
            if worker is None:
                continue
            self._record_memory(worker.process.pid)
            if worker.is_overdue():
                worker.kill()
            code = worker.process.exitcode
            if code is not None:
                self._slots[slot] = None
                exits.append(WorkerExit(worker.plan, code, worker.killed_by_campaign))
                if code not in EXPECTED_EXIT_CODES:
                    output = self._output(slot).read_text(errors="replace").splitlines()
                    self.crashes.append(f"{code}: {' | '.join(output[-4:])}")
        return exits

    def stop(self) -> None:
        """Ask all workers to stop with SIGTERM, and wait until they have."""
        for worker in self._slots:
            if worker is not None:
                worker.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        while self.busy_slots and time.monotonic() < end:
            self.reap()
            time.sleep(0.05)

    def _output(self, slot: int) -> Path:
        return self._folder / f"worker-{slot}.log"

    def _record_memory(self, pid: int | None) -> None:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_mb = max(self.peak_mb, int(line.split()[1]) / 1024)


@contextmanager
def _variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process while the block lasts."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


def _run_worker(plan: WorkerPlan, environment: dict[str, str], output: Path) -> None:
    """Run the command line in this process, as a shell would start it."""
    from etl import cli

    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    with output.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["etl", *plan.arguments]
    if plan.crash_point:
        crash_points.install(crash_points.CrashPoint(plan.crash_point, plan.nth))
    try:
        cli.start()
    except Exception:  # noqa: BLE001  (the campaign looks for any exception)
        sys.excepthook(*sys.exc_info())
        sys.exit(UNHANDLED_EXCEPTION)
