"""A process that imports the program once, and then forks the workers of one run from itself.

To import everything costs more CPU and memory than all the rest of a worker's start; forked workers
share it. The process that calls :func:`etl.job.run` cannot fork them: by then it has threads, whose
locks would stay taken in the fork. So it starts this one, which has none, and which can itself be a
fork if it is started before the first thread.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NoReturn

from etl import logs
from etl.config import Settings
from etl.runs import Share
from etl.sqs.quota import Quota
from etl.workers.interpreter import prepare_imports, tune_interpreter
from etl.workers.process import BLOCKED_AT_START, Child, Work, run_worker

log = logging.getLogger(__name__)


class ForkServer:
    """The server as its parent sees it. It ends with the last worker, once it is closed."""

    def __init__(self, quota: Quota, work_alone: Work, *, is_fork: bool = False) -> None:
        """Start it, with the environment of this moment, from which libpq reads its variables.

        :param work_alone: what each worker does
        :param is_fork: fork it from this process if that is safe
        """
        self.quota = quota
        self.work_alone = work_alone
        is_fork = is_fork and _may_fork()
        context: Any = multiprocessing.get_context("fork" if is_fork else "spawn")
        self._control, control = context.Pipe()
        inherited = self._control if is_fork else None
        self._process = context.Process(
            target=serve, args=(inherited, control, quota, work_alone), name="fork server"
        )
        self._started = 0
        self._exit_codes: dict[int, int | None] = {}
        # A signal to the whole group must end neither the server nor a worker that cannot handle it
        # yet. First the helper of a spawned one, which would unblock the signals when it starts.
        if not is_fork:
            resource_tracker.ensure_running()
        previous = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_AT_START)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, previous)
        control.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can start workers."""
        return bool(self._process.is_alive())

    def start(self, settings: Settings, share: Share, pipe: Connection) -> Child:
        """Start a worker.

        :param pipe: the worker's end, which the caller closes afterwards
        """
        child = Child(partial(self.exit_code, self._started))
        self._started += 1
        # If the server has died, the worker's end of the pipe has no other holder than the caller,
        # to whom it looks like a worker that has died.
        with suppress(ConnectionError):
            self._control.send((settings, share))
            send_handle(self._control, pipe.fileno(), self._process.pid)
        return child

    def exit_code(self, number: int) -> int | None:
        """Wait for the end of a worker. If the server ended before it, return the server's own.

        :param number: counts the workers of this server from 0
        """
        while number not in self._exit_codes:
            try:
                ended, exit_code = self._control.recv()
            except (EOFError, OSError):
                self._process.join()
                code: int | None = self._process.exitcode
                return code
            self._exit_codes[ended] = exit_code
        return self._exit_codes[number]

    def close(self) -> None:
        """Wait until the workers have ended, and the server after them."""
        self._control.close()
        self._process.join()


def serve(
    inherited: Connection | None, control: Connection, quota: Quota, work_alone: Work
) -> None:
    """Start a worker for each request, and report its exit code: the target of the process.

    SIGINT, SIGTERM and SIGHUP stay blocked. It ends when *control* is closed, by its parent or by
    the parent's end, and the last worker has ended.

    :param inherited: the parent's end of *control*, if this process is a fork that has inherited it
    """
    if inherited is not None:
        inherited.close()
    logs.open_standard_streams()
    logs.hide_values_in_tracebacks()
    try:
        _serve(control, quota, work_alone)
    except Exception as error:  # noqa: BLE001
        _end(error)


def _end(error: Exception) -> NoReturn:
    """End at once, with one line.

    multiprocessing would print the values in the error's message, and wait for the workers, while
    the parent waits for this process.
    """
    name = getattr(error, "name", None)
    what = type(error).__qualname__ + (f" of {name!r}" if name else "")
    innermost = logs.places(error).splitlines()[-1].strip()
    log.error("no worker can be started: %s", logs.lack(error) or f"{what} at {innermost}")
    os._exit(1)


def _serve(control: Connection, quota: Quota, work_alone: Work) -> None:
    workers: dict[int, tuple[int, BaseProcess]] = {}  # by sentinel
    started = 0
    is_open = True
    while is_open or workers:
        for ready in wait([*workers, control] if is_open else list(workers)):
            if isinstance(ready, int):
                number, process = workers.pop(ready)
                process.join()
                with suppress(OSError):  # the parent has ended
                    control.send((number, process.exitcode))
                continue
            try:
                settings, share = control.recv()
                pipe = Connection(recv_handle(control))
            except (EOFError, ConnectionError):
                is_open = False
                continue
            # Not before the first request: a run that is refused makes none.
            if not started:
                logs.start(settings.log.level, settings.log.format)
                _import_all(settings)
            is_fork = _may_fork()
            context: Any = multiprocessing.get_context("fork" if is_fork else "spawn")
            process = context.Process(
                target=_work,
                args=(control if is_fork else None, settings, share, quota, pipe, work_alone),
                name=f"worker-{share.index}",
            )
            try:
                process.start()
                workers[process.sentinel] = (started, process)
            except OSError as error:
                words = logs.lack(error) or error.strerror
                log.error("a worker cannot be started: %s", words)  # noqa: TRY400
                with suppress(OSError):
                    control.send((started, 1))
            pipe.close()
            started += 1


def _import_all(settings: Settings) -> None:
    """Import what a worker would import by and by."""
    prepare_imports()
    import etl.aws.access
    import etl.batch
    import etl.sqs.transport  # noqa: F401
    from etl.aws.models import read_models
    from etl.validate import frame_schemas

    with suppress(ImportError):  # the workers then do without
        import pycurl  # noqa: F401
    frame_schemas(settings)
    read_models("sqs")
    if settings.queue.payloads == "s3":
        read_models("s3")
    tune_interpreter()


def _may_fork() -> bool:
    """Whether a fork is safe.

    On macOS the system's own libraries use threads, and a main module may start one at its import.
    """
    return sys.platform == "linux" and threading.active_count() == 1


def _work(
    inherited: Connection | None,
    settings: Settings,
    share: Share,
    quota: Quota,
    pipe: Connection,
    work_alone: Work,
) -> None:
    """Become a worker.

    :param inherited: the server's connection, if this process is a fork that has inherited it
    """
    if inherited is not None:
        inherited.close()
    run_worker(settings, share, quota, pipe, work_alone)
