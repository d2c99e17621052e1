"""A login that cannot succeed fails at once, in whatever language the server says so."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from pydantic import SecretStr

from etl.config import DatabaseSettings
from etl.errors import DatabaseUnavailable, EtlError, LoginRefused
from etl.postgres.engine import open_engine, transaction
from tests.conftest import Job
from tests.integration.debian_services import (
    GERMAN,
    GermanPostgres,
    german_postgres,
    private_folder,
    program,
)
from tests.unit.builders import event

# The first line that fits decides: over TCP there is no line for the role 'stranger'.
ACCESS = """hostssl tls all 127.0.0.1/32 scram-sha-256
hostnossl tls all 127.0.0.1/32 reject
host all stranger 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
"""


@pytest.fixture(scope="module")
def server() -> Iterator[GermanPostgres]:
    """A server that speaks German and has no TLS."""
    with german_postgres(ACCESS, {"lc_messages": GERMAN}) as made:
        made.do(
            "create role etl login password 'right'",
            "create role sleeper nologin password 'right'",
            "create role crowd login password 'right' connection limit 0",
            "create database etl owner etl",
            "create database latin encoding latin1 locale 'C' template template0",
            "create database closed allow_connections false",
            "create database private",
            "revoke connect on database private from public",
        )
        yield made


def failure(url: str) -> EtlError:
    """How a connection fails."""
    settings = DatabaseSettings(url=SecretStr(url), connect_seconds=5)
    with pytest.raises(EtlError) as caught, transaction(open_engine(settings)):
        pass
    return caught.value


REFUSED = {
    "wrong password": ("etl", "wrong", "etl", "", "SQLSTATE 28P01); the user or the password"),
    "unknown role": ("nobody", "right", "etl", "", "SQLSTATE 28P01); the user or the password"),
    "no LOGIN": ("sleeper", "right", "etl", "", "SQLSTATE 28000); the user may not log in"),
    "no line in pg_hba.conf": ("stranger", "x", "etl", "", "SQLSTATE 28000); the user may not"),
    "TLS that the server wants": ("etl", "right", "tls", "?sslmode=disable", "sslmode=require"),
    "unknown database": ("etl", "right", "not_there", "", "SQLSTATE 3D000); create the database"),
    "closed database": ("etl", "right", "closed", "", '55000); let a superuser run: alter'),
    "no right to connect": (
        "etl", "right", "private", "", 'run: grant connect on database "private" to "etl"',
    ),
    "a role that may not be set": ("etl", "right", "etl", "?options=-c%20role%3Dcrowd", "42501"),
    "an unknown setting": ("etl", "right", "etl", "?options=-c%20nothing%3D1", "SQLSTATE 42704"),
    "a wrong value": ("etl", "right", "etl", "?options=-c%20work_mem%3Dx", "SQLSTATE 22023"),
    "a missing library": (
        "etl", "right", "etl", "?options=-c%20local_preload_libraries%3Dx", "SQLSTATE 58P01); the",
    ),
    "TLS that the server has not": ("etl", "right", "etl", "?sslmode=require", "switch TLS on"),
    "no password": ("etl", "", "etl", "", "PGPASSFILE"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_succeed_is_refused_at_once(name: str, server: GermanPostgres) -> None:
    """The error names the cause and the way out."""
    user, password, database, more, words = REFUSED[name]
    error = failure(server.url(user, password, database, more))
    assert isinstance(error, LoginRefused)
    assert words in str(error)


def test_a_connection_limit_is_waited_for(server: GermanPostgres) -> None:
    """Another session may end."""
    error = failure(server.url("crowd", "right", "etl"))
    assert isinstance(error, DatabaseUnavailable)
    assert "SQLSTATE 53300): the server has no connection left" in str(error)


def test_a_wrong_password_is_sent_twice_at_most(server: GermanPostgres) -> None:
    """Some servers lock an account after a few failures."""
    before = server.log.count("FATAL:  Passwort")
    failure(server.url("etl", "wrong", "etl"))
    assert 1 <= server.log.count("FATAL:  Passwort") - before <= 2


def test_a_run_with_a_wrong_password_ends_with_2(server: GermanPostgres, job: Job) -> None:
    """It has received nothing; before, it retried the password for database.retry_seconds."""
    job.send(event())
    before = server.log.count("FATAL:  Passwort")
    done = job.command("run", *job.arguments, DATABASE_URL=server.url("etl", "wrong", "etl"))
    assert done.returncode == 2
    assert "SQLSTATE 28P01" in done.stderr.splitlines()[-1]
    assert server.log.count("FATAL:  Passwort") - before <= 2
    assert job.left() == 1


def test_a_run_on_a_german_server_succeeds(server: GermanPostgres, job: Job) -> None:
    """A run, and one that is refused a right in the meantime: the grant is named."""
    server.do("grant create on schema public to etl", database="etl")
    address = {"DATABASE_URL": server.url("etl", "right", "etl")}
    job.send(event(), "{}")
    assert job.run(**address)["loaded"] == 1
    server.do("revoke insert on etl.ledger from etl", database="etl")
    refused = job.command("run", *job.arguments, **address)
    assert refused.returncode == 2
    assert 'grant insert on etl.ledger to "etl"' in refused.stderr.splitlines()[-1]
    server.do("drop schema etl cascade", "drop table user_logins", database="etl")


def test_a_text_in_another_encoding_is_no_obstacle(server: GermanPostgres) -> None:
    """Until the login is over, a server may write what the driver cannot decode."""
    error = failure(server.url("etl", "right", "latin", "?options=-c%20role%3Dcrowd"))
    assert isinstance(error, LoginRefused)
    assert "SQLSTATE 42501" in str(error)


def test_a_text_that_the_driver_drops_is_no_obstacle(
    server: GermanPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Python 3.11.2 an error whose text cannot be decoded has no text at all."""
    connect = psycopg2.connect

    def without_text(*arguments: Any, **parameters: Any) -> Any:
        try:
            return connect(*arguments, **parameters)
        except psycopg2.OperationalError:
            if "async_" in parameters:
                raise
            raise psycopg2.OperationalError from None

    monkeypatch.setattr(psycopg2, "connect", without_text)
    error = failure(server.url("etl", "wrong", "etl"))
    assert isinstance(error, LoginRefused)
    assert "SQLSTATE 28P01" in str(error)


