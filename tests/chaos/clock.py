"""A wall clock that jumps, for processes started under it: see clock.c."""

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
    """The shift of the wall clock, in seconds, as the processes under it see it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shift"
        self._library = folder / "clock.so"
        self.jumps = 0
        self._put(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process is to be started with."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def jump_to(self, seconds: int) -> None:
        """Set the clock so far off the true time, at once."""
        self._put(seconds)
        self.jumps += 1

    def _put(self, seconds: int) -> None:
        # In place: the file is mapped by those who read it.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))


@contextmanager
def jumping_clock() -> Iterator[Clock]:
    """A clock that is right until it jumps; skips the test where it cannot be made."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a jumping clock needs Linux and a C compiler")
    with tempfile.TemporaryDirectory(prefix="etl-clock-") as name:
        folder = Path(name)
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        output = ["-o", str(folder / "clock.so")]
        subprocess.run([compiler, *flags, *output, str(SOURCE), "-ldl"], check=True)
        yield Clock(folder)
