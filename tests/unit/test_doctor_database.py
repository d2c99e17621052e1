"""``etl doctor`` about a connection and the numbers of a server: each check, good and bad."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etl.doctor import database
from etl.doctor.database import MIB, Session

SESSION = Session(
    host="db.example.com",
    tls="TLSv1.3",
    sslmode="verify-full",
    version=180004,
    process=7,
    backend=7,
    role="etl",
    name="logins",
)


@pytest.mark.parametrize(
    ("host", "tls", "sslmode", "status", "found"),
    [
        ("db.example.com", "TLSv1.3", "verify-full", "ok", "TLSv1.3, sslmode=verify-full"),
        ("db.example.com", "TLSv1.3", "require", "warn", "TLSv1.3, but sslmode=require does not"),
        ("10.0.0.7", "TLSv1.2", "verify-ca", "warn", "TLSv1.2, but sslmode=verify-ca does not"),
        ("db.example.com", None, "prefer", "warn", "no TLS, sslmode=prefer"),
        ("/run/postgresql", None, "prefer", "ok", "no TLS, sslmode=prefer; it stays"),
        ("", None, "prefer", "ok", "no TLS, sslmode=prefer; it stays"),
        ("localhost", None, "disable", "ok", "no TLS, sslmode=disable; it stays"),
        ("127.0.0.2", None, "disable", "ok", "no TLS, sslmode=disable; it stays"),
        ("::1", None, "disable", "ok", "no TLS, sslmode=disable; it stays"),
        ("10.0.0.7", None, "disable", "warn", "no TLS, sslmode=disable"),
    ],
)
def test_a_connection_that_others_may_read_is_a_warning(
    host: str, tls: str | None, sslmode: str, status: str, found: str
) -> None:
    """Or one to a server that may be another one, unless it stays on this machine."""
    result = database.tls(replace(SESSION, host=host, tls=tls, sslmode=sslmode))
    assert result.status == status
    assert result.found.startswith(found)
    assert ("sslmode=verify-full" in result.advice) == (status == "warn")


@pytest.mark.parametrize(
    ("version", "status", "found"),
    [
        (180004, "ok", "Postgres 18.4"),
        (140000, "ok", "Postgres 14.0"),
        (130021, "warn", "Postgres 13.21, which is not tested"),
    ],
)
def test_an_old_server_is_a_warning(version: int, status: str, found: str) -> None:
    """The number has the minor version in its last four digits."""
    result = database.version(replace(SESSION, version=version))
    assert (result.status, result.found) == (status, found)


@pytest.mark.parametrize(("backend", "status"), [(7, "ok"), (8, "warn")])
def test_a_pooler_is_known_by_its_own_process_id(backend: int, status: str) -> None:
    """It gives one to the client, and another session executes the statements."""
    assert database.pooler(replace(SESSION, backend=backend)).status == status


@pytest.mark.parametrize(("buffer_mib", "status"), [(1024, "ok"), (128, "warn")])
def test_a_ledger_that_does_not_fit_into_memory_is_a_warning(buffer_mib: int, status: str) -> None:
    """Its unique index counts, which is read at random places."""
    result = database.ledger_result(1694 * MIB, 729 * MIB, buffer_mib * MIB)
    assert result.status == status
    assert result.found.startswith("1,694 MiB, its unique index 729 MiB; shared_buffers")
