"""A module of ours in a process of its own that ends when its parent ends, even by SIGKILL.

The child's standard input is a pipe whose other end only the parent holds. Whatever ends the
parent closes that end, and the child reads end-of-file. Unlike PR_SET_PDEATHSIG this works on
every Unix, survives a change of user, and does not fire when merely the starting thread ends.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from etl.errors import EmbeddedError


class Child:
    """A running ``python -m MODULE``; ``ready`` is the JSON object it printed when it was up."""

    def __init__(self, module: str, *arguments: str, ready_seconds: float = 60) -> None:
        """Start the module and wait until it reports.

        :raises EmbeddedError: it ended, or said nothing for *ready_seconds*.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A group of its own: Ctrl-C at the terminal is for the job, which then stops its services.
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
        report: dict[str, Any] = json.loads(line)
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


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call *act* in a thread once the parent has closed the lifeline or has died."""

    def wait() -> None:
        # os.read, not sys.stdin: a buffered read would hold a lock that the interpreter wants at exit.
        while os.read(0, 4096):
            pass
        act()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
