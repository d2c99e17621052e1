"""Starts ``python -m etl`` by forking a process that has imported it.

To import pandas, boto3 and the rest takes longer than most of the runs that the tests start. So a
server process, one for each process of pytest, imports them once and then forks. Each fork is a
process of its own, with the arguments, the environment and the files that it is given, and runs
``etl/__main__.py`` from the beginning. Some tests start the program from scratch all the same, such
as ``tests/acceptance/test_wheel.py`` and ``test_demo.py``.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Self

import etl
import etl.config
import etl.validate

ROOT = Path(__file__).resolve().parents[1]
# What Python, the dynamic loader and the C library read before the program begins.
READ_AT_START = ("PYTHON", "LD_", "LC_", "LANG")
MAX_REQUEST = 1 << 17  # bytes


class Fork:
    """A process of the command line, with what the tests use of :class:`subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        stdin: int | None,
        out: int | None = None,
        err: int | None = None,
    ) -> None:
        """Start it.

        :param stdin: as for Popen
        :param out: where its output goes; by default to a pipe
        :param err: where its errors go; by default to a pipe
        """
        self.returncode: int | None = None
        self.stdin: IO[str] | None = None
        self._readers: list[threading.Thread] = []
        self._read = {"stdout": "", "stderr": ""}
        if stdin == subprocess.PIPE:
            child_in, ours = os.pipe()
            self.stdin = os.fdopen(ours, "w", encoding="utf-8")
        else:
            child_in = os.open(os.devnull, os.O_RDONLY) if stdin is None else os.dup(stdin)
        our_out, child_out = os.pipe() if out is None else (_nothing(), os.dup(out))
        our_err, child_err = os.pipe() if err is None else (_nothing(), os.dup(err))
        status, child_status = os.pipe()
        descriptors = [child_in, child_out, child_err, child_status]
        request = json.dumps([arguments, dict(env)]).encode()
        socket.send_fds(_server(), [request], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self.stdout: IO[str] = os.fdopen(our_out, encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(our_err, encoding="utf-8")
        self._status = os.fdopen(status, encoding="ascii")
        self.pid = int(self._status.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.join()
        for file in (self.stdin, self.stdout, self.stderr):
            if file:
                file.close()
        self.wait()

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        return self.returncode if self._has_ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process; return its exit code.

        :raises subprocess.TimeoutExpired: it has not ended
        """
        if not self._has_ended(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired("etl", timeout or 0)
        return self.returncode

    def _has_ended(self, timeout: float | None) -> bool:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode is not None

    def communicate(self, text: str | None = None, timeout: float | None = None) -> tuple[str, str]:
        """Send *text*, wait for the end, and return the output and the errors.

        :raises subprocess.TimeoutExpired: it has not ended; the call can be repeated
        """
        end = None if timeout is None else time.monotonic() + timeout
        if not self._readers:
            self._readers = [
                threading.Thread(target=self._read_all, args=(name,)) for name in self._read
            ]
            for reader in self._readers:
                reader.start()
        if self.stdin and not self.stdin.closed:
            try:
                self.stdin.write(text or "")
                self.stdin.close()
            except BrokenPipeError:
                pass  # it does not read all of it, as Popen allows too
        for reader in self._readers:
            reader.join(None if end is None else max(end - time.monotonic(), 0))
            if reader.is_alive():
                raise subprocess.TimeoutExpired("etl", timeout or 0)
        self.wait(None if end is None else max(end - time.monotonic(), 0))
        return self._read["stdout"], self._read["stderr"]

    def _read_all(self, name: str) -> None:
        with getattr(self, name) as file:
            self._read[name] = file.read()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


def _nothing() -> int:
    return os.open(os.devnull, os.O_RDONLY)


EtlProcess = Fork | subprocess.Popen[str]


def start(arguments: Sequence[str], env: Mapping[str, str], stdin: int | None = None) -> EtlProcess:
    """Start the command line, by a fork unless its environment matters to the start itself."""
    if sys.platform == "linux" and not any(name.startswith(READ_AT_START) for name in env):
        return Fork(arguments, env, stdin)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "etl", *arguments],
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def run(
    arguments: Sequence[str], env: Mapping[str, str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with *text* as its standard input."""
    with start(arguments, env, None if text is None else subprocess.PIPE) as process:
        out, err = process.communicate(text, timeout=120)
        return subprocess.CompletedProcess(arguments, process.wait(), out, err)


@cache
def _server() -> socket.socket:
    """Start the server; the tests talk to it through this socket until they end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.fork_server", str(theirs.fileno())],
        env={"PATH": os.environ["PATH"]},
        # Pipes, as the forks have: Python decides at its start what can be done with these files.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[theirs.fileno()],
        cwd=ROOT,
    )
    theirs.close()

    def stop() -> None:
        ours.close()
        process.communicate()

    atexit.register(stop)
    return ours


def serve(channel: socket.socket) -> None:
    """Fork for each request, until the other end is closed. The fork returns when it is done."""
    for module in pkgutil.walk_packages(etl.__path__, "etl."):
        if not module.name.endswith("__main__") and ".embedded" not in module.name:
            importlib.import_module(module.name)
    # pandera imports most of itself when it first validates.
    column = etl.config.Column(name="name", field="field", type="text")
    etl.validate.frame_schema((column,))
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests decide when the server ends
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the watchers
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, MAX_REQUEST, 4)
        if not request:
            return
        if os.fork() == 0:
            channel.close()
            _watch(request, descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(request: bytes, descriptors: list[int]) -> None:
    """Fork once more, and tell the other end the process id and at last the exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *files, status = descriptors
    child = os.fork()
    if child == 0:
        os.close(status)
        _run(request, files)
        return
    for descriptor in files:
        os.close(descriptor)
    os.write(status, f"{child}\n".encode())
    _, code = os.waitpid(child, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _run(request: bytes, files: list[int]) -> None:
    """Become ``python -m etl``."""
    arguments, variables = json.loads(request)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    sys.argv = ["etl", *arguments]
    runpy.run_module("etl", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
