"""The folder of an embedded Postgres: its lock, its passwords and its data directory.

    HOME/
      cluster/            what Postgres calls the data directory
      passwords.json
      server.log
      lock                held as long as any process of the server lives

Postgres refuses to run as root. Started by root, it runs as ``nobody`` and receives the folders
that it needs as open descriptors. So they can be anywhere, under /root for instance, and HOME is
not opened to anyone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from etl.embedded.postgres_programs import OsAccount, run_as
from etl.errors import EmbeddedError

# A server whose launcher was killed has shut down, and released the lock, within this time.
LOCK_SECONDS = 3

# If a process is killed, even the server itself, these settings lose nothing; only a crash of the
# whole machine would, and a temporary cluster does not survive that anyway. Kept clusters stay
# durable.
TEMPORARY_SETTINGS = {"fsync": "off", "full_page_writes": "off"}

INITDB = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    # Nobody can log in until the passwords are set and pg_hba.conf is replaced.
    "--auth=reject",
    "--no-instructions",
)
# From version 17 on the same on every system; before, the system's own locale.
BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
SYSTEM_LOCALE = ("--lc-ctype=C.UTF-8",)
ACCESS = """\
# Every account of this machine can connect to 127.0.0.1, so a password is always required.
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def prepare_home(home: Path) -> None:
    """Make the folder *home*, readable by its owner only.

    :raises EmbeddedError: the folder contains other files.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {path.name for path in home.iterdir()}
    if names and "lock" not in names:
        raise EmbeddedError(f"{str(home)!r} contains other files: choose an empty folder")
    home.chmod(0o700)


@contextlib.contextmanager
def inheritable(folder: Path, account: OsAccount | None) -> Iterator[tuple[str, int]]:
    """Open *folder*; yield its path for Postgres and the descriptor that Postgres must inherit."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield (f"/proc/self/fd/{descriptor}" if account else str(folder)), descriptor
    finally:
        os.close(descriptor)


def make_private(folder: Path, account: OsAccount | None) -> None:
    """Make an empty folder that only *account* and root can enter."""
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
    # Renamed when it is complete, so that a killed start does not leave half a cluster in place.
    half = home / "cluster.half"
    shutil.rmtree(half, ignore_errors=True)
    make_private(half, account)
    with inheritable(half, account) as (path, descriptor):
        program = str(programs / "initdb")
        has_builtin = "--builtin-locale" in _run([program, "--help"], account, descriptor)
        locale = BUILTIN_LOCALE if has_builtin else SYSTEM_LOCALE
        initdb = [program, "-D", path, *INITDB, *locale]
        if not durable:
            initdb.append("--no-sync")
        _run(initdb, account, descriptor)
        (half / "pg_hba.conf").write_text(ACCESS)
        # Single-user mode reads statements from standard input, so that no password is in an
        # argument or a file.
        statements = (
            f"alter role postgres password '{passwords['postgres']}';\n"
            f"create role etl login password '{passwords['etl']}';\n"
            "create database etl owner etl;\n"
        )
        # Without the first setting, the error raised by _run would quote a failed statement.
        settings = {"log_min_error_statement": "panic"} | ({} if durable else TEMPORARY_SETTINGS)
        postgres = [str(programs / "postgres"), "--single", "-D", path]
        _run(
            [*postgres, *settings_arguments(settings), "postgres"], account, descriptor, statements
        )
    half.rename(home / "cluster")


def settings_arguments(settings: Mapping[str, str]) -> list[str]:
    """Return *settings* as arguments of ``postgres``."""
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _run(
    command: list[str], account: OsAccount | None, descriptor: int, statements: str = ""
) -> str:
    completed = subprocess.run(
        command,
        input=statements,
        check=False,
        capture_output=True,
        text=True,
        pass_fds=(descriptor,),
        **run_as(account),
    )
    # Single-user mode continues after a failed statement and ends with exit code 0.
    if completed.returncode != 0 or "ERROR:" in completed.stderr:
        program = Path(command[0]).name
        raise EmbeddedError(f"{program!r} could not make the cluster:\n{completed.stderr[-2000:]}")
    return str(completed.stdout)


def read_passwords(home: Path) -> dict[str, str]:
    """Return the password of each role; the first call for a *home* makes them."""
    path = home / "passwords.json"
    if not path.exists():
        new = {role: secrets.token_hex(24) for role in ("postgres", "etl")}
        half = path.with_suffix(".half")
        half.write_text(json.dumps(new))  # mode 0600, by the umask of the supervisor
        half.rename(path)
    passwords: dict[str, str] = json.loads(path.read_text())
    return passwords


def lock(home: Path) -> int:
    """Lock *home*; return the descriptor of the lock, which every server process inherits.

    :raises EmbeddedError: another server holds the lock.
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

    Postgres itself only checks whether the process id is in use. After a crash another program may
    have taken that id, which is likely in a container, and Postgres would then refuse to start.
    A server is recognised by its working directory, which is its cluster. Where there is no /proc,
    the file is left to Postgres.

    :raises EmbeddedError: a server that was started by something else runs on this cluster.
    """
    path = cluster / "postmaster.pid"
    if not path.exists() or not Path("/proc/self/cwd").exists():
        return
    pid = path.read_text().partition("\n")[0]
    try:
        used = os.path.samestat(Path("/proc", pid, "cwd").stat(), cluster.stat())
    except OSError:  # no such process, or it belongs to a user who cannot read the cluster
        used = False
    if used:
        raise EmbeddedError(
            f"{str(cluster)!r} is used by another Postgres, process {pid}: "
            "stop that one or choose another folder"
        )
    path.unlink()
