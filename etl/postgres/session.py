"""What every transaction sets for itself, so that nothing it inherits changes what is stored.

A session inherits settings from the server, the database and the role (``ALTER ... SET``), from the
URL, from PGOPTIONS and libpq's other variables, from a service file and from a connection pooler.
Each transaction sets its own instead, until its end: a pooler may give every transaction another
session, and must not keep what ours has set. docs/reliability.md shows the list, and says what is
decided about all other settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import sqlalchemy as sa

from etl.errors import ConfigurationError

# How much later than the client's watchdog the server ends a transaction by itself.
AFTER_WATCHDOG_SECONDS = 10
MAX_MILLISECONDS = 2**31 - 1  # of a time limit in Postgres


@dataclass(frozen=True)
class Setting:
    """A setting that each transaction sets."""

    name: str
    value: str
    reason: str  # what it could change if it were inherited
    since: int = 0  # the first major version of Postgres that has it


SETTINGS = (
    Setting("client_encoding", "UTF8", "text would be stored as other text, or refused"),
    Setting(
        "standard_conforming_strings", "on", "a backslash in a text would begin an escape sequence"
    ),
    Setting("DateStyle", "ISO, MDY", "dates would be read in another order"),
    Setting("IntervalStyle", "postgres", "intervals would be written in another form"),
    Setting("TimeZone", "UTC", "a date compared with a time would mean another midnight"),
    Setting("bytea_output", "hex", "sealed bodies would be written in another form"),
    Setting("extra_float_digits", "1", "floats would be read with fewer digits"),
    Setting("array_nulls", "on", "a null in an array would be read as the text NULL"),
    Setting("transform_null_equals", "off", "a comparison with null would match rows"),
    Setting("quote_all_identifiers", "off", "names in the catalogue would be quoted twice"),
    Setting("gin_fuzzy_search_limit", "0", "a search by a GIN index would miss rows"),
    Setting("row_security", "on", "row-level security would be an error, even for allowed rows"),
    Setting("exit_on_error", "off", "one refused row would end the session, as an outage does"),
    Setting(
        "restrict_nonsystem_relation_kind", "", "views and foreign tables would be refused", 17
    ),
    Setting("idle_in_transaction_session_timeout", "60s", "a client that hangs would keep locks"),
    # Both sides must notice a dead peer. For two hours otherwise, the server's transaction would
    # keep its locks on the ledger. The client's side is in etl/postgres/engine.py.
    Setting("tcp_keepalives_idle", "10", "a client that is gone would keep locks for hours"),
    Setting("tcp_keepalives_interval", "5", "the same"),
    Setting("tcp_keepalives_count", "3", "the same"),
    Setting("tcp_user_timeout", "30000", "the same"),
)
# A transaction that only reads keeps the limits of its role: they change no row, and with them an
# administrator protects a server from an analyst's query. A transaction that writes would fail at
# them in every attempt. A batch has a limit of its own instead, database.answer_seconds.
TIME_LIMITS = (
    Setting("statement_timeout", "0", "a large batch would fail at every attempt"),
    Setting("transaction_timeout", "0", "the same", 17),
    Setting("lock_timeout", "0", "the same, if another session holds a lock for long"),
)
OF_A_BATCH = ("statement_timeout", "transaction_timeout")

# The two whose value depends on what is inherited. A COMMIT is answered when it is on disk, and on
# the standbys' disks if there are synchronous standbys; remote_apply waits for more, so it stays.
_SYNCHRONOUS_COMMIT = """pg_catalog.set_config('synchronous_commit', case
when pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) 'remote_apply'
then 'remote_apply' else 'on' end, true)"""
# The path itself stays, because triggers of the target may need it. Postgres searches these two
# schemas first, unless the path lists them further back.
_SEARCH_PATH = """pg_catalog.set_config('search_path', (
select coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(name), ', '), '')
from pg_catalog.unnest(pg_catalog.current_schemas(false)) as name
where name operator(pg_catalog.!~) '^pg_(catalog$|temp)'), true)"""
_REPLICATION_ROLE = "pg_catalog.current_setting('session_replication_role')"


def set_up_transactions(engine: sa.Engine, max_seconds: float | None = None) -> None:
    """Make every transaction of the engine begin with the settings of this module.

    :param max_seconds: time limit that the client keeps for its transactions. The server's own is
        a little longer, so that it only ends what the client has given up: the rest of a statement
        (of the transaction, from Postgres 17 on) whose locks the next attempt would wait for.
    """
    limit = 0 if max_seconds is None else int((max_seconds + AFTER_WATCHDOG_SECONDS) * 1000)
    limit = min(limit, MAX_MILLISECONDS)

    def begin(connection: sa.Connection) -> None:
        version = (connection.dialect.server_version_info or (0,))[0]
        is_reader = bool(connection.get_execution_options().get("postgresql_readonly"))
        row = connection.exec_driver_sql(_statement(version, is_reader, limit)).one()
        _check_replication_role(row[-1])

    sa.event.listen(engine, "begin", begin)


@cache
def _statement(version: int, is_reader: bool, limit_milliseconds: int) -> str:
    """One SELECT, so that it costs one round trip. No name in it depends on the search path."""
    settings = [*SETTINGS, *(() if is_reader else TIME_LIMITS)]
    values = [(setting.name, setting.value) for setting in settings if setting.since <= version]
    if limit_milliseconds:
        # After the 0, since that is what stops a transaction_timeout that is already running.
        names = [name for name, _ in values if name in OF_A_BATCH]
        values += [(name, str(limit_milliseconds)) for name in names]
    calls = [f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in values]
    return f"select {', '.join([*calls, _SYNCHRONOUS_COMMIT, _SEARCH_PATH, _REPLICATION_ROLE])}"


def _check_replication_role(role: str) -> None:
    # Only a superuser may set it, so it cannot be set here.
    if role != "origin":
        raise ConfigurationError(
            f"session_replication_role is {role!r}, which would skip the triggers and foreign keys "
            "of the tables; let a superuser reset it for this role, database or server: "
            "alter role ... reset session_replication_role"
        )
