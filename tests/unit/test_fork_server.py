"""The process that forks the workers of a run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import pytest

from etl import config
from etl.runs import Run, Share, Totals, WorkerResult
from etl.sqs.limits import Stop
from etl.sqs.quota import NoQuota
from etl.workers import fork_server
from etl.workers.fork_server import ForkServer
from etl.workers.process import Child
from tests.integration.waiting import wait_until
from tests.unit.builders import ROOT

SETTINGS = config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": "http://127.0.0.1:1/0/q"})


def tell(*_: Any) -> WorkerResult:
    """Work of a worker that tells about its process, in place of a reason to stop."""
    facts = (os.getppid(), os.environ.get("PGAPPNAME"), "etl.batch" in sys.modules)
    return WorkerResult(Totals(), repr(facts))


def wait(_settings: Any, _share: Any, _quota: Any, stop: Stop, *_: Any) -> WorkerResult:
    """Work of a worker that waits for a signal, or for the end of the process that started it."""
    while stop.reason is None:
        time.sleep(0.05)
    return WorkerResult(Totals(), stop.reason)


@contextmanager
def opened(work: Any, *, is_fork: bool = False) -> Iterator[ForkServer]:
    """Start a server, and close it at the end."""
    server = ForkServer(NoQuota(), work, is_fork=is_fork)
    try:
        yield server
    finally:
        with suppress(psutil.NoSuchProcess):  # its workers may wait
            for child in psutil.Process(server._process.pid).children():
                child.kill()
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
    assert wait_until(lambda: has_started_a_worker(process))
    limit = process.num_fds() + 1
    process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
    return start(server)


def has_started_a_worker(server: psutil.Process) -> bool:
    """Whether a server has a worker, and has closed the worker's pipe as the last of its steps."""
    return len(server.children()) == 1 and len(server.net_connections("unix")) == 1


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
def test_the_exit_code_of_a_worker_is_its_own_while_its_server_lives(
    whole_server: bool,
) -> None:
    """Then nobody knows it, and the server's own tells most."""
    with opened(wait) as server:
        child, _pipe = start(server)
        process = psutil.Process(server._process.pid)
        assert wait_until(lambda: has_started_a_worker(process))
        forks = process.children()
        (process if whole_server else forks[0]).kill()
        assert wait_until(server._control.poll)
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
    said = f" ERROR   no worker can be started: ImportError at {place} in <module>"
    assert line.endswith(said)


def test_a_worker_that_cannot_be_forked_ends_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """As with a limit of processes; the server goes on, and its other workers too."""
    with opened(wait) as server:
        (living, _), (refused, pipe) = start(server), start_without_files(server)
        with pytest.raises(EOFError):
            pipe.recv()
        refused.join()
        assert refused.exitcode == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.endswith(
            " ERROR   a worker cannot be started: too many open files: raise the limit of this "
            "process (ulimit -n)"
        )
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
