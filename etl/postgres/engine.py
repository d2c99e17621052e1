"""The engine that connects to the database, and a transaction on it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg2
import sqlalchemy as sa

from etl.config import DatabaseSettings
from etl.errors import DatabaseUnavailable, SettingsError
from etl.postgres.sqlstate import translate

# Both sides must notice a dead peer. Without these settings a cut network blocks the client for two
# hours, and for as long the server's transaction keeps its locks on the ledger.
_CONNECTION = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
    "application_name": "etl",
}
_SESSION = {
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "timezone": "UTC",
}


def open_engine(database: DatabaseSettings, connections: int = 1) -> sa.Engine:
    """Make an engine. Does not connect yet.

    :param connections: how many the engine keeps open
    :raises SettingsError: DATABASE_URL is missing or is not a Postgres URL
    """
    if database.url is None:
        raise SettingsError(
            "DATABASE_URL is not set; it looks like postgresql://user:password@host:5432/name"
        )
    url = driver_url(database.url.get_secret_value())
    session = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    url_options = url.query.get("options")
    options = f"{session} {url_options}" if isinstance(url_options, str) else session
    return sa.create_engine(
        url.difference_update_query(["options"]),
        hide_parameters=True,
        # Hours may pass between two batches, and a firewall in between may drop the connection.
        pool_pre_ping=True,
        pool_size=connections,
        max_overflow=1,
        connect_args={
            **_CONNECTION,
            "connect_timeout": database.connect_seconds,
            "options": options,
        },
    )


def driver_url(text: str) -> sa.URL:
    """Make a URL that names psycopg2. SQLAlchemy 2.1 reads ``postgresql://`` as psycopg 3.

    :raises SettingsError: it is not a Postgres URL
    """
    try:
        url = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", text))
    except (sa.exc.ArgumentError, ValueError):
        # The parser's message would quote the URL, including its password.
        raise SettingsError("DATABASE_URL cannot be read as a URL") from None
    if url.drivername != "postgresql+psycopg2":
        raise SettingsError("DATABASE_URL is not a postgresql:// URL")
    return url


@contextlib.contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Run the block in one transaction, which is committed at its end.

    :raises DatabaseUnavailable: an outage; the commit may or may not have happened
    :raises DatabaseRefused: the statement itself is refused
    :raises RowRefused: a row violates a constraint
    """
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
        translated = translate(error)
        if isinstance(translated, DatabaseUnavailable):
            # The other connections of the pool are from before the outage.
            engine.dispose()
        raise translated from None
