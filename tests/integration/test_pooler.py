"""Behind a real PgBouncer, configured as Debian does it: whole runs, and what cannot work."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg2
import pytest
import sqlalchemy as sa

from etl.embedded.postgres import EmbeddedPostgres
from tests.conftest import Job
from tests.integration.debian_services import PgBouncer, pgbouncer
from tests.unit.builders import event

WHY = ("--reason", "test")
# All clients of the pooler share this session; a report too needs one at a time.
FEW_SESSIONS = {"default_pool_size": 1, "query_wait_timeout": 20}


@pytest.fixture(
    scope="module", params=["transaction", pytest.param("session", marks=pytest.mark.long)]
)
def pooler(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[PgBouncer]:
    """A pooler for the embedded server."""
    limits = FEW_SESSIONS if request.param == "transaction" else {}
    with pgbouncer(postgres.url, request.param, **limits) as made:
        yield made


def through(pooler: PgBouncer, job: Job, **more: str) -> Job:
    """The same command line, connected through the pooler."""
    url = pooler.url(job.environment["DATABASE_URL"])
    environment = {**job.environment, "DATABASE_URL": url, **more}
    return Job(environment, job.queue_url, job.client, job.engine)


@pytest.mark.long
def test_the_doctor_knows_that_there_is_a_pooler(pooler: PgBouncer, job: Job) -> None:
    """It warns of it, and every other check is made as without one."""
    job.run()
    found = []
    for each in (job, through(pooler, job)):
        done = each.command("doctor", "--json")
        assert done.returncode == 0, done.stdout
        found.append(
            {check["check"]: check["status"] for check in json.loads(done.stdout)["checks"]}
        )
    direct, pooled = found
    assert {name for name in direct if direct[name] != pooled[name]} == {"database.pooler"}
    assert pooled["database.pooler"] == "warn"


@pytest.mark.long
def test_every_command_works_behind_a_pooler(pooler: PgBouncer, job: Job) -> None:
    """Two workers, both methods, and each command that reads or changes what is stored."""
    pooled = through(pooler, job)
    events = [event(user_id=f"u{number}", ip=f"10.0.0.{number}") for number in range(40)]
    job.send(*events[:20], "{}")
    assert pooled.run("--workers", "2", ETL_BATCH__ROWS="5")["loaded"] == 20
    job.send(*events[20:])
    assert pooled.run(ETL_LOAD__METHOD="copy", ETL_BATCH__ROWS="5")["loaded"] == 20
    assert job.rows("select count(*), count(distinct masked_ip) from user_logins") == [(40, 40)]
    token = job.rows("select masked_ip from user_logins where user_id = 'u7'")[0][0]
    for command, shown in (
        (("history",), "run"),
        (("report", "duplicates"), "40"),
        (("rows", "10.0.0.7", "--column", "ip"), "u7"),
        (("unmask", token, *WHY), "10.0.0.7"),
        (("audit",), "unmask"),
        (("quarantine", "list"), "missing"),
        (("quarantine", "show", "1", *WHY), "{}"),
        (("quarantine", "replay", "--all"), ""),
        (("keys", "list"), "k1"),
        (("rekey",), ""),
        (("forget", "10.0.0.7", "--column", "ip", "--yes", *WHY), "1"),
        (("init",), ""),
    ):
        done = pooled.command(*command)
        assert done.returncode == 0, (command, done.stderr)
        assert shown in done.stdout, (command, done.stdout)
    assert job.rows("select count(*) from user_logins") == [(39,)]
    assert job.left() == 0


def test_a_run_leaves_no_setting_and_no_table_in_a_session_of_the_pooler(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """The next client of the pooler gets the same session."""
    with pgbouncer(postgres.url, "transaction", default_pool_size=1) as pooler:
        job.send(event())
        through(pooler, job).run()
        url = pooler.url(job.environment["DATABASE_URL"])
        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute(
                "select name from pg_settings where source = 'session' and name not in "
                "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', "
                "'standard_conforming_strings')"
            )
            assert cursor.fetchall() == []
            cursor.execute("select relname from pg_class where relpersistence = 't'")
            assert cursor.fetchall() == []
            cursor.execute("select count(*) from pg_prepared_statements")
            assert cursor.fetchall() == [(0,)]
        connection.close()


def test_a_pooler_of_single_statements_is_refused_at_once(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """It ends each session at BEGIN, and looks like an outage to the driver."""
    job.send(event())
    with pgbouncer(postgres.url, "statement") as pooler:
        done = through(pooler, job).command("run", *job.arguments)
    assert done.returncode == 2
    assert "set pool_mode = transaction" in done.stderr.splitlines()[-1]
    assert job.left() == 1


@pytest.mark.parametrize(
    ("changes", "variables", "words"),
    [
        ({"password": "wrong"}, {}, "SASL authentication failed"),
        ({"username": "nobody"}, {}, "SASL authentication failed"),
        ({}, {"PGOPTIONS": "-c geqo=off"}, "takes no PGOPTIONS"),
        ({"query": {"sslmode": "require"}}, {}, "switch TLS on"),
    ],
    ids=str,
)
def test_what_a_pooler_refuses_for_good_is_not_waited_out(
    changes: dict[str, str], variables: dict[str, str], words: str, job: Job, pooler: PgBouncer
) -> None:
    """PgBouncer has one SQLSTATE for everything, and no language but English."""
    pooled = through(pooler, job, **variables)
    url = sa.make_url(pooled.environment["DATABASE_URL"]).set(**changes)
    pooled.environment["DATABASE_URL"] = url.render_as_string(hide_password=False)
    done = pooled.command("run", *job.arguments)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]


def test_a_server_that_is_away_behind_its_pooler_is_waited_for(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """The pooler accepts the login, and has no session to give."""
    waits = {"ETL_DATABASE__RETRY_SECONDS": "0.5"}
    away = sa.make_url(postgres.url).set(port=1).render_as_string(hide_password=False)
    with pgbouncer(away, "transaction", query_wait_timeout=1) as pooler:
        done = through(pooler, job, **waits).command("run", *job.arguments)
    assert done.returncode == 1
    assert "08P01" in done.stderr.splitlines()[-1]
    assert sum("trying again" in line for line in done.stderr.splitlines()) == 1


@pytest.mark.long
def test_a_pooler_that_hangs_is_given_up_by_the_watchdog(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """It accepts the login and lets the first statement wait, until the watchdog hangs up."""
    waits = {"ETL_DATABASE__ANSWER_SECONDS": "1", "ETL_DATABASE__RETRY_SECONDS": "0.5"}
    with pgbouncer(postgres.url, "transaction", query_wait_timeout=0) as pooler:
        pooled = through(pooler, job, **waits)
        assert pooled.command("init").returncode == 0  # so the pooler knows the server
        pooler.admin("pause")
        done = pooled.command("run", *job.arguments)
    assert done.returncode == 1
    assert "database.answer_seconds" in done.stderr
