"""The process that owns an embedded Postgres: makes the cluster, runs the server, clears up.

Started by `etl.embedded.postgres` as ``python -m etl.embedded.postgres_supervisor RUN HOME
SETTINGS``. It lives on its launcher's lifeline; Postgres lives on the supervisor's.

    RUN/                  private and temporary, removed at the end
      control             unix socket: a connection holds one JSON request and its JSON answer
      socket/             Postgres' own unix socket
    HOME/                 private; RUN itself for a temporary cluster, else kept
      cluster/            what Postgres calls the data directory
      passwords.json
      server.log
      lock                locked as long as any process of the server lives

Postgres refuses to run as root. Started by root, it runs as ``nobody``, and both folders that it
needs are handed over as open descriptors: so they may stand anywhere, under /root for instance,
and neither RUN nor HOME is opened to anybody.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import random
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from etl.embedded.lifeline import report
from etl.embedded.postgres_programs import OsAccount, choose_account, find_binaries, run_as
from etl.errors import EmbeddedError

READY_SECONDS = 60
# A server whose launcher was killed has shut down, and let go of the lock, by then.
LOCK_SECONDS = 3
# Each step is tried for its seconds, then the next one; SIGKILL is the last.
STOP_STEPS = {
    "fast": ((signal.SIGINT, 10), (signal.SIGQUIT, 8)),
    "immediate": ((signal.SIGQUIT, 8),),
}
PR_SET_PDEATHSIG = 1

DEFAULTS = {
    "shared_buffers": "32MB",
    "max_connections": "60",
    "timezone": "UTC",
    # Statements carry personal data, and so do the first lines of errors ('invalid input syntax
    # for type integer: "..."'), their DETAIL and CONTEXT, and logged parameters. In the order of
    # server log levels LOG stands above ERROR, so the log keeps starts, stops and crashes only.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_checkpoints": "off",
}
# A killed process, even the server itself, loses nothing by these: only a crash of the whole
# machine does, and a temporary cluster does not outlive that anyway. Kept clusters stay durable.
TEMPORARY = {"fsync": "off", "full_page_writes": "off"}
FIXED = {"port", "listen_addresses", "unix_socket_directories", "data_directory", "hba_file"}

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    # No one can log in until the passwords are set and pg_hba.conf is replaced.
    "--auth=reject",
    "--no-instructions",
)
ACCESS = """\
# Any account of this machine can connect to 127.0.0.1, so nobody gets in without a password.
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


@contextlib.contextmanager
def handed_over(folder: Path, account: OsAccount | None) -> Iterator[tuple[str, int]]:
    """Open *folder*; yield its name for Postgres, and the descriptor that Postgres must inherit."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield (f"/proc/self/fd/{descriptor}" if account else str(folder)), descriptor
    finally:
        os.close(descriptor)


def make_private(folder: Path, account: OsAccount | None) -> None:
    """Make an empty folder that only *account* (and root) can enter."""
    folder.mkdir(mode=0o700)
    if account:
        os.chown(folder, account.uid, account.gid)


def make_cluster(
    home: Path,
    programs: Path,
    account: OsAccount | None,
    passwords: Mapping[str, str],
    durable: bool,
) -> None:
    """Make ``HOME/cluster`` with the roles ``postgres`` and ``etl`` and the database ``etl``.

    :raises EmbeddedError: initdb or the first statements failed.
    """
    half = home / "cluster.half"  # renamed when it is whole, so a killed start leaves no ruin
    shutil.rmtree(half, ignore_errors=True)
    make_private(half, account)
    with handed_over(half, account) as (name, descriptor):
        _run(
            [str(programs / "initdb"), "-D", name, *INITDB, *(() if durable else ("--no-sync",))],
            account,
            descriptor,
        )
        (half / "pg_hba.conf").write_text(ACCESS)
        # Single-user mode reads statements from standard input: no password in an argument or file.
        statements = (
            f"alter role postgres password '{passwords['postgres']}';\n"
            f"create role etl login password '{passwords['etl']}';\n"
            "create database etl owner etl;\n"
        )
        command = [str(programs / "postgres"), "--single", "-D", name]
        # A statement that failed would stand in the error that is raised below.
        settings = {"log_min_error_statement": "panic"} | ({} if durable else TEMPORARY)
        _run([*command, *arguments(settings), "postgres"], account, descriptor, statements)
    half.rename(home / "cluster")


def arguments(settings: Mapping[str, str]) -> list[str]:
    """Return *settings* as arguments of ``postgres``."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _run(
    command: list[str], account: OsAccount | None, descriptor: int, statements: str = ""
) -> None:
    done = subprocess.run(
        command,
        input=statements,
        check=False,
        capture_output=True,
        text=True,
        pass_fds=(descriptor,),
        **run_as(account),
    )
    # Single-user mode goes on after a failed statement and ends with 0.
    if done.returncode != 0 or "ERROR:" in done.stderr:
        program = Path(command[0]).name
        raise EmbeddedError(f"{program!r} could not make the cluster:\n{done.stderr[-2000:]}")


