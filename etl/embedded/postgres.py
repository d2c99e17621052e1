"""A Postgres of our own, for the demo, the tests and the notebooks: no installation, no root.

    with EmbeddedPostgres() as postgres:
        engine = sqlalchemy.create_engine(etl.postgres.engine.driver_url(postgres.url))

The server is gone when the process that started it is gone, even by SIGKILL:
`etl.embedded.postgres_supervisor` sees to that.
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

# Start (60 s) after a stop that had to go through all its steps.
ANSWER_SECONDS = 90
# The kernel's limit for the path of a unix socket is 104 bytes on macOS, 108 on Linux.
SOCKET_PATH_BYTES = 100


class EmbeddedPostgres:
    """A running Postgres 18 with the database ``etl``, which belongs to the role ``etl``.

    It listens on 127.0.0.1 and on a unix socket in a private folder; both want a password, made
    anew for every cluster. The superuser is ``postgres``.
    """

    def __init__(
        self, data: Path | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        """Start a server and wait until it takes connections.

        :param data: keep the cluster in this folder and use it again next time; without it the
            cluster is temporary, trades durability for speed and is removed at the end.
        :param settings: settings of Postgres by name, before the defaults of this module.
        :raises EmbeddedError: it did not start, or another server uses the folder.
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
        """The database ``etl`` as its owner."""
        return self._url("etl", "etl")

    @property
    def superuser_url(self) -> str:
        """The database ``etl`` as ``postgres``."""
        return self._url("postgres", "etl")

    def _url(self, role: str, database: str) -> str:
        address = f"{role}:{self._passwords[role]}@127.0.0.1:{self.port}"
        return f"postgresql://{address}/{quote(database, safe='')}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a job finds this database."""
        return {"DATABASE_URL": self.url}

    @property
    def log_path(self) -> Path:
        """The server's log: starts, stops and crashes, no statement and no value."""
        return self.data / "server.log"

    @property
    def cluster(self) -> Path:
        """What Postgres calls the data directory."""
        return self.data / "cluster"

    @property
    def socket_folder(self) -> Path:
        """The folder of the unix socket: libpq's ``host``."""
        return self._run / "socket"

    @property
    def supervisor_pid(self) -> int:
        """The process id of the server's parent."""
        return self._child.pid

    def start(self) -> None:
        """Start the stopped or crashed server, on the same port.

        :raises EmbeddedError: it did not start.
        """
        self._ask(do="start")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and keep the cluster: ``immediate`` is what a crash looks like."""
        self._ask(do="stop", mode=mode)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start.

        :raises EmbeddedError: it did not start again.
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
                f"the supervisor of Postgres, process {self.supervisor_pid}, does not answer: "
                "start a new server"
            ) from None
        if "error" in answer:
            raise EmbeddedError(answer["error"])
        self.pid = answer["pid"]

    def close(self) -> None:
        """Stop the server for good; remove the cluster if it is temporary."""
        self._child.stop()
        # The supervisor has done it, unless it was killed.
        shutil.rmtree(self._run, ignore_errors=True)

    def new_database(self, name: str | None = None) -> str:
        """Make an empty database that belongs to ``etl``; return its url.

        :raises EmbeddedError: the server does not run, or the name is taken.
        """
        from psycopg2 import sql

        name = name or f"etl_{secrets.token_hex(6)}"
        with self._superuser() as cursor:
            cursor.execute(sql.SQL("create database {} owner etl").format(sql.Identifier(name)))
        return self._url("etl", name)

    def drop_database(self, url: str) -> None:
        """Remove the database of *url*, if it is there, and end the sessions on it.

        :raises EmbeddedError: the server does not run.
        """
        from psycopg2 import sql

        name = unquote(urlsplit(url).path.removeprefix("/"))
        with self._superuser() as cursor:
            cursor.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )

    @contextlib.contextmanager
    def _superuser(self) -> Iterator[Cursor]:
        """Yield a cursor outside any transaction, on another database than ``etl``."""
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
            raise EmbeddedError(f"the embedded Postgres refused: {error}") from None


def _private_folder() -> Path:
    """Make a temporary folder whose path leaves room for a unix socket."""
    parent = Path(tempfile.gettempdir())
    longest = parent / "etl-pg-12345678" / "socket" / ".s.PGSQL.12345"
    if len(bytes(longest)) > SOCKET_PATH_BYTES:
        parent = Path("/tmp")  # noqa: S108  (mkdtemp makes it private)
    return Path(tempfile.mkdtemp(prefix="etl-pg-", dir=parent))