def test_a_server_that_shuts_down_or_starts_is_waited_for(server: GermanPostgres) -> None:
    """It says so in its language, with one SQLSTATE."""
    url = server.url("etl", "right", "etl")
    session = psycopg2.connect(url)
    server.signal(signal.SIGTERM)  # it waits for the session
    try:
        errors = [failure(url)]
    finally:
        session.close()
        server.stop()
    (server.data / "standby.signal").touch()
    server.start(lc_messages=GERMAN, hot_standby="off")  # it takes no login until it is promoted
    errors.append(failure(url))
    server.stop()
    (server.data / "standby.signal").unlink()
    server.start(lc_messages=GERMAN)
    server.do("select 1")
    for error in errors:
        assert isinstance(error, DatabaseUnavailable)
        assert "SQLSTATE 57P03" in str(error)


@pytest.fixture(scope="module")
def tls_server() -> Iterator[tuple[GermanPostgres, Path]]:
    """A server with TLS, and the certificate that it has signed itself."""
    with private_folder() as folder, german_postgres(ACCESS, {"lc_messages": GERMAN}) as made:
        key = ["-newkey", "rsa:2048", "-nodes", "-keyout", made.data / "server.key"]
        subprocess.run(
            [program("openssl", "openssl"), "req", "-x509", *key, "-out", folder / "server.crt",
             "-subj", "/CN=localhost"],
            check=True, capture_output=True,
        )  # fmt: skip
        (made.data / "server.crt").write_bytes((folder / "server.crt").read_bytes())
        owner = made.data.stat()
        os.chown(made.data / "server.key", owner.st_uid, owner.st_gid)
        (made.data / "server.key").chmod(0o600)
        made.do(
            "create role etl login password 'right'",
            "create database etl owner etl",
            "create database tls",
            "alter system set ssl = on",
            "alter system set ssl_min_protocol_version = 'TLSv1.3'",
            "select pg_reload_conf()",
        )
        yield made, folder / "server.crt"


@pytest.mark.parametrize(
    ("database", "more", "words"),
    [
        ("etl", "?sslmode=verify-full", "give the file in sslrootcert"),
        ("etl", "?sslmode=verify-full&sslrootcert={certificate}", "the name of the host"),
        ("etl", "?sslmode=verify-full&sslrootcert=/nowhere", "give the file in sslrootcert"),
        ("etl", "?sslmode=require&ssl_max_protocol_version=TLSv1.2", "check sslmode and the TLS"),
        ("tls", "?sslmode=disable", "sslmode=require"),
    ],
)
def test_tls_that_cannot_be_agreed_on_is_refused_at_once(
    database: str, more: str, words: str, tls_server: tuple[GermanPostgres, Path]
) -> None:
    """The error names the setting of libpq."""
    server, certificate = tls_server
    url = server.url("etl", "right", database, more.format(certificate=certificate))
    error = failure(url)
    assert isinstance(error, LoginRefused)
    assert words in str(error)


@pytest.mark.parametrize(("database", "most"), [("etl", 3), ("tls", 2)])
def test_a_wrong_password_over_tls_is_sent_once_more_than_libpq_does(
    database: str, most: int, tls_server: tuple[GermanPostgres, Path]
) -> None:
    """Where TLS is a choice, libpq itself sends it with TLS and without."""
    server, _ = tls_server
    before = server.log.count("FATAL:  Passwort")
    error = failure(server.url("etl", "wrong", database))
    assert "SQLSTATE 28P01" in str(error)
    assert 1 <= server.log.count("FATAL:  Passwort") - before <= most