def read_passwords(home: Path) -> dict[str, str]:
    """Return the passwords by role, made at the first call for this *home*."""
    path = home / "passwords.json"
    if not path.exists():
        made = {role: secrets.token_hex(24) for role in ("postgres", "etl")}
        half = path.with_suffix(".half")
        half.write_text(json.dumps(made))  # 0600 by the umask
        half.rename(path)
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def lock(home: Path) -> int:
    """Return the descriptor of the lock of *home*, which every process of the server inherits.

    :raises EmbeddedError: another server holds it.
    """
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            os.close(descriptor)
            raise EmbeddedError(
                f"{str(home)!r} is used by another embedded Postgres: "
                "stop that one or choose another folder"
            ) from None
        return descriptor


def clear_stale_pid(cluster: Path) -> None:
    """Remove a postmaster.pid whose process is not a server of this cluster.

    Postgres itself only sees whether the process id is in use, and refuses to start when, after a
    crash, another program has it by now, which in a container is likely. A server's working
    directory is its cluster. Without /proc this is left to Postgres.

    :raises EmbeddedError: a server is running there that was not started from here.
    """
    path = cluster / "postmaster.pid"
    if not path.exists() or not Path("/proc/self/cwd").exists():
        return
    pid = path.read_text().partition("\n")[0]
    try:
        used = os.path.samestat(Path("/proc", pid, "cwd").stat(), cluster.stat())
    except OSError:  # no such process, or another user's, to whom the cluster is closed
        used = False
    if used:
        raise EmbeddedError(
            f"{str(cluster)!r} is used by another Postgres, process {pid}: "
            "stop that one or choose another folder"
        )
    path.unlink()


def free_port() -> int:
    """Return a TCP port that is free on 127.0.0.1 now."""
    # Below the range of outgoing connections (from 32768 on Linux, 49152 elsewhere): while the
    # server is stopped, nothing takes the port by chance, and it can start there again.
    ports = random.sample(range(20_000, 32_000), 200)
    for port in ports:
        with socket.socket() as attempt, contextlib.suppress(OSError):
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(("127.0.0.1", port))
            return port
    raise EmbeddedError("there is no free TCP port on 127.0.0.1 between 20000 and 32000")


