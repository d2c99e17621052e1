"""Start and stop the embedded Postgres; for the demo, the tests and the notebooks.

    with EmbeddedPostgres() as postgres:
        engine = sqlalchemy.create_engine(etl.postgres.engine.driver_url(postgres.url))

It needs no installed Postgres and no root. The server ends with the process that started it, even
if that process is killed (SIGKILL): `etl.embedded.postgres_supervisor` makes sure of it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from etl.embedded.lifeline import Child
from etl.errors import EmbeddedError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# Enough for a stop that needs all its steps and then a start (60 s).
ANSWER_SECONDS = 90
# The kernel limits the path of a unix socket to 104 bytes on macOS and 108 on Linux.
MAX_SOCKET_PATH_BYTES = 100


class EmbeddedPostgres:
    """A running Postgres 18 with the database ``etl``, which belongs to the role ``etl``.

    It listens on 127.0.0.1 and on a unix socket in a private folder. Both require a password, which
    is different for every cluster. The superuser is ``postgres``.
    """

    def __init__(
        self, data: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        """Start a server and wait until it accepts connections.

        :param data: the folder to keep the cluster in, for the next start. Without it the cluster
            is temporary: it trades durability for speed and is removed at the end.
        :param settings: Postgres settings by name; they take precedence over our own.
        :raises EmbeddedError: the server did not start, or another server uses the folder.
        """
        self._run = _private_folder()
        self.data = self._run if data is None else Path(data).absolute()
        try:
            self._child = self._launch(dict(settings or {}))
        except BaseException:
            shutil.rmtree(self._run, ignore_errors=True)
            raise
        self.port: int = self._child.ready["port"]
        self.pid: int | None = self._child.ready["pid"]
        self._passwords: dict[str, str] = self._child.ready["passwords"]

    def _launch(self, settings: dict[str, str]) -> Child:
        module = "etl.embedded.postgres_supervisor"
        child = Child(module, str(self._run), str(self.data), json.dumps(settings))
        if "error" in child.ready:
            child.stop()
            raise EmbeddedError(child.ready["error"])
        return child

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of the database ``etl`` for its owner."""
        return self._url("etl", "etl")

    @property
    def superuser_url(self) -> str:
        """The URL of the database ``etl`` for the superuser."""
        return self._url("postgres", "etl")

    def _url(self, role: str, database: str) -> str:
        address = f"{role}:{self._passwords[role]}@127.0.0.1:{self.port}"
        return f"postgresql://{address}/{quote(database, safe='')}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point a job to this database."""
        return {"DATABASE_URL": self.url}

    @property
    def log_path(self) -> Path:
        """The server's log: starts, stops and crashes, but no statement and no value."""
        return self.data / "server.log"

    @property
    def cluster(self) -> Path:
        """The folder that Postgres calls its data directory."""
        return self.data / "cluster"

    @property
    def socket_folder(self) -> Path:
        """The folder of the unix socket, which is ``host`` for libpq."""
        return self._run / "socket"

    @property
    def supervisor_pid(self) -> int:
        """The process id of the server's parent process."""
        return self._child.pid

    def start(self) -> None:
        """Start a stopped or crashed server, on the same port.

        :raises EmbeddedError: it did not start.
        """
        self._ask(do="start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and keep the cluster; ``immediate`` looks like a crash."""
        self._ask(do="stop", mode=mode)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and start it again.

        :raises EmbeddedError: it did not start.
        """
        self.stop(mode)
        self.start()

    def _ask(self, **request: str) -> None:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(ANSWER_SECONDS)
                connection.connect(str(self._run / "control"))
                with connection.makefile("rw") as stream:
                    stream.write(json.dumps(request) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = json.loads(stream.readline())
        except (OSError, ValueError):
            raise EmbeddedError(
                f"the supervisor of the embedded Postgres, process {self.supervisor_pid}, does not "
                "answer: start a new server"
            ) from None
        if "error" in answer:
            raise EmbeddedError(answer["error"])
        self.pid = answer["pid"]

    def close(self) -> None:
        """Stop the server for good; a temporary cluster is removed."""
        self._child.stop()
        # The supervisor has already removed the folder, unless it was killed.
        shutil.rmtree(self._run, ignore_errors=True)

    def new_database(self, name: str | None = None) -> str:
        """Create an empty database that belongs to ``etl``; return its URL.

        :raises EmbeddedError: the server is not running, or the name is taken.
        """
        from psycopg2 import sql

        name = name or f"etl_{secrets.token_hex(6)}"
        with self._superuser() as cursor:
            cursor.execute(sql.SQL("create database {} owner etl").format(sql.Identifier(name)))
        return self._url("etl", name)

    def drop_database(self, url: str) -> None:
        """Drop the database of *url* if it exists, and end its sessions.

        :raises EmbeddedError: the server is not running.
        """
        from psycopg2 import sql

        name = unquote(urlsplit(url).path.removeprefix("/"))
        with self._superuser() as cursor:
            cursor.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )

    @contextlib.contextmanager
    def _superuser(self) -> Iterator[Cursor]:
        """Yield a cursor without a transaction, on the database ``postgres``."""
        import psycopg2

        try:
            with contextlib.closing(
                psycopg2.connect(
                    host=str(self.socket_folder),
                    port=self.port,
                    user="postgres",
                    password=self._passwords["postgres"],
                    dbname="postgres",
                )
            ) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    yield cursor
        except psycopg2.Error as error:
            raise EmbeddedError(f"the embedded Postgres refused the statement: {error}") from None


def _private_folder() -> Path:
    """Make a temporary folder whose path is short enough for a unix socket inside."""
    parent = Path(tempfile.gettempdir())
    socket_path = parent / "etl-pg-12345678" / "socket" / ".s.PGSQL.12345"
    if len(bytes(socket_path)) > MAX_SOCKET_PATH_BYTES:
        parent = Path("/tmp")  # noqa: S108  (mkdtemp makes it private)
    return Path(tempfile.mkdtemp(prefix="etl-pg-", dir=parent))
