"""A module of ours in a process of its own that ends when its parent ends, even by SIGKILL.

The child's standard input is a pipe whose other end only the parent holds. Whatever ends the
parent closes that end, and the child reads end-of-file. Unlike PR_SET_PDEATHSIG this works on
every Unix, survives a change of user, and does not fire when merely the starting thread ends.
A process that the parent forked without an exec (multiprocessing does) holds a copy of that end;
so the child also looks, once a second, whether its parent is still the same.
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
    """A running ``python -m MODULE``; ``ready`` is the JSON object it printed when it was up."""

    def __init__(self, module: str, *arguments: str, ready_seconds: float = 60) -> None:
        """Start the module and wait until it reports.

        :raises EmbeddedError: it ended, or said nothing for *ready_seconds*, or something else.
        """
        # The child must find this package from any working directory, and nothing else there
        # (-P): a notebook folder may well hold a random.py.
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Its own session: Ctrl-C at the terminal is for the job, which then stops its services.
            start_new_session=True,
        )
        self._name = module
        try:
            self.ready: dict[str, Any] = self._report(ready_seconds)
        except BaseException:
            self.kill()
            raise

    def _report(self, ready_seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        deadline, line = time.monotonic() + ready_seconds, b""
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
                f"{self._name!r} printed something before its report: print to standard error"
            ) from None
        return report

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self, seconds: float = 30) -> None:
        """Close the lifeline and wait for the child to end by itself; kill it after *seconds*."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """End the child at once (SIGKILL)."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def report(**facts: Any) -> None:
    """Tell the parent that this child is up (called once, in the child)."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)  # nobody reads the pipe from here on: a child that prints would fill it and hang


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call *act* in a thread once the parent has closed the lifeline or has died."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            # Not sys.stdin: a buffered read would hold a lock that the interpreter wants at exit.
            if select.select([0], [], [], 1)[0] and not os.read(0, 4096):
                break
        act()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
