"""The process that owns an embedded Postgres: it runs the server and cleans up after it.

Started by `etl.embedded.postgres` as ``python -m etl.embedded.postgres_supervisor RUN HOME
SETTINGS``. It ends with its launcher, and Postgres ends with it.

    RUN/                  private and temporary, removed at the end
      control             unix socket: a connection carries one JSON request and its JSON answer
      socket/             the unix socket of Postgres
    HOME/                 private and kept, or RUN itself for a temporary cluster; what is in it is
                          listed in `etl.embedded.postgres_cluster`
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.embedded.lifeline import report
from etl.embedded.postgres_cluster import prepare_home
from etl.embedded.postgres_server import PostgresServer
from etl.errors import EmbeddedError


def answer(request: dict[str, str], server: PostgresServer) -> dict[str, Any]:
    """Carry out a request of the launcher, ``start`` or ``stop``; an error is also an answer."""
    try:
        if request["do"] == "start":
            server.start()
        elif request["do"] == "stop":
            server.stop(request["mode"])
    except (EmbeddedError, OSError) as error:
        return {"error": str(error)}
    return {"pid": server.pid}


def answer_connection(control: socket.socket, server: PostgresServer) -> None:
    """Accept one connection, which carries one request and one answer."""
    with contextlib.suppress(OSError):  # the launcher may have gone; then it needs no answer
        connection, _address = control.accept()
        with connection, connection.makefile("rw") as stream:
            connection.settimeout(5)
            stream.write(json.dumps(answer(json.loads(stream.readline()), server)) + "\n")


def serve(control: socket.socket, server: PostgresServer, launcher: int) -> None:
    """Answer the launcher until it closes the lifeline or ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(control, selectors.EVENT_READ)
        # A process that the launcher forked may keep the lifeline open, so check the parent too.
        while os.getppid() == launcher:
            _ = server.pid  # collects the exit status of a server that crashed
            for key, _events in selector.select(timeout=1):
                if key.fileobj is control:
                    answer_connection(control, server)
                elif not os.read(0, 4096):
                    return


def supervise(run: Path, home: Path, settings: Mapping[str, str]) -> None:
    """Run a server until the launcher ends; then stop it and remove *run*."""
    launcher = os.getppid()
    server = None
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
    """Run as the process that `etl.embedded.postgres` starts."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    supervise(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))


if __name__ == "__main__":
    main()
