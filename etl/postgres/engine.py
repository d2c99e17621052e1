"""The engine that connects to the database, and a transaction on it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import psycopg2
import sqlalchemy as sa

from etl.config import DatabaseSettings
from etl.errors import DatabaseUnavailable, SettingsError
from etl.postgres.login import Login
from etl.postgres.rds import rds_parameters
from etl.postgres.session import set_up_transactions
from etl.postgres.sqlstate import translate
from etl.postgres.url import (
    check_parameters,
    check_parts,
    check_user,
    clean,
    with_single_address,
)
from etl.postgres.way_out import way_out

_LOOKS_LIKE = "it looks like postgresql://user:password@host:5432/name"

# Both sides must notice a dead peer. Without these settings a cut network blocks the client for two
# hours. The server's side is in etl/postgres/session.py.
_CONNECTION = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
    "fallback_application_name": "etl",  # so PGAPPNAME takes effect
    # The driver encodes text as it is told when it connects; PGCLIENTENCODING must not tell it.
    "client_encoding": "UTF8",
}


def open_engine(
    database: DatabaseSettings, connections: int = 1, max_seconds: float | None = None
) -> sa.Engine:
    """Make an engine. Does not connect yet.

    Its transactions set what they need themselves, so no ``options`` are sent at connect: those
    would take the place of PGOPTIONS, and a connection pooler refuses them.

    :param connections: how many the engine keeps open
    :param max_seconds: time limit that the caller keeps for its transactions
    :raises SettingsError: DATABASE_URL is missing or is not a Postgres URL, or does not fit the
        login
    """
    if database.url is None:
        raise SettingsError(f"DATABASE_URL is not set; {_LOOKS_LIKE}")
    url = driver_url(database.url.get_secret_value())
    check_user(url, os.environ)
    own_parameters = {
        **_CONNECTION,
        "connect_timeout": database.connect_seconds,
        **rds_parameters(url, database, os.environ),
    }
    try:
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            isolation_level="READ COMMITTED",
            # Hours may pass between two batches, and a firewall in between may drop the connection.
            pool_pre_ping=True,
            pool_size=connections,
            max_overflow=1,
            connect_args=own_parameters,
        )
    except (sa.exc.ArgumentError, ValueError, TypeError):
        raise SettingsError("the parameters after the ? in DATABASE_URL cannot be used") from None
    login = Login(database.connect_seconds, database.make_token)
    sa.event.listen(engine, "do_connect", login.connect)
    # Before the dialect's own first statement.
    sa.event.listen(engine, "connect", login.check_transactions, insert=True)
    set_up_transactions(engine, max_seconds)
    return engine


def driver_url(text: str) -> sa.URL:
    """Make a URL that names psycopg2. SQLAlchemy 2.1 reads ``postgresql://`` as psycopg 3.

    :raises SettingsError: it is not a Postgres URL, a character in it must be percent-encoded, or a
        parameter is unknown
    """
    text = re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", clean(text))
    if not text.startswith("postgresql+psycopg2://"):
        raise SettingsError(f"DATABASE_URL is not a postgresql:// URL; {_LOOKS_LIKE}")
    check_parts(text)
    try:
        url = sa.make_url(with_single_address(text))
    except (sa.exc.ArgumentError, ValueError):
        # The parser's message would quote the URL, including its password.
        raise SettingsError(f"DATABASE_URL cannot be read as a URL; {_LOOKS_LIKE}") from None
    check_parameters(url.query)
    return url


def read_only(engine: sa.Engine) -> sa.Engine:
    """The same engine with transactions in which the server refuses to write."""
    return engine.execution_options(postgresql_readonly=True)


def wait_for_commits(engine: sa.Engine) -> None:
    """Wait until what was committed before is on disk, and on the synchronous standbys.

    A commit can be seen earlier than that: when the server was restarted, or the session ended,
    while the commit was waiting for a standby. Standbys receive commits in order, so this makes one
    more and waits for it.

    :raises DatabaseUnavailable: an outage
    """
    with transaction(engine) as connection:
        connection.exec_driver_sql("select pg_logical_emit_message(true, 'etl', '')")


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run the block in one transaction, which is committed at its end.

    :raises DatabaseUnavailable: an outage; the commit may or may not have happened
    :raises DatabaseRefused: the statement itself is refused; says what to do about it, if it can
    :raises RowRefused: a row violates a constraint
    :raises ConfigurationError: the login is refused, or the session is read-only on request
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
        translated = translate(error)
        found = way_out(engine, error, translated)
        if isinstance(translated, DatabaseUnavailable):
            # The other connections of the pool are from before the outage.
            engine.dispose()
        raise found from None
