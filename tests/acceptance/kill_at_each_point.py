"""Runs a command of the quarantine repeatedly, and kills it one statement later each time.

It is a separate process, ``python -m tests.acceptance.kill_at_each_point replay|forget``, which
forks: a fork of a process with all modules loaded takes milliseconds, and SIGKILL ends it
completely. After each kill it reads the database and prints what it found as a JSON line.
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


def _replay(settings: Settings, engine: sa.Engine, keyring: Keyring) -> object:
    return replay(settings, engine, keyring, Selection())


def _forget(settings: Settings, engine: sa.Engine, keyring: Keyring) -> object:
    column = masked_column(settings.table, "ip")
    search = Search(engine, settings, keyring, column, os.environ["VALUE"])
    return forget_value(search, "delete", "erasure request")


COMMANDS: dict[str, Command] = {"replay": _replay, "forget": _forget}


def _kill_at(engine: sa.Engine, points: int) -> None:
    """Make this process kill itself when it has passed this number of crash points.

    There is a crash point before and after each statement and each commit.
    """
    left = itertools.count(points, -1)

    def point(*_: Any) -> None:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for event in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(engine, event, point)
    # The commit event comes before the commit; this one after it.
    sa.event.listen(engine.pool, "checkin", point)


def attempt(command: Command, settings: Settings, keyring: Keyring, points: int) -> bool:
    """Run the command in a fork; returns whether it lived to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            engine = open_engine(settings.database)
            _kill_at(engine, points)
            command(settings, engine, keyring)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the command failed without being killed")
    return True


def look(url: str) -> dict[str, Any]:
    """Read the users, how the entries were closed, and the number of audit rows."""
    engine = sa.create_engine(driver_url(url), poolclass=sa.NullPool)
    with engine.connect() as connection:
        # Wait until the server has noticed the death of the process and rolled back.
        connection.exec_driver_sql("lock table etl.quarantine, user_logins in exclusive mode")
        return {
            "users": _column(connection, "select user_id from user_logins order by 1"),
            "closed_as": _column(
                connection,
                "select coalesce(closed_as, 'open') from etl.quarantine order by quarantine_id",
            ),
            "audit": _column(connection, "select count(*) from etl.unmask_audit")[0],
        }


def _column(connection: sa.Connection, statement: str) -> list[Any]:
    return list(connection.execute(sa.text(statement)).scalars())


def main() -> None:
    """Kill at the first point, then at the second, and so on, until the command lives."""
    settings = config.load(ROOT / "config.yaml", os.environ)
    keyring = load_keyring(os.environ)
    command = COMMANDS[sys.argv[1]]
    first = int(os.environ.get("FIRST", "0"))
    step = int(os.environ.get("STEP", "1"))
    for points in itertools.count(first, step):
        lived = attempt(command, settings, keyring, points)
        seen = look(os.environ["DATABASE_URL"])
        sys.stdout.write(json.dumps({"points": points, "lived": lived, **seen}) + "\n")
        if lived:
            return


if __name__ == "__main__":
    main()
