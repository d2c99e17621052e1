"""Worker processes that are started again whenever they end, and what is to be known about them.

They are forked from a server that has imported the program once: a campaign of hundreds of deaths
would otherwise spend its time on importing pandas. Each is a process of its own all the same, with
its own connections and threads, and nothing of it outlives a SIGKILL.
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
CRASH = 70  # exit code of a process that an exception ended


@dataclass(frozen=True)
class Life:
    """How a process is to be started, and how it may end by our doing."""

    arguments: tuple[str, ...] = ("run", "--forever")
    more: tuple[tuple[str, str], ...] = ()  # environment variables
    point: str | None = None  # at which it kills itself
    nth: int = 1  # time that it comes there
    seconds: float | None = None  # after which it is killed from outside


JOB = Life()


@dataclass(frozen=True)
class End:
    """How a process ended."""

    life: Life
    code: int
    ours: bool  # it was killed from outside

    @property
    def is_kill(self) -> bool:
        """Whether it died by SIGKILL, at its point or from outside."""
        return self.code == -signal.SIGKILL


@dataclass
class _Process:
    life: Life
    process: BaseProcess
    started: float  # monotonic seconds
    ours: bool = False


class Fleet:
    """A number of slots with a process each; output goes to a file a slot."""

    def __init__(
        self,
        environment: dict[str, str],
        folder: Path,
        size: int,
        libraries: Mapping[str, str] | None = None,
    ) -> None:
        """Take what the processes have in their environment.

        :param libraries: variables that take effect before Python starts (``LD_PRELOAD``); each
            process is then started from the beginning
        """
        self._libraries = libraries
        self._environment = environment
        self._folder = folder
        self._slots: list[_Process | None] = [None] * size
        self._context = multiprocessing.get_context("spawn" if libraries else "forkserver")
        self._context.set_forkserver_preload(["tests.chaos.worker_imports"])
        self.peak_mb = 0.0  # resident memory of the largest process so far
        self.crashes: list[str] = []  # exit codes that no fault explains, with the last words

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._slots:
            if one is not None:
                one.process.kill()
                one.process.join()

    @property
    def free(self) -> list[int]:
        """Slots without a process."""
        return [slot for slot, one in enumerate(self._slots) if one is None]

    @property
    def living(self) -> list[int]:
        """Slots with a process."""
        return [slot for slot, one in enumerate(self._slots) if one is not None]

    def kill(self, slot: int) -> None:
        """Kill the process of a slot (SIGKILL)."""
        one = self._slots[slot]
        if one is not None:
            one.ours = True
            one.process.kill()

    def start(self, slot: int, life: Life = JOB) -> None:
        """Start a process in a free slot."""
        number = {"AWS_ACCESS_KEY_ID": f"consumer{slot}"}  # by which the strict SQS tells them
        process = self._context.Process(
            target=_live,
            args=(
                life,
                {**self._environment, **number, **dict(life.more)},
                self._output(slot),
            ),
        )
        with _variables(self._libraries or {}):
            process.start()
        self._slots[slot] = _Process(life, process, time.monotonic())

    def fill(self, life: Life = JOB) -> None:
        """Start a process in each free slot."""
        for slot in self.free:
            self.start(slot, life)

    def ended(self) -> list[End]:
        """Kill those whose time is up; return the processes that have ended since the last call."""
        ends: list[End] = []
        for slot, one in enumerate(self._slots):
            if one is None:
                continue
            self._look(one.process.pid)
            limit = one.life.seconds
            if limit is not None and time.monotonic() - one.started > limit and not one.ours:
                one.ours = True
                one.process.kill()
            code = one.process.exitcode
            if code is not None:
                self._slots[slot] = None
                ends.append(End(one.life, code, one.ours))
                if code not in (0, 1, -signal.SIGKILL, -signal.SIGTERM):
                    said = self._output(slot).read_text(errors="replace").splitlines()
                    self.crashes.append(f"{code}: {' | '.join(said[-4:])}")
        return ends

    def stop(self) -> None:
        """Ask all to end in good order, and wait for it."""
        for one in self._slots:
            if one is not None:
                one.process.terminate()
        end = time.monotonic() + STOP_SECONDS
        while len(self.free) < len(self._slots) and time.monotonic() < end:
            self.ended()
            time.sleep(0.05)

    def _output(self, slot: int) -> Path:
        return self._folder / f"worker-{slot}.log"

    def _look(self, pid: int | None) -> None:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_mb = max(self.peak_mb, int(line.split()[1]) / 1024)


@contextmanager
def _variables(more: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(more)
    try:
        yield
    finally:
        for name in more:
            del os.environ[name]


def _live(life: Life, environment: dict[str, str], output: Path) -> None:
    """What a worker's process does: the command line, as a shell would start it."""
    from etl import cli

    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    with output.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.argv = ["etl", *life.arguments]
    if life.point:
        crash_points.install(crash_points.Doom(life.point, life.nth))
    try:
        cli.start()
    except Exception:  # noqa: BLE001  (whatever it is, it is what is looked for)
        sys.excepthook(*sys.exc_info())
        sys.exit(CRASH)
