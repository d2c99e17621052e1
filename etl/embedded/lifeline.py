"""Run a module in a child process that ends when its parent ends, even if the parent is killed.

The child's standard input is a pipe, the lifeline, whose other end only the parent holds. However
the parent ends, that end is closed and the child reads end-of-file. Unlike PR_SET_PDEATHSIG this
works on every Unix, survives a change of user, and does not fire when only the starting thread
ends. A process that the parent forked without an exec, as multiprocessing does, holds a copy of
that end; so the child also checks once a second whether it still has the same parent.
"""

from __future__ import annotations

import json
import os
import select
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl.errors import EmbeddedError

ROOT = Path(__file__).parents[2]


class Child:
    """A running ``python -m MODULE``; ``ready`` is the JSON object that it printed when ready."""

    def __init__(self, module: str, *arguments: str, ready_seconds: float = 60) -> None:
        """Start the module and wait for its report.

        :raises EmbeddedError: it ended, it printed something else, or it did not report within
            *ready_seconds*.
        """
        # The child must find this package from any working directory, but import nothing from the
        # working directory itself (-P): a notebook folder may contain a random.py.
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A separate session: Ctrl-C at the terminal reaches only the job, which then stops its
            # services.
            start_new_session=True,
        )
        self._name = module
        try:
            self.ready: dict[str, Any] = self._read_report(ready_seconds)
        except BaseException:
            self.kill()
            raise

    def _read_report(self, ready_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        deadline = time.monotonic() + ready_seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise EmbeddedError(f"{self._name!r} was not ready after {ready_seconds:g} s")
                piece = self._process.stdout.read()
                if piece == b"":
                    code = self._process.wait()
                    raise EmbeddedError(f"{self._name!r} ended with {code} before it was ready")
                line += piece or b""
        try:
            report: dict[str, Any] = json.loads(line)
        except ValueError:
            raise EmbeddedError(
                f"{self._name!r} printed something before its report: it must print to standard "
                "error"
            ) from None
        return report

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self, seconds: float = 30) -> None:
        """Close the lifeline and wait until the child has ended; kill it after *seconds*."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """Kill the child (SIGKILL)."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def report(**facts: Any) -> None:
    """Tell the parent that this child is ready; the child calls this once."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    # From now on nobody reads the pipe, and a child that filled it would hang.
    os.dup2(2, 1)


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call *act* in a thread once the parent has closed the lifeline or has ended."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            # Not sys.stdin: a buffered read would hold a lock that the interpreter needs to exit.
            if select.select([0], [], [], 1)[0] and not os.read(0, 4096):
                break
        act()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
