"""A wall clock that jumps, for the processes that are started with it; see clock.c."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """How far the wall clock of the processes under it is off, in seconds."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self._library = folder / "clock.so"
        self.jumps = 0
        self._write_shift(0)

    @property
    def environment(self) -> dict[str, str]:
        """The variables to start a process with."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def jump_to(self, seconds: int) -> None:
        """Set the clock this far ahead of the true time, or behind it, at once."""
        self._write_shift(seconds)
        self.jumps += 1

    def _write_shift(self, seconds: int) -> None:
        # In place, since the processes have mapped this file.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


@contextmanager
def jumping_clock() -> Iterator[Clock]:
    """A clock that is right until it jumps; skips the test where it cannot be built."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a jumping clock needs Linux and a C compiler")
    with tempfile.TemporaryDirectory(prefix="etl-clock-") as name:
        folder = Path(name)
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        output = ["-o", str(folder / "clock.so")]
        subprocess.run([compiler, *flags, *output, str(SOURCE), "-ldl"], check=True)
        yield Clock(folder)
