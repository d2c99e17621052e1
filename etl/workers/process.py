"""One worker process, seen from inside: what it does, reports to its parent and hears from it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import NamedTuple

from etl import logs
from etl.config import Settings
from etl.errors import EtlError
from etl.runs import Share, Totals, WorkerResult
from etl.sqs.limits import Phase, Stop
from etl.sqs.quota import Quota
from etl.workers.snapshot import Snapshot

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25  # between two reports of a worker

# A worker inherits these as blocked, and takes them once it has handlers for them.
BLOCKED_AT_START = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# etl.worker.work_in_own_process, or a function with its parameters
Work = Callable[..., WorkerResult]


class Order(NamedTuple):
    """What the parent tells its workers about the end of the run."""

    reason: str
    release_rest: bool
    leave_rest: bool
    leave_hint: str


@dataclass
class Child:
    """A worker process as its parent sees it."""

    wait: Callable[[], int | None]  # for its end; returns its exit code
    exitcode: int | None = None

    def join(self) -> None:
        """Wait for its end."""
        self.exitcode = self.wait()


def run_worker(
    settings: Settings, share: Share, quota: Quota, pipe: Connection, work_alone: Work
) -> None:
    """Run one worker: the target of its process."""
    logs.open_standard_streams()
    logs.hide_values_in_tracebacks()
    logs.start(settings.log.level, settings.log.format)
    stop = Stop(share.ends_at)
    # Ctrl-C and the end of a terminal reach the whole process group; the parent tells us what to
    # do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.request("SIGTERM", release_rest=True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, BLOCKED_AT_START)
    threading.Thread(target=_watch_parent, args=(pipe, stop), name="parent", daemon=True).start()
    try:
        result = work_alone(
            settings,
            share,
            quota,
            stop,
            lambda snapshot, _queue: _Reports(pipe, snapshot),
        )
    except EtlError as error:
        result = WorkerResult(
            Totals(), error.stop_reason, problem=str(error), exit_code=error.exit_code
        )
    except Exception as error:  # noqa: BLE001
        if words := logs.lack(error):
            log.error("a worker cannot go on: %s", words)  # noqa: TRY400
        else:
            # A bug. multiprocessing would print its message, and the values in it.
            sys.stderr.write(logs.places(error))
        sys.exit(1)
    # The parent may be gone, for want of memory or files.
    with contextlib.suppress(OSError):
        pipe.send(result)


def _watch_parent(pipe: Connection, stop: Stop) -> None:
    """Stop when the parent says so, or when it is gone."""
    try:
        while True:
            order: Order = pipe.recv()
            stop.leave_hint = order.leave_hint
            stop.request(order.reason, release_rest=order.release_rest)
            if order.leave_rest:
                stop.leave_rest = True
                if stop.phase is Phase.WORKING:
                    # The main thread may be waiting for the database, which nothing interrupts.
                    os.kill(os.getpid(), signal.SIGKILL)
    except (EOFError, OSError):
        stop.request("parent process ended", release_rest=True)


class _Reports:
    """Sends the parent a snapshot every ``REPORT_SECONDS``."""

    def __init__(self, pipe: Connection, snapshot: Callable[[], Snapshot]) -> None:
        self._pipe = pipe
        self._snapshot = snapshot
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._report, name="reports")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        # Ended before the result is sent: a pipe takes one sender at a time.
        self._done.set()
        self._thread.join()
        # The final one, for the metrics.
        with contextlib.suppress(OSError):
            self._pipe.send(self._snapshot())

    def _report(self) -> None:
        while not self._done.wait(REPORT_SECONDS):
            try:
                self._pipe.send(self._snapshot())
            except OSError:
                return
