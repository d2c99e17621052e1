"""The Postgres server itself: its settings, its start and its stop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from etl.embedded.postgres_cluster import (
    TEMPORARY_SETTINGS,
    clear_stale_pid,
    inheritable,
    lock,
    make_cluster,
    make_private,
    read_passwords,
    settings_arguments,
)
from etl.embedded.postgres_programs import choose_account, find_binaries, run_as
from etl.errors import EmbeddedError

READY_SECONDS = 60
# Signals and the seconds to wait after each; SIGKILL follows the last one.
STOP_STEPS = {
    "fast": ((signal.SIGINT, 10), (signal.SIGQUIT, 8)),
    "immediate": ((signal.SIGQUIT, 8),),
}
PR_SET_PDEATHSIG = 1

DEFAULT_SETTINGS = {
    "shared_buffers": "32MB",
    "max_connections": "60",
    "timezone": "UTC",
    # Statements contain personal data, and so do the first lines of errors ('invalid input syntax
    # for type integer: "..."'), their DETAIL and CONTEXT, and logged parameters. For the server
    # log, LOG ranks above ERROR, so that only starts, stops and crashes are logged.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
}
FIXED_SETTINGS = {
    "port",
    "listen_addresses",
    "unix_socket_directories",
    "data_directory",
    "hba_file",
}


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free at the moment."""
    # Below the range of outgoing connections (from 32768 on Linux, 49152 elsewhere): no connection
    # takes the port by chance while the server is stopped, so that it can start there again.
    ports = random.sample(range(20_000, 32_000), 200)
    for port in ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise EmbeddedError("no TCP port of 127.0.0.1 between 20000 and 32000 is free: stop a server")


def end_with(supervisor: int) -> Callable[[], None]:
    """Return a function that, called in a child process, makes it end when *supervisor* is killed.

    On Linux the kernel then sends SIGQUIT, an immediate shutdown: unlike SIGKILL, it lets Postgres
    free its shared memory. A change of user clears this setting, so it has to be made afterwards.
    It takes effect when the *thread* that started the child ends, so the main thread starts the
    server. Other systems have no such setting: there, a server survives a supervisor that is killed
    alone.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def request_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
        if os.getppid() != supervisor:  # it was killed before the call above
            os._exit(1)

    return request_signal


class PostgresServer:
    """Postgres on the cluster in one home folder."""

    def __init__(self, run: Path, home: Path, settings: Mapping[str, str]) -> None:
        """Make the cluster if it does not exist; the server is not started.

        :raises EmbeddedError: the folder is in use or cannot be used, or initdb failed.
        """
        if fixed := FIXED_SETTINGS & set(settings):
            raise EmbeddedError(f"{min(fixed)!r} cannot be set: the embedded Postgres chooses it")
        temporary = run == home
        self._home = home
        self._cluster = home / "cluster"
        self._settings = (
            DEFAULT_SETTINGS | (TEMPORARY_SETTINGS if temporary else {}) | dict(settings)
        )
        self._process: subprocess.Popen[Any] | None = None
        self.port = 0
        self._lock = lock(home)
        self.passwords = read_passwords(home)
        self._account = choose_account(self._cluster)
        self._programs = find_binaries(self._account)
        if not self._cluster.exists():
            make_cluster(home, self._programs, self._account, self.passwords, durable=not temporary)
        self._socket = run / "socket"
        make_private(self._socket, self._account)

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, or None when it is not running."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start the server if it is not running, and wait until it accepts connections.

        :raises EmbeddedError: it ended or was not ready in time; the message has the end of its
            log.
        """
        if self.pid is not None:
            return
        clear_stale_pid(self._cluster)
        known_port = self.port
        self.port = known_port or free_port()
        for _ in range(5):
            failure = self._start()
            if failure is None:
                return
            if known_port or "could not bind" not in failure:
                break
            self.port = free_port()  # another program took the first one in the meantime
        self.port = known_port
        raise EmbeddedError(f"Postgres did not start; the end of its log:\n{failure}")

    def _start(self) -> str | None:
        """Start the server; return None, or the end of its log if it failed."""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self._home / "server.log").open("ab"))
            log_start = log.tell()
            cluster, cluster_fd = stack.enter_context(inheritable(self._cluster, self._account))
            sockets, sockets_fd = stack.enter_context(inheritable(self._socket, self._account))
            settings = self._settings | {
                "port": str(self.port),
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": sockets,
            }
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", cluster, *settings_arguments(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(cluster_fd, sockets_fd, self._lock),
                preexec_fn=end_with(os.getpid()),  # noqa: PLW1509  (this process has one thread)
                **run_as(self._account),
            )
        if self._wait_until_ready():
            return None
        self.stop("immediate")
        log_bytes = (self._home / "server.log").read_bytes()[log_start:]
        return log_bytes[-2000:].decode(errors="replace")

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while (pid := self.pid) is not None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                # Line 1 is the process id and line 8 the state; pg_ctl checks the same two.
                lines = (self._cluster / "postmaster.pid").read_text().splitlines()
                if lines[:1] == [str(pid)] and lines[7:8] and lines[7].strip() == "ready":
                    return True
            time.sleep(0.02)
        return False

    def stop(self, mode: str) -> None:
        """Stop the server if it is running: ``fast`` ends sessions first, ``immediate`` crashes."""
        if self._process is None:
            return
        for signal_number, seconds in STOP_STEPS[mode]:
            if self._process.poll() is not None:
                return
            self._process.send_signal(signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