def ends_with(supervisor: int) -> Callable[[], None]:
    """Return what makes a child process end when *supervisor* is killed.

    On Linux the kernel then sends SIGQUIT, an immediate shutdown: unlike SIGKILL it lets Postgres
    free its shared memory. The setting is lost by a change of user, so it is made after that,
    and it follows the starting *thread*, so the server is started from the main one. Other
    systems have no such thing: there a server outlives a supervisor that is killed by itself.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def act() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0)
        if os.getppid() != supervisor:  # it was killed before the setting was made
            os._exit(1)

    return act


class PostgresServer:
    """Postgres on the cluster of *home*."""

    def __init__(self, run: Path, home: Path, settings: Mapping[str, str]) -> None:
        """Make the cluster unless it is there; nothing runs yet.

        :raises EmbeddedError: the folder is in use or cannot be used, or initdb failed.
        """
        if FIXED & set(settings):
            raise EmbeddedError(f"{min(FIXED & set(settings))!r} is not yours to set here")
        temporary = run == home
        self._home, self._cluster = home, home / "cluster"
        self._settings = DEFAULTS | (TEMPORARY if temporary else {}) | dict(settings)
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
        """The process id of the postmaster; None when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self) -> None:
        """Start the server unless it runs, and wait until it takes connections.

        :raises EmbeddedError: it ended, or was not ready in time; the end of its log is included.
        """
        if self.pid is not None:
            return
        clear_stale_pid(self._cluster)
        chosen, self.port = self.port, self.port or free_port()
        for _ in range(5):
            failure = self._start()
            if failure is None:
                return
            if chosen or "could not bind" not in failure:
                break
            self.port = free_port()  # another program took it in between
        self.port = chosen
        raise EmbeddedError(f"Postgres did not start; the end of its log:\n{failure}")

    def _start(self) -> str | None:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self._home / "server.log").open("ab"))
            begin = log.tell()
            cluster, first = stack.enter_context(handed_over(self._cluster, self._account))
            sockets, second = stack.enter_context(handed_over(self._socket, self._account))
            settings = self._settings | {
                "port": str(self.port),
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": sockets,
            }
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", cluster, *arguments(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(first, second, self._lock),
                preexec_fn=ends_with(os.getpid()),  # noqa: PLW1509  (this process has one thread)
                **run_as(self._account),
            )
        if self._wait_until_ready():
            return None
        self.stop("immediate")
        return (self._home / "server.log").read_bytes()[begin:][-2000:].decode(errors="replace")

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        while (pid := self.pid) is not None and time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                # Line 1 is the process id and line 8 the state; pg_ctl looks at the same two.
                lines = (self._cluster / "postmaster.pid").read_text().splitlines()
                if lines[:1] == [str(pid)] and lines[7:8] and lines[7].strip() == "ready":
                    return True
            time.sleep(0.02)
        return False

    def stop(self, mode: str) -> None:
        """Stop the server if it runs: ``fast`` sends clients away, ``immediate`` crashes."""
        if self._process is None:
            return
        for step, seconds in STOP_STEPS[mode]:
            if self._process.poll() is not None:
                return
            self._process.send_signal(step)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def prepare_home(home: Path) -> None:
    """Make *home*, closed to others.

    :raises EmbeddedError: it holds something else.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {path.name for path in home.iterdir()}
    if names and "lock" not in names:
        raise EmbeddedError(f"{str(home)!r} holds other files: choose an empty folder")
    home.chmod(0o700)


def answer(request: dict[str, str], server: PostgresServer) -> dict[str, Any]:
    """Do what the launcher asks (``start`` or ``stop``); errors are part of the answer."""
    try:
        if request["do"] == "start":
            server.start()
        elif request["do"] == "stop":
            server.stop(request["mode"])
    except (EmbeddedError, OSError) as error:
        return {"error": str(error)}
    return {"pid": server.pid}


def converse(control: socket.socket, server: PostgresServer) -> None:
    """Take one connection: one request, one answer."""
    with contextlib.suppress(OSError):  # a launcher that went away needs no answer
        connection, _address = control.accept()
        with connection, connection.makefile("rw") as stream:
            connection.settimeout(5)
            stream.write(json.dumps(answer(json.loads(stream.readline()), server)) + "\n")


def serve(control: socket.socket, server: PostgresServer, launcher: int) -> None:
    """Answer the launcher until it lets go of the lifeline or is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(control, selectors.EVENT_READ, converse)
        # A process that the launcher forked may hold the lifeline open: so look at the parent too.
        while os.getppid() == launcher:
            _ = server.pid  # reaps a server that crashed
            for key, _events in selector.select(timeout=1):
                if key.data:
                    key.data(control, server)
                elif not os.read(0, 4096):
                    return


def supervise(run: Path, home: Path, settings: Mapping[str, str]) -> None:
    """Run a server until the launcher ends; then stop it and remove *run*."""
    launcher, server = os.getppid(), None
    try:
        with socket.socket(socket.AF_UNIX) as control:
            prepare_home(home)
            control.bind(str(run / "control"))
            control.listen()
            server = PostgresServer(run, home, settings)
            server.start()
            report(port=server.port, pid=server.pid, passwords=server.passwords)
            serve(control, server, launcher)
    except (EmbeddedError, OSError) as error:
        report(error=str(error))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if server is not None:
            server.stop("fast")
        shutil.rmtree(run, ignore_errors=True)


def main() -> None:
    """Read the command line."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervise(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))


if __name__ == "__main__":
    main()
