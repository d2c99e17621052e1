"""Runs a command of the quarantine again and again, each time killed one statement later.

A process of its own, ``python -m tests.acceptance.crash_points replay|forget``, that forks: a fork
of a process that has everything loaded costs milliseconds, and dies by SIGKILL as a whole. After
each death it looks at the database, and it prints what it saw as JSON lines.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from etl import config
from etl.config import Settings
from etl.crypto.keyring import Keyring, load_keyring
from etl.operations.entries import Selection
from etl.operations.forget import Search, forget_value
from etl.operations.replay import replay
from etl.postgres.engine import driver_url, open_engine
from etl.schema import masked_column
from tests.conftest import ROOT

Command = Callable[[Settings, sa.Engine, Keyring], object]


def _replay(settings: Settings, engine: sa.Engine, ring: Keyring) -> object:
    return replay(settings, engine, ring, Selection())


def _forget(settings: Settings, engine: sa.Engine, ring: Keyring) -> object:
    column = masked_column(settings.table, "ip")
    search = Search(engine, settings, ring, column, os.environ["VALUE"])
    return forget_value(search, "delete", "erasure request")


COMMANDS: dict[str, Command] = {"replay": _replay, "forget": _forget}


def _mortal(engine: sa.Engine, points: int) -> None:
    """Kill this process before its statement or commit of that number, or right after it."""
    left = itertools.count(points, -1)

    def point(*_: Any) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for event in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(engine, event, point)
    # The commit event comes before the commit; this one after it.
    sa.event.listen(engine.pool, "checkin", point)


def attempt(command: Command, settings: Settings, ring: Keyring, points: int) -> bool:
    """Run the command in a fork; returns whether it lived to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            engine = open_engine(settings.database)
            _mortal(engine, points)
            command(settings, engine, ring)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the command failed by itself")
    return True


def look(url: str) -> dict[str, Any]:
    """The users in the table, the fates of the entries, the rows of the audit."""
    engine = sa.create_engine(driver_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        # What the dead one had open is rolled back when the server notices, not before.
        connection.exec_driver_sql("lock table etl.quarantine, user_logins in exclusive mode")
        return {
            "users": _column(connection, "select user_id from user_logins order by 1"),
            "fates": _column(
                connection,
                "select coalesce(closed_as, 'open') from etl.quarantine order by quarantine_id",
            ),
            "audit": _column(connection, "select count(*) from etl.unmask_audit")[0],
        }


def _column(connection: sa.Connection, statement: str) -> list[Any]:
    return list(connection.execute(sa.text(statement)).scalars())


def main() -> None:
    """Kill at the first point, the second, and so on, until the command lives."""
    settings = config.load(ROOT / "config.yaml", os.environ)
    ring, command = load_keyring(os.environ), COMMANDS[sys.argv[1]]
    first, step = int(os.environ.get("FIRST", "0")), int(os.environ.get("STEP", "1"))
    for points in itertools.count(first, step):
        lived = attempt(command, settings, ring, points)
        seen = look(os.environ["DATABASE_URL"])
        sys.stdout.write(json.dumps({"points": points, "lived": lived, **seen}) + "\n")
        if lived:
            return


if __name__ == "__main__":
    main()
