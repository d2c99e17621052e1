"""Run a program to its end as a separate process, and measure what it costs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from etl.embedded.postgres_programs import BIN, PACKAGE

ROOT = Path(__file__).parents[1]

# Variables that could point a program to services other than the ones it is given here.
SERVICE_VARIABLES = ("AWS_", "ETL_", "PG", "DATABASE_URL")
LOOK_SECONDS = 0.1  # between two looks at the memory; the kernel records the peak in between


class ProgramFailed(Exception):  # noqa: N818  (it says what happened)
    """A measured program ended with an exit code other than 0."""


@dataclass(frozen=True)
class Cost:
    """The cost of a program and its descendants, from its start to its end."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float | None  # peak of the resident memory in MiB
    output: str


def python(*arguments: str) -> list[str]:
    """Return a command line for the Python that runs this program."""
    return [sys.executable, *arguments]


def postgres_program(name: str) -> Path:
    """Return the path of one of the programs of the embedded Postgres."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]).parent / BIN / name


def run(
    command: Sequence[str], variables: Mapping[str, str] | None = None, *, memory: bool = False
) -> Cost:
    """Run the command in the project's folder and wait until it ends.

    :param variables: environment variables to set, besides those of this process
    :param memory: measure the peak memory too
    :raises ProgramFailed: the exit code was not 0
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(variables or {}), stdout=output, stderr=errors
        )
        peak = _Peak(process.pid) if memory else None
        # The kernel counts the program and all descendants that it has waited for.
        _, status, used = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise ProgramFailed(
                f"{' '.join(command[1:])} ended with {process.returncode}: {_tail(errors)}"
            )
        output.seek(0)
        return Cost(
            wall_seconds=wall_seconds,
            cpu_seconds=used.ru_utime + used.ru_stime,
            peak_mb=peak.end(used.ru_maxrss) if peak else None,
            output=output.read(),
        )


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return *variables*, and those of this process that name no service and no proxy."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(SERVICE_VARIABLES) and not name.lower().endswith("_proxy")
    }
    return {**inherited, **variables}


def tree_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, its living children, and those it has waited for."""
    process = psutil.Process(pid)
    used = process.cpu_times()
    seconds: float = used.user + used.system + used.children_user + used.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds += times.user + times.system
    return seconds


class _Peak:
    """The sum of the peaks of the resident memory of a process and its descendants.

    This avoids ru_maxrss if it can: on Linux that starts from the size of the process that forked,
    not from zero.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kib: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        # The parent of a vfork waits for the exec, so even the first look sees the program.
        while not self._done.wait(LOOK_SECONDS):
            with suppress(psutil.Error):
                for process in psutil.Process(self._pid).children(recursive=True):
                    self._look(process.pid)
            self._look(self._pid)

    def _look(self, pid: int) -> None:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self._kib[pid] = int(line.split()[1])

    def end(self, maxrss: int) -> float:
        """Return the peak in MiB."""
        self._done.set()
        self._thread.join()
        if self._kib:
            return sum(self._kib.values()) / 1024
        return maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    return errors.read()[-2000:]
