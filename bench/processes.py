"""Programs run to their end in a process of their own, with what they cost."""

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

# What would lead a program to other services than the ones it is given here.
FOREIGN = ("AWS_", "ETL_", "PG", "DATABASE_URL")
LOOK_SECONDS = 0.1  # between two looks at a program's memory; the kernel keeps the peak meanwhile


class Failed(Exception):  # noqa: N818  (the program failed, which is all there is to say)
    """A measured program did not end well."""


@dataclass(frozen=True)
class Cost:
    """What a program took, from its start to its end; its descendants included."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float | None  # MiB of resident memory at most
    output: str


def python(*arguments: str) -> list[str]:
    """Command line of this Python."""
    return [sys.executable, *arguments]


def postgres_program(name: str) -> Path:
    """Where the embedded Postgres keeps one of its programs."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]).parent / BIN / name


def run(
    command: Sequence[str], more: Mapping[str, str] | None = None, *, memory: bool = False
) -> Cost:
    """Run the command in the project's folder and wait for its end.

    :param more: environment variables beside the harmless ones of this process
    :param memory: watch the memory too
    :raises Failed: its exit code was not 0
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(more or {}), stdout=output, stderr=errors
        )
        peak = _Peak(process.pid) if memory else None
        # The kernel's own account of the program and of all descendants that it waited for.
        _, status, used = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(
                f"{' '.join(command[1:])} ended with {process.returncode}: {_tail(errors)}"
            )
        output.seek(0)
        return Cost(
            wall_seconds=wall_seconds,
            cpu_seconds=used.ru_utime + used.ru_stime,
            peak_mb=peak.end(used.ru_maxrss) if peak else None,
            output=output.read(),
        )


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Variables of this process without those that name services, proxies among them."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(FOREIGN) and not name.lower().endswith("_proxy")
    }
    return {**kept, **more}


def tree_cpu_seconds(pid: int) -> float:
    """CPU of a process, of its children now, and of those that it has waited for."""
    process = psutil.Process(pid)
    own = process.cpu_times()
    seconds: float = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds += times.user + times.system
    return seconds


class _Peak:
    """Peak of the resident memory of a process and its descendants, summed.

    Not ru_maxrss where it can be helped: on Linux it starts from the size of the process that
    forked, not from zero.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._kib: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        # The parent of a vfork waits for the exec, so the first look already sees the program.
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
