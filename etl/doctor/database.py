"""Checks of the connection and the server: TLS, version, writable, limits, clock, ledger, runs."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from etl.config import Settings
from etl.doctor.aws import clock_difference
from etl.doctor.result import Result, asked
from etl.postgres.engine import transaction
from etl.postgres.queries import queries
from etl.postgres.storage import check_encoding, durability_settings_off

OLDEST_VERSION = 14
# A limit below this may end even the statement with which a transaction sets its own.
SHORT_MILLISECONDS = 1000
# A job runs every night, or more often.
STALE_SECONDS = 2 * 24 * 3600.0
MIB = 1024 * 1024

Question = Callable[[sa.Connection, Settings], Result]


@dataclass(frozen=True)
class Session:
    """What the driver knows of an open connection."""

    host: str  # a name or an address; a folder for a Unix socket
    tls: str | None  # its version, such as TLSv1.3; None if there is none
    sslmode: str
    version: int  # of the server, such as 180004
    process: int  # the process id that the server gave for cancelling
    backend: int  # the process id of the session that executes the statements
    role: str
    name: str  # of the database

    @property
    def is_local(self) -> bool:
        """Whether the connection stays on this machine."""
        if not self.host or self.host.startswith("/") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def open_session(engine: sa.Engine) -> Session:
    """Connect, and read what the driver knows of the connection. Raises as ``transaction``."""
    with transaction(engine) as connection:
        row = connection.exec_driver_sql(
            "select pg_backend_pid(), current_user, current_database()"
        ).one()
        driver: Any = connection.connection.dbapi_connection
        info = driver.info
        return Session(
            host=info.host or "",
            tls=info.ssl_attribute("protocol") if info.ssl_in_use else None,
            sslmode=info.dsn_parameters.get("sslmode", "prefer"),
            version=info.server_version,
            process=info.backend_pid,
            backend=row[0],
            role=row[1],
            name=row[2],
        )


def results(engine: sa.Engine, settings: Settings, session: Session) -> Iterator[Result]:
    """Make the checks of an open connection and of its server."""
    found = f"role {session.role!r} in database {session.name!r}"
    yield Result("database.connection", "ok", found)
    yield tls(session)
    yield version(session)
    yield pooler(session)
    for check, ask in OF_THE_SERVER.items():
        yield asked(check, partial(_ask, engine, settings, ask))


def _ask(engine: sa.Engine, settings: Settings, ask: Question) -> Result:
    with transaction(engine) as connection:
        return ask(connection, settings)


def tls(session: Session) -> Result:
    """Whether the connection is encrypted, and whether the server is known to be the right one."""
    check = "database.tls"
    mode = f"sslmode={session.sslmode}"
    if session.is_local:
        return Result(check, "ok", f"{session.tls or 'no TLS'}, {mode}; it stays on this machine")
    advice = "set sslmode=verify-full and sslrootcert=... in DATABASE_URL"
    if session.tls is None:
        found = f"no TLS, {mode}: the password, rows and tokens can be read on the way"
        return Result(check, "warn", found, advice)
    if session.sslmode != "verify-full":
        found = f"{session.tls}, but {mode} does not make sure that it is the right server"
        return Result(check, "warn", found, advice)
    return Result(check, "ok", f"{session.tls}, {mode}")


def version(session: Session) -> Result:
    """Whether the server is of a version that the job is made for."""
    major, minor = divmod(session.version, 10_000)
    found = f"Postgres {major}.{minor}"
    if major < OLDEST_VERSION:
        advice = f"update the server to Postgres {OLDEST_VERSION} or newer"
        return Result("database.version", "warn", f"{found}, which is not tested", advice)
    return Result("database.version", "ok", found)


def pooler(session: Session) -> Result:
    """Whether a connection pooler is in between, which gives a process id of its own."""
    if session.process == session.backend:
        return Result("database.pooler", "ok", "none in between")
    return Result(
        "database.pooler",
        "warn",
        "a connection pooler is in between; its own time limits cannot be read here",
        "its time limit for a query must be above database.answer_seconds, and its pool mode "
        "'transaction' or 'session'",
    )


def encoding(connection: sa.Connection, _: Settings) -> Result:
    """Whether the database can store every text."""
    check_encoding(connection)
    return Result("database.encoding", "ok", "UTF8")


def writable(connection: sa.Connection, _: Settings) -> Result:
    """Whether the server takes rows."""
    check = "database.writable"
    if connection.exec_driver_sql("select pg_is_in_recovery()").scalar_one():
        advice = "connect to the primary, or set target_session_attrs=read-write in DATABASE_URL"
        return Result(check, "fail", "the server is a replica, which takes no rows", advice)
    source = connection.execute(queries()["read_only_source"]).scalar()
    if source is not None:
        found = f"default_transaction_read_only is on, set by: {source}"
        advice = "take it out of PGOPTIONS, or let the owner reset it: alter role ... reset ..."
        return Result(check, "fail", found, advice)
    return Result(check, "ok", "a primary, and not read-only")


def durability(connection: sa.Connection, _: Settings) -> Result:
    """Whether the server waits for its disk before it says that a commit is done."""
    off = durability_settings_off(connection)
    if off:
        found = f"{' and '.join(off)} = off: a crash of the server's machine loses rows"
        return Result("database.durability", "warn", found, "switch it on in postgresql.conf")
    return Result("database.durability", "ok", "the server waits for its disk")


def time_limits(connection: sa.Connection, _: Settings) -> Result:
    """Which time limits the role, the database or the server gives to a session."""
    check = "database.time_limits"
    limits = {
        row.name: row.milliseconds for row in connection.execute(queries()["initial_time_limits"])
    }
    listed = ", ".join(f"{name} = {ms:,} ms" for name, ms in limits.items())
    short = [
        name
        for name in ("statement_timeout", "transaction_timeout")
        if 0 < limits.get(name, 0) < SHORT_MILLISECONDS
    ]
    if short:
        what = f"{listed}; a run sets its own, but that statement itself may be cancelled"
        return Result(check, "warn", what, f"run: alter role ... reset {short[0]}")
    if limits:
        return Result(check, "ok", f"{listed}; a run sets its own, a report keeps these")
    return Result(check, "ok", "none of the role, the database or the server")


def clock(connection: sa.Connection, _: Settings) -> Result:
    """How far this machine's clock is from that of the database."""
    asked_at = dt.datetime.now(dt.UTC)
    theirs = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    answered_at = dt.datetime.now(dt.UTC)
    return clock_difference("database.clock", "the database", theirs, asked_at, answered_at)


