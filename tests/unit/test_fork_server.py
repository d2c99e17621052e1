"""The process that forks the workers of a run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from etl import config
from etl.runs import Run, Share, Totals, WorkerResult
from etl.sqs.quota import NoQuota
from etl.workers import fork_server
from etl.workers.fork_server import ForkServer
from etl.workers.process import Child
from tests.unit.builders import ROOT

SETTINGS = config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"})


def tell(*_: Any) -> WorkerResult:
    """Work of a worker that tells about its process, in place of a reason to stop."""
    facts = (os.getppid(), os.environ.get("PGAPPNAME"), "etl.batch" in sys.modules)
    return WorkerResult(Totals(), repr(facts))


def wait(*_: Any) -> WorkerResult:
    """Work of a worker that waits for a signal."""
    signal.pause()
    raise AssertionError


@contextmanager
def opened(work: Any, *, is_fork: bool = False) -> Iterator[ForkServer]:
    """Start a server, and close it at the end."""
    server = ForkServer(NoQuota(), work, is_fork=is_fork)
    try:
        yield server
    finally:
        server.close()


def start(server: ForkServer) -> tuple[Child, Connection]:
    """Start a worker."""
    ours, theirs = Pipe()
    child = server.start(SETTINGS, Share(Run("run", "hash")), theirs)
    theirs.close()
    return child, ours


def start_without_files(server: ForkServer) -> tuple[Child, Connection]:
    """Ask for a worker when the server may open only the file that it is sent."""
    process = psutil.Process(server._process.pid)
    while not process.children():
        assert server.is_alive
    limit = process.num_fds() + 1
    process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
    return start(server)


def told(server: ForkServer) -> Any:
    """What a worker tells."""
    child, pipe = start(server)
    result = pipe.recv()
    child.join()
    assert child.exitcode == 0
    return eval(result.stop_reason)


def test_workers_are_forks_of_one_process_that_has_imported_everything() -> None:
    """They share its memory, and import nothing themselves."""
    with opened(tell) as server:
        (first, _, is_ready), (second, _, _) = told(server), told(server)
    assert is_ready
    assert first == second
    assert first != os.getpid()


def test_workers_have_the_environment_of_the_start_of_their_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where libpq finds its variables; each run has a server of its own."""
    monkeypatch.setenv("PGAPPNAME", "first")
    with opened(tell) as server:
        monkeypatch.setenv("PGAPPNAME", "second")
        assert told(server)[1] == "first"
    with opened(tell) as server:
        assert told(server)[1] == "second"


@pytest.mark.parametrize("whole_server", [False, True])
def test_the_exit_code_of_a_worker_is_its_own_unless_the_server_has_ended(
    whole_server: bool,
) -> None:
    """Then nobody knows it, and the server's own tells most."""
    with opened(wait) as server:
        child, pipe = start(server)
        process = psutil.Process(server._process.pid)
        while not (forks := process.children()):
            assert server.is_alive
            pipe.poll(0.05)
        (process if whole_server else forks[0]).kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        if whole_server:
            forks[0].kill()


def test_a_server_that_cannot_import_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its workers end with it, and the values in the message are not shown."""
    (tmp_path / "pandera.py").write_text("raise ImportError('canary')")
    monkeypatch.syspath_prepend(tmp_path)
    with opened(tell) as server:
        (first, pipe), (second, _) = start(server), start(server)
        with pytest.raises(EOFError):
            pipe.recv()
        first.join()
        second.join()
        assert (first.exitcode, second.exitcode, server.is_alive) == (1, 1, False)
    place = f"{tmp_path / 'pandera.py'}:1"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(f" ERROR   no worker can be started: ImportError at {place}")


def test_a_worker_that_cannot_be_forked_ends_alone() -> None:
    """As with a limit of processes; the server goes on, and its other workers too."""
    with opened(wait) as server:
        (living, _), (refused, pipe) = start(server), start_without_files(server)
        with pytest.raises(EOFError):
            pipe.recv()
        refused.join()
        assert refused.exitcode == 1
        assert server.is_alive
        (fork,) = psutil.Process(server._process.pid).children()
        fork.kill()
        living.join()
        assert living.exitcode == -signal.SIGKILL


def test_a_server_without_a_request_ends_when_it_is_closed() -> None:
    """A run that is refused has no workers."""
    with opened(tell) as server:
        assert server.is_alive
    assert server._process.exitcode == 0


def test_a_process_with_threads_is_not_forked() -> None:
    """A lock that another thread holds would stay taken in the fork."""
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert not fork_server._may_fork()
        with opened(tell, is_fork=True) as server:
            assert told(server)[0] == server._process.pid
            assert "spawn_main" in " ".join(psutil.Process(server._process.pid).cmdline())
    finally:
        ended.set()
        thread.join()
