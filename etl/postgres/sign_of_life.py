"""A run's sign of life: the time in ``etl.runs`` at which it was last seen, by the server's clock.

It shows whether a run that has not finished is still running or was killed. It also comes while the
run waits for messages or loads one batch for long. It is never worth a wait, an error or a line in
the log: what it cannot write, it leaves out.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import sqlalchemy as sa

from etl.config import DatabaseSettings
from etl.postgres.engine import open_engine
from etl.postgres.queries import queries
from etl.postgres.watchdog import Watchdog

log = logging.getLogger(__name__)

EVERY_SECONDS = 15.0
MAX_SECONDS = 30.0  # for one sign
LOCK_SECONDS = 5.0  # that one sign waits for the table, by the server's clock
END_SECONDS = 1.0  # that the end of a run waits for a sign in progress


@contextlib.contextmanager
def signs_of_life(
    database: DatabaseSettings, run_id: str, every_seconds: float = EVERY_SECONDS
) -> Iterator[None]:
    """Give signs of life of a run until the block ends."""
    done = threading.Event()
    # A daemon, because an attempt to connect cannot be ended.
    thread = threading.Thread(
        target=_give, args=(database, run_id, every_seconds, done), name="sign of life", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(END_SECONDS)


def _give(
    database: DatabaseSettings, run_id: str, every_seconds: float, done: threading.Event
) -> None:
    engine = open_engine(database)
    watchdog = Watchdog(engine, MAX_SECONDS, logging.DEBUG)
    while not done.wait(every_seconds):
        try:
            with watchdog.limited(done.is_set):
                give_sign_of_life(engine, run_id)
        except Exception as error:  # noqa: BLE001  (an outage, a missing right: the run goes on)
            log.debug("no sign of life could be given: %s", type(error).__name__)
        finally:
            # Connections may be few, and this one would be idle nearly all the time.
            engine.dispose()


def give_sign_of_life(engine: sa.Engine, run_id: str) -> None:
    """Note in a run's row that it is alive.

    The statement commits by itself, in one round trip. So a connection that fails right after it
    leaves no lock on the row, for which a batch would have to wait.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        parameters = {"run_id": run_id, "lock_timeout": f"{LOCK_SECONDS * 1000:.0f}ms"}
        connection.execute(queries()["give_sign_of_life"], parameters)
