"""The quota of a run, shared by threads and by processes."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from etl.errors import UsageError
from etl.sqs.quota import SharedQuota, open_quota

SPAWN = multiprocessing.get_context("spawn")


def test_a_quota_is_taken_until_nothing_is_left_and_can_be_put_back() -> None:
    """A receive takes up to ten messages; what did not come goes back."""
    quota = open_quota(12)
    assert [quota.reserve(10), quota.reserve(10), quota.reserve(10)] == [10, 2, 0]
    quota.put_back(3)
    assert quota.left == 3
    assert open_quota(None).left == math.inf


def test_threads_never_take_more_than_the_quota() -> None:
    """A lock on a file alone would let all threads of a process in."""
    quota = open_quota(2000)
    taken: list[int] = []

    def take() -> None:
        while count := quota.reserve(3):
            taken.append(count)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 2000


def take_all(quota: SharedQuota, pipe: Any) -> None:
    """Take what is there, a few at a time; runs in a process of its own."""
    pipe.send("ready")
    pipe.recv()
    total = 0
    while count := quota.reserve(3):
        total += count
    pipe.send(total)


def hold(quota: SharedQuota, pipe: Any) -> None:
    """Stop forever while the quota is locked; runs in a process of its own."""
    with quota._locked():
        pipe.send("locked")
        time.sleep(600)


def start(target: Any, quota: SharedQuota) -> tuple[Any, Any]:
    """Start a process with the quota; return it, and a pipe to it."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=target, args=(quota, theirs))
    process.start()
    ours.recv()
    return process, ours


def test_processes_share_a_quota_and_a_killed_one_does_not_keep_it() -> None:
    """Without semaphores, which need /dev/shm and stay taken when their holder dies."""
    quota = SharedQuota(3000)
    killed, _ = start(hold, quota)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    takers = [start(take_all, quota) for _ in range(2)]
    for _, pipe in takers:
        pipe.send("go")
    assert sum(pipe.recv() for _, pipe in takers) == 3000
    for process, _ in takers:
        process.join()
    assert quota.left == 0


def refuse(*_: Any, **__: Any) -> Any:
    """Stands for a call that the system does not allow."""
    raise PermissionError(1, "Operation not permitted")


def test_a_system_without_files_in_memory_has_temporary_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as macOS, or a container whose rules forbid the call."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    quota = open_quota(5)
    assert (quota.reserve(3), quota.left) == (3, 2)


def test_a_system_without_a_place_for_the_number_is_an_error_before_the_first_receive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The message names the setting that needs it, and the way out."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UsageError, match=r"run\.max_messages.*Operation not permitted; .*TMPDIR"):
        open_quota(5)


def test_a_quota_closes_its_file() -> None:
    """A program that calls the job again and again would run out of descriptors."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        open_quota(5)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
