"""The engine, the job's tables, and what a database error means.

Nothing that psycopg2 or SQLAlchemy says about a failed statement leaves this module: messages,
DETAIL lines and parameters all carry the values of rows. What leaves is the SQLSTATE and names
from the catalogue.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import pandas as pd
import psycopg2
import sqlalchemy as sa

from etl.config import Column, Database, Table
from etl.errors import DatabaseRefused, DatabaseUnavailable, EtlError, SettingsError, TableError
from etl.schema import sql_type, table_columns

# SQLSTATE classes and codes (PostgreSQL documentation, appendix A). A row is at fault: data
# exception, integrity constraint violation, program limit exceeded.
ROW_CLASSES = ("22", "23", "54")
# The server is away or overloaded, or asks to try again: connection exception, insufficient
# resources, operator intervention, transaction rollback (serialization, deadlock), system error,
# read-only after a failover, lock not available, idle-in-transaction timeout.
OUTAGE_CLASSES = ("08", "53", "57", "40", "58")
OUTAGE_CODES = ("25006", "55P03", "25P03")

# A dead peer must be noticed by both sides. Without these a cut network holds a client for two
# hours, and a server-side transaction keeps its locks on the ledger for as long.
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

# Refusals at connecting come without a SQLSTATE (libpq gives text only). These will not mend
# themselves; anything else may.
_REFUSED = re.compile(
    r"password authentication failed|no pg_hba\.conf entry|no password supplied"
    r'|database ".*" does not exist|role ".*" does not exist|permission denied for database'
)


NO_TABLES = "the job's tables are missing; create them with: python -m etl init"

# The newest column of each of the job's tables: without it the table is absent, or an earlier
# version of this program made it.
_NEWEST = {
    "ledger": "handled_at",
    "quarantine": "closed_as",
    "runs": "command",
    "unmask_audit": "fingerprint",
    "broken_checks": "messages",
}


class RowRefused(Exception):  # noqa: N818  (caught by the loader, which finds the row)
    """A row cannot be stored; says the SQLSTATE and the constraint or column, never the value."""

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check


def engine(database: Database, connections: int = 1) -> sa.Engine:
    """Make an engine; connects to nothing yet.

    :param connections: that it keeps open
    :raises SettingsError: DATABASE_URL is missing or no Postgres URL
    """
    if database.url is None:
        raise SettingsError(
            "DATABASE_URL is not set; it looks like postgresql://user:password@host:5432/name"
        )
    url = driver_url(database.url.get_secret_value())
    session = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    given = url.query.get("options")
    options = f"{session} {given}" if isinstance(given, str) else session
    return sa.create_engine(
        url.difference_update_query(["options"]),
        hide_parameters=True,
        # Hours may lie between two batches, and what is between us and the database forgets.
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
    """Make a URL that names psycopg2; SQLAlchemy 2.1 would take ``postgresql://`` for psycopg 3.

    :raises SettingsError: no Postgres URL
    """
    try:
        url = sa.make_url(re.sub(r"^postgres(ql)?://", "postgresql+psycopg2://", text))
    except (sa.exc.ArgumentError, ValueError):
        # The parser's own words would quote the URL, and the password in it.
        raise SettingsError("DATABASE_URL cannot be read as a URL") from None
    if url.drivername != "postgresql+psycopg2":
        raise SettingsError("DATABASE_URL is no postgresql:// URL")
    return url


@contextlib.contextmanager
def transaction(source: sa.Engine) -> Iterator[sa.Connection]:
    """Hold a connection in one transaction, committed at the end of the block.

    :raises DatabaseUnavailable: an outage; the commit may or may not have happened
    :raises DatabaseRefused: the statement itself is refused
    :raises RowRefused: a row broke a constraint
    """
    try:
        with source.connect() as connection, connection.begin():
            yield connection
    except EtlError:
        raise
    except (sa.exc.SQLAlchemyError, psycopg2.Error) as error:
        translated = translate(error)
        if isinstance(translated, DatabaseUnavailable):
            # Whatever else the pool holds comes from before the outage.
            source.dispose()
        raise translated from None


def translate(error: BaseException) -> EtlError | RowRefused:
    """Say what a database error means, without a word of its own text once a statement has run.

    pandas and SQLAlchemy wrap what psycopg2 raised, so the chain of causes is walked.
    """
    cause = _psycopg2_error(error)
    sqlstate = getattr(cause, "pgcode", None)
    if sqlstate is None:
        if isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError)):
            return _without_sqlstate(cause)
        kind = type(cause or error).__name__
        return DatabaseRefused(f"the database driver failed with {kind!r}")
    if sqlstate.startswith(ROW_CLASSES):
        return RowRefused(" ".join([f"SQLSTATE {sqlstate}", *_names(cause)]))
    if sqlstate.startswith(OUTAGE_CLASSES) or sqlstate in OUTAGE_CODES:
        return DatabaseUnavailable(f"the database answered SQLSTATE {sqlstate} ({_kind(cause)})")
    names = " ".join(_names(cause))
    return DatabaseRefused(
        f"the database refuses the statement: SQLSTATE {sqlstate} ({_kind(cause)}) {names}".strip()
    )


def _psycopg2_error(error: BaseException | None) -> psycopg2.Error | None:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, psycopg2.Error):
            return error
        seen.add(id(error))
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
    return None


def _without_sqlstate(error: psycopg2.Error) -> EtlError:
    # No statement has run, or the server is gone; libpq's own words then name hosts and roles,
    # never rows. The first line is enough.
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if _REFUSED.search(line):
        return DatabaseRefused(f"the database refuses the connection: {line}; check DATABASE_URL")
    return DatabaseUnavailable(line)


def _kind(error: Any) -> str:
    return type(error).__name__


def _names(error: Any) -> list[str]:
    # Names of the catalogue, as the server reports them apart from its message.
    named = []
    for what in ("constraint", "column", "table"):
        name = getattr(error.diag, f"{what}_name", None)
        if name:
            named.append(f"{what} {name!r}")
    return named


@cache
def queries() -> dict[str, sa.TextClause]:
    """Queries of ``etl/sql/*.sql`` by name; what precedes the first name is for readers."""
    named: dict[str, sa.TextClause] = {}
    for file in resources.files("etl").joinpath("sql").iterdir():
        if file.name.endswith(".sql"):
            parts = re.split(r"^-- (\w+) --$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            bodies = zip(parts[1::2], parts[2::2], strict=True)
            named |= {name: sa.text(body.strip()) for name, body in bodies}
    return named


def identifier(*names: str) -> str:
    """Quote the parts of a name, whatever they hold, to stand in :func:`sqlalchemy.text`."""
    # A colon would begin a parameter; the percent sign is SQLAlchemy's to escape.
    quoted = (name.replace('"', '""').replace(":", "\\:") for name in names)
    return ".".join(f'"{name}"' for name in quoted)


def filled(query: str, fragments: Mapping[str, str]) -> str:
    """Put SQL into the ``{places}`` of a named query, once: what is put in is not looked at."""
    text = queries()[query].text
    return re.sub(r"\{(\w+)\}", lambda place: fragments[place[1]], text)


def table_of(
    source: sa.Engine, query: str | sa.TextClause, parameters: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Ask a query, named or as it is, about the job's own tables; its columns, a row a row.

    :raises TableError: the tables are not there
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(source) as connection:
        _check_own_tables(connection)
        # Not pandas.read_sql: it wraps errors, and their messages carry values.
        statement = queries()[query] if isinstance(query, str) else query
        answer = connection.execute(statement, parameters or {})
        return pd.DataFrame(answer.all(), columns=list(answer.keys()))


def create_tables(source: sa.Engine, table: Table) -> None:
    """Create what is absent: the job's own tables, or what an earlier version's lack; the target.

    A target that is there is not altered. Where nothing is absent no privilege is needed.

    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    with transaction(source) as connection:
        # Two runs that start at once would both find nothing and both create.
        connection.execute(sa.text("select pg_advisory_xact_lock(hashtext('etl.create_tables'))"))
        if _lacking(connection):
            connection.exec_driver_sql(sql_file("tables.sql"))
        target = target_table(table)
        if not sa.inspect(connection).has_table(target.name, schema=target.schema):
            target.create(connection)


def create_indexes(source: sa.Engine, table: Table) -> None:
    """Create the indexes of the configuration that are absent; loading waits meanwhile.

    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    target = target_table(table)
    for names in table.indexes:
        # Named by what they are of, so that init knows them again; cut to Postgres' 63 bytes.
        digest = hashlib.sha256(repr((table.schema_name, table.name, names)).encode()).hexdigest()
        index = sa.Index(f"etl_{digest[:16]}", *(target.c[name] for name in names))
        with transaction(source) as connection:
            index.create(connection, checkfirst=True)


def sql_file(name: str) -> str:
    """Read a file of ``etl/sql``."""
    return resources.files("etl").joinpath("sql", name).read_text(encoding="utf-8")


def target_table(table: Table) -> sa.Table:
    """Describe the target table as configured."""
    described = sa.Table(
        table.name, sa.MetaData(), *table_columns(table.columns), schema=table.schema_name
    )
    if table.token_check:
        for column in table.columns:
            if column.mask:
                described.append_constraint(_token_check(described, column))
    return described


def _token_check(described: sa.Table, column: Column) -> sa.CheckConstraint:
    # 63 bytes is the longest name; Postgres would cut a longer one in silence.
    name = f"{column.name.encode()[:54].decode(errors='ignore')}_is_token"
    call = sa.func.etl.check_token(described.c[column.name], name)
    return sa.CheckConstraint(call, name=name)


def check_tables(source: sa.Engine, table: Table) -> None:
    """See that the job's tables and the target are there, and that the target can take the rows.

    :raises TableError: one is missing, or a column of the target is missing or of another type
    :raises DatabaseRefused: a privilege is missing
    :raises DatabaseUnavailable: an outage
    """
    name = f"{table.schema_name}.{table.name}"
    with transaction(source) as connection:
        _check_own_tables(connection)
        inspector = sa.inspect(connection)
        if not inspector.has_table(table.name, schema=table.schema_name):
            raise TableError(f"table {name!r} is missing; create it with: python -m etl init")
        there = {
            column["name"]: column["type"]
            for column in inspector.get_columns(table.name, schema=table.schema_name)
        }
    for column in table.columns:
        if column.name not in there:
            raise TableError(
                f"table {name!r} has no column {column.name!r}; add it, or take it out of "
                "'table.columns'"
            )
        if not _takes(there[column.name], column):
            raise TableError(
                f"column {column.name!r} of table {name!r} is {there[column.name]}, but the "
                f"configuration makes {sql_type(column)}; change the one or the other"
            )


def _check_own_tables(connection: sa.Connection) -> None:
    lacking = _lacking(connection)
    if len(lacking) == len(_NEWEST):
        raise TableError(NO_TABLES)
    if lacking:
        raise TableError(
            f"table 'etl.{lacking[0]}' is missing, or of an earlier version; bring it up to date "
            "with: python -m etl init"
        )


def _lacking(connection: sa.Connection) -> list[str]:
    """Which of the job's own tables are absent or of an earlier version."""
    there = {tuple(pair) for pair in connection.execute(queries()["own_columns"])}
    return [table for table, column in _NEWEST.items() if (table, column) not in there]


def _takes(there: sa.types.TypeEngine[Any], column: Column) -> bool:
    """Whether the existing type holds every value of the configured one."""
    wanted = sql_type(column)
    if isinstance(wanted, sa.String):
        # Text and unbounded varchar have no length and take all.
        length = getattr(there, "length", None)
        wide = length is None or (wanted.length is not None and length >= wanted.length)
        return isinstance(there, sa.String) and wide
    if isinstance(wanted, sa.DateTime):
        return isinstance(there, sa.DateTime) and there.timezone
    if isinstance(wanted, sa.Integer) and not isinstance(wanted, sa.BigInteger):
        return isinstance(there, (sa.Integer, sa.Numeric)) and not isinstance(
            there, sa.SmallInteger
        )
    if isinstance(wanted, sa.BigInteger):
        return isinstance(there, sa.BigInteger)
    if isinstance(wanted, sa.Double):
        return isinstance(there, sa.Double)
    return isinstance(there, type(wanted))