def ledger(connection: sa.Connection, _: Settings) -> Result:
    """Whether the ledger's unique index, which is read at random places, fits into memory."""
    size = connection.execute(queries()["ledger_size"]).one_or_none()
    if size is None:
        return Result("database.ledger", "unknown", "there is no table 'etl.ledger'")
    return ledger_result(size.ledger_bytes, size.index_bytes, size.buffer_bytes)


def ledger_result(ledger_bytes: int, index_bytes: int, buffer_bytes: int) -> Result:
    """Compare the ledger's index with the server's shared buffers."""
    found = (
        f"{ledger_bytes // MIB:,} MiB, its unique index {index_bytes // MIB:,} MiB; shared_buffers "
        f"{buffer_bytes // MIB:,} MiB"
    )
    if index_bytes > buffer_bytes:
        advice = "raise shared_buffers, or lower ledger.retention_days; see docs/ledger.md"
        return Result("database.ledger", "warn", f"{found}: loads are slower", advice)
    return Result("database.ledger", "ok", found)


def last_run(connection: sa.Connection, settings: Settings) -> Result:
    """When the job's last good run ended, and whether a later one has failed."""
    check = "database.last_run"
    rows = connection.execute(queries()["last_runs"], {"job": settings.job_name}).all()
    if not rows:
        return Result(check, "ok", f"no run of job {settings.job_name!r} has finished yet")
    last, good = rows[0], next((row for row in rows if row.exit_code == 0), None)
    when = f"the last good run ended {_hours(good)}" if good else "no run was good"
    if last is not good:
        ended = f"exit code {last.exit_code}, {last.stop_reason}"
        found = f"{when}; the last one {_hours(last)}: {ended}"
        return Result(check, "warn", found, f"see why: etl history {last.run_id[:8]}")
    if last.seconds_ago > STALE_SECONDS:
        return Result(check, "warn", when, "see whether the schedule still starts the job")
    return Result(check, "ok", when)


def _hours(run: Any) -> str:
    return f"{run.seconds_ago / 3600:,.1f} h ago"


OF_THE_SERVER: dict[str, Question] = {
    "database.encoding": encoding,
    "database.writable": writable,
    "database.durability": durability,
    "database.time_limits": time_limits,
    "database.clock": clock,
    "database.ledger": ledger,
    "database.last_run": last_run,
}
OF_A_CONNECTION = ("database.tls", "database.version", "database.pooler", *OF_THE_SERVER)
