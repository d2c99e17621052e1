"""How many messages a run may still receive: a number that its threads and processes share."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.reduction import DupFd
from typing import Any, Protocol

from etl.errors import UsageError

_BYTES = 8


class Quota(Protocol):
    """How many messages a run may still receive; all of its receivers share it."""

    def reserve(self, wanted: int) -> int:
        """Take up to *wanted* messages out of the quota; return how many."""

    def put_back(self, count: int) -> None:
        """Return reserved messages that did not come."""

    @property
    def left(self) -> float:
        """Messages that are neither received nor reserved."""


class NoQuota:
    """The quota of a run without ``max_messages``."""

    left = math.inf

    def reserve(self, wanted: int) -> int:
        """Take all that is wanted."""
        return wanted

    def put_back(self, count: int) -> None:
        """Do nothing."""


class SharedQuota:
    """A quota shared by threads and, since it can be passed to a new process, by workers.

    The number is in a file in memory. Semaphores of multiprocessing need ``/dev/shm``, which
    Lambda lacks; and one that a killed worker had taken would stay taken, while the system gives
    up a lock on a file when its process ends.
    """

    def __init__(self, messages: int) -> None:
        """Share a number of messages.

        :raises UsageError: the system has no files in memory, and no folder for temporary ones
        """
        try:
            self._use(_nameless_file())
        except OSError as error:
            raise UsageError(
                "cannot count towards 'run.max_messages', because there is no place for a "
                f"temporary file: {error.strerror}; let TMPDIR name a folder that can be written"
            ) from None
        self._write(messages)

    def _use(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._threads = threading.Lock()  # a lock on a file does not tell them apart

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)

    def __getstate__(self) -> Any:
        return DupFd(self._descriptor)

    def __setstate__(self, descriptor: Any) -> None:
        self._use(descriptor.detach())

    def reserve(self, wanted: int) -> int:
        """Take up to *wanted* messages out of the quota; return how many."""
        with self._locked():
            left = self.left
            taken = min(wanted, left)
            self._write(left - taken)
            return taken

    def put_back(self, count: int) -> None:
        """Return reserved messages that did not come."""
        with self._locked():
            self._write(self.left + count)

    @property
    def left(self) -> int:
        """Messages that are neither received nor reserved."""
        return int.from_bytes(os.pread(self._descriptor, _BYTES, 0), "little")

    def _write(self, messages: int) -> None:
        os.pwrite(self._descriptor, messages.to_bytes(_BYTES, "little"), 0)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


def _nameless_file() -> int:
    with contextlib.suppress(AttributeError, OSError):
        return os.memfd_create("etl-quota")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def open_quota(max_messages: int | None) -> Quota:
    """The quota of a run: ``run.max_messages``, or none."""
    return NoQuota() if max_messages is None else SharedQuota(max_messages)
