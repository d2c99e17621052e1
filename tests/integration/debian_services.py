"""Services that the project does not embed: PgBouncer, and a Postgres whose messages are German.

They are Debian's. A test is skipped, and says why, where one is missing; ``.ci/run`` installs them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

START_SECONDS = 30
# Neither program runs as root.
ACCOUNT: dict[str, Any] = {"user": "nobody", "group": "nogroup"} if os.geteuid() == 0 else {}
GERMAN = "de_DE.UTF-8"


def program(name: str, package: str) -> str:
    """The path of a program; skips the test where it is missing."""
    found = [*sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or (found and str(found[0]))
    if not path:
        pytest.skip(f"no program {name!r}: install {package}")
    return str(path)


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for the account that runs the services, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="etl-"))
    try:
        if ACCOUNT:
            shutil.chown(folder, **ACCOUNT)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a service listens."""
    ends_at = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < ends_at:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"no service on port {port}")


class PgBouncer:
    """A running PgBouncer in front of a Postgres; each database there has the same name here."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], password: str) -> None:
        self.port = port
        self.process = process
        self._password = password

    def url(self, url: str) -> str:
        """The address of a database through the pooler."""
        return sa.make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def admin(self, command: str) -> None:
        """Give a command on the pooler's console."""
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=self.port,
            user="admin",
            password=self._password,
            dbname="pgbouncer",
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(command)
        connection.close()


@contextmanager
def pgbouncer(url: str, mode: str, **settings: Any) -> Iterator[PgBouncer]:
    """Start a PgBouncer as Debian configures it, for the server and the user of a URL.

    :param mode: its pool_mode
    :param settings: more of its settings
    """
    path = program("pgbouncer", "pgbouncer")
    server = sa.make_url(url)
    with private_folder() as folder:
        port = free_port()
        users = {server.username: server.password, "admin": server.password}
        lines = "".join(f'"{name}" "{password}"\n' for name, password in users.items())
        (folder / "users").write_text(lines)
        own = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "",
            "auth_type": "scram-sha-256", "auth_file": folder / "users", "pool_mode": mode,
            "admin_users": "admin", "logfile": folder / "log",
        } | settings  # fmt: skip
        text = f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\n"
        text += "".join(f"{name} = {value}\n" for name, value in own.items())
        (folder / "pgbouncer.ini").write_text(text)
        process = subprocess.Popen(
            [path, "-q", str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, **ACCOUNT
        )
        try:
            wait_until_open(port, process)
            yield PgBouncer(port, process, str(server.password))
        finally:
            process.kill()
            process.wait()


class GermanPostgres:
    """A running Postgres whose messages are in German."""

    def __init__(self, folder: Path, locales: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._environment = {"PATH": os.defpath, "LOCPATH": str(locales), "LC_ALL": GERMAN}
        self._process: subprocess.Popen[bytes] | None = None

    def make(self, access: str) -> None:
        """Make the cluster, with these lines for TCP in pg_hba.conf."""
        self._run("initdb", "-D", str(self.data), "--username=postgres", "--auth=trust",
                  "--encoding=UTF8", "--no-sync")  # fmt: skip
        (self.data / "pg_hba.conf").write_text(f"local all postgres trust\n{access}")

    @property
    def data(self) -> Path:
        """The folder that Postgres calls its data directory."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self, **settings: str) -> None:
        """Start it and wait until it listens; it may not accept logins yet."""
        own = {"port": str(self.port), "unix_socket_directories": str(self.folder), "fsync": "off",
               "listen_addresses": "127.0.0.1", "log_connections": "on"} | settings  # fmt: skip
        arguments = [part for name, value in own.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("postgres", "postgresql"), "-D", str(self.data), *arguments],
                stderr=log, env=self._environment, cwd="/", **ACCOUNT,
            )  # fmt: skip
        wait_until_open(self.port, self._process)

    def signal(self, number: int) -> None:
        """Send a signal to the server; SIGTERM lets sessions end by themselves."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            self.signal(signal.SIGINT)
            self._process.wait(START_SECONDS)

    def do(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as the superuser, once it accepts logins."""
        ends_at = time.monotonic() + START_SECONDS
        while True:
            try:
                connection = psycopg2.connect(
                    host=str(self.folder), port=self.port, user="postgres", dbname=database
                )
                break
            except psycopg2.OperationalError:
                if time.monotonic() > ends_at:
                    raise
                time.sleep(0.05)
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def url(self, user: str, password: str, database: str, more: str = "") -> str:
        """The address of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}{more}"

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name, "postgresql"), *arguments],
            check=True, capture_output=True, env=self._environment, cwd="/", **ACCOUNT,
        )  # fmt: skip


@contextmanager
def german_postgres(access: str, settings: Mapping[str, str]) -> Iterator[GermanPostgres]:
    """Make and start a Postgres that speaks German.

    :param access: lines of pg_hba.conf
    """
    program("postgres", "postgresql")
    if not list(Path("/usr/share/locale/de/LC_MESSAGES").glob("postgres-*.mo")):
        pytest.skip("Postgres has no German messages: install Debian's postgresql")
    with private_folder() as folder:
        locales = folder / "locales"
        locales.mkdir()
        language, _, charset = GERMAN.partition(".")
        compile_locale = [program("localedef", "locales"), "-i", language, "-f", charset]
        made = subprocess.run([*compile_locale, locales / GERMAN], capture_output=True, check=False)
        if made.returncode:
            pytest.skip(f"no locale {GERMAN!r}: install locales")
        server = GermanPostgres(folder, locales)
        server.make(access)
        try:
            server.start(**settings)
            yield server
        finally:
            server.stop()
