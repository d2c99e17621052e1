"""A wrong address or password of the database ends every command at once, with exit code 2."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from etl.cli import main
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import EtlError
from etl.postgres import session
from etl.postgres.engine import driver_url
from etl.postgres.login import Login
from tests.acceptance.job_processes import make_tables, running, until
from tests.chaos.database import target_locked
from tests.conftest import ROOT, Job
from tests.unit.builders import event
from tests.unit.test_database_url import check_quotes_nothing

SECRET = "Sw0rdfish-Tr0ub4dor"
COMMANDS = [
    "run --json",
    "history",
    "init",
    "report duplicates",
    "rows 1.2.3.4 --column ip",
    "quarantine list",
    "quarantine show 1 --reason test",
    "quarantine replay --all",
    "quarantine discard --all --reason test",
    "quarantine export {folder}/out.jsonl",
    "unmask k1.AAAA --reason test",
    "unmask --where true --reason test",
    "audit",
    "forget 1.2.3.4 --column ip --reason test",
    "keys list",
    "rekey",
]


def failure(
    command: str, environment: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[EtlError, str]:
    """Run a command in this process; return the error that ends it, and all that it printed."""
    monkeypatch.chdir(ROOT)
    # It would hide every object of pytest from the garbage collector.
    monkeypatch.setattr("etl.workers.interpreter.tune_interpreter", lambda: None)
    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # A second try would show in the exit code.
    monkeypatch.setenv("ETL_DATABASE__RETRY_SECONDS", "0.1")
    result = CliRunner().invoke(main, command.format(folder=folder).split())
    assert isinstance(result.exception, EtlError), result.output
    return result.exception, f"{result.output}{result.exception}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_password_has_one_exit_code(
    command: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command has received or changed anything by then."""
    url = sa.make_url(job.environment["DATABASE_URL"]).set(password=SECRET)
    wrong = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    error, printed = failure(command, job.environment | wrong, tmp_path, monkeypatch)
    assert error.exit_code == 2
    assert "password authentication failed" in str(error)
    check_quotes_nothing(printed, SECRET)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unclear_url_has_one_exit_code(
    command: str, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says what to do, and quotes nothing."""
    wrong = {"DATABASE_URL": f"postgresql://etl:{SECRET}@{SECRET}@127.0.0.1/etl"}
    error, printed = failure(command, job.environment | wrong, tmp_path, monkeypatch)
    assert error.exit_code == 2
    assert "percent-encode" in str(error)
    check_quotes_nothing(printed, SECRET)


@pytest.mark.parametrize(
    "wrong",
    [
        {"DATABASE_URL": "postgresql://etl@{host}/{name}"},
        {"DATABASE_URL": "postgresql://nobody_here:x@{host}/{name}"},
        {"DATABASE_URL": "postgresql://etl:{password}@{host}/not_there"},
        {"PGPORT": SECRET, "DATABASE_URL": "postgresql://etl:{password}@127.0.0.1/{name}"},
        {"PGSSLMODE": "require"},
        {"PGSSLMODE": SECRET},
        {"PGSERVICE": SECRET},
        {"PGOPTIONS": f"-c sw.{SECRET}"},
        {"PGOPTIONS": f"-c nothing={SECRET}"},
        {"PGOPTIONS": f"--{SECRET}"},
        {"PGOPTIONS": f"-c statement_timeout={SECRET}"},
        {"PGOPTIONS": "-c session_replication_role=replica"},
        {"PGOPTIONS": "-c role=postgres"},
        {"PGTZ": SECRET},
        {"PGOPTIONS": f"-c local_preload_libraries={SECRET}"},
    ],
    ids=str,
)
def test_what_libpq_or_the_server_refuses_for_good_is_not_waited_out(
    wrong: dict[str, str], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be refused again for as long as database.retry_seconds."""
    url = sa.make_url(job.environment["DATABASE_URL"])
    host = f"{url.host}:{url.port}"
    filled = {
        name: value.format(host=host, name=url.database, password=url.password)
        for name, value in wrong.items()
    }
    error, printed = failure("run --json", job.environment | filled, tmp_path, monkeypatch)
    assert error.exit_code == 2
    check_quotes_nothing(printed, SECRET)
    assert job.left() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"AWS_ENDPOINT_URL": SECRET},
        {"AWS_ENDPOINT_URL_SQS": f"http://user:{SECRET}"},
        {"AWS_ENDPOINT_URL": f"http://user:a/{SECRET}@127.0.0.1:1"},
        {"AWS_ENDPOINT_URL": f"http://user:a#{SECRET}@127.0.0.1:1"},
        # As long as a secret access key of AWS.
        {"AWS_PROFILE": f"{SECRET}/{SECRET}/+"},
        {"AWS_REGION": f"a {SECRET}/{SECRET}"},
    ],
    ids=str,
)
def test_wrong_aws_variables_are_not_quoted(
    wrong: dict[str, str], job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address can have a password in it."""
    error, printed = failure("run --json", job.environment | wrong, tmp_path, monkeypatch)
    assert error.exit_code == 2
    check_quotes_nothing(printed, SECRET)


def test_a_password_of_special_characters_works_encoded(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """Each of the characters that must be encoded is in it, and one that need not be."""
    password = "a@b:c/d#e?f%g%40 ü€'\"\\+&="
    superuser = sa.create_engine(driver_url(postgres.superuser_url))
    with superuser.begin() as connection:
        connection.exec_driver_sql("drop role if exists special")
        quoted = password.replace("'", "''")
        connection.exec_driver_sql(
            f"create role special login password '{quoted}' in role etl",
            execution_options={"no_parameters": True},
        )
    url = sa.make_url(job.environment["DATABASE_URL"]).set(username="special", password=password)
    job.send("{}")
    try:
        job.run(DATABASE_URL=url.render_as_string(hide_password=False), PGOPTIONS="-c role=etl")
    finally:
        with superuser.begin() as connection:
            connection.exec_driver_sql("drop role special")
        superuser.dispose()


def test_a_password_that_changes_during_a_run_ends_it_with_1(
    postgres: EmbeddedPostgres, job: Job
) -> None:
    """Exit code 2 would say that nothing was received."""
    superuser = sa.create_engine(driver_url(postgres.superuser_url), isolation_level="AUTOCOMMIT")
    url = sa.make_url(job.environment["DATABASE_URL"]).set(username="rotated", password="first")
    make_tables(job)
    job.send(event())
    with superuser.connect() as connection:
        connection.exec_driver_sql("create role rotated login password 'first' in role etl")
        try:
            address = {"DATABASE_URL": url.render_as_string(hide_password=False)}
            with target_locked(job), running(job, **address) as process:
                held = (
                    "from pg_stat_activity where usename = 'rotated' and wait_event_type = 'Lock'"
                )
                until(lambda: connection.exec_driver_sql(f"select {held}").all())
                connection.exec_driver_sql("alter role rotated password 'second'")
                connection.exec_driver_sql(f"select pg_terminate_backend(pid) {held}")
                _, err = process.communicate(timeout=60)
        finally:
            connection.exec_driver_sql("drop role rotated")
    superuser.dispose()
    assert process.returncode == 1
    assert "password authentication failed" in err.splitlines()[-1]
    assert job.left() == 1


def test_an_sqs_that_does_not_answer_is_named(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what did not answer, and which settings lead there."""
    away = {
        "AWS_ENDPOINT_URL": f"http://user:{SECRET}@127.0.0.1:9",
        "ETL_QUEUE__RETRY_SECONDS": "0.1",
    }
    for command in ("run --json", "run --dry-run", "send --sample 1"):
        error, printed = failure(command, job.environment | away, tmp_path, monkeypatch)
        assert str(error).startswith("no answer from SQS to '")
        assert str(error).endswith("check the network, AWS_REGION and AWS_ENDPOINT_URL")
        check_quotes_nothing(printed, SECRET)


def test_a_library_that_is_not_there_is_named_by_its_setting(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server says only that it could not access a file."""
    wrong = {"PGOPTIONS": "-c local_preload_libraries=nothing"}
    error, _ = failure("run --json", job.environment | wrong, tmp_path, monkeypatch)
    assert "local_preload_libraries" in str(error)


def test_a_limit_below_every_statement_is_named(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cancels the statement that would set it to 0."""
    monkeypatch.setattr("etl.postgres.session._SYNCHRONOUS_COMMIT", "pg_sleep(0.2)")
    monkeypatch.setattr("etl.postgres.session._statement", session._statement.__wrapped__)
    short = {"PGOPTIONS": "-c statement_timeout=100"}
    error, _ = failure("run --json", job.environment | short, tmp_path, monkeypatch)
    assert "SQLSTATE 57014" in str(error)
    assert "reset statement_timeout" in str(error)


def test_a_dry_run_sends_a_wrong_password_no_oftener_than_a_run(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the database two questions; each login that is refused counts towards a lock."""
    url = sa.make_url(job.environment["DATABASE_URL"]).set(password=SECRET)
    wrong = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    for name, value in (job.environment | wrong).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("etl.workers.interpreter.tune_interpreter", lambda: None)
    monkeypatch.chdir(ROOT)
    refused = []
    connect = Login.connect

    def counted(self: Login, *arguments: Any) -> Any:
        refused.append(self)
        return connect(self, *arguments)

    monkeypatch.setattr(Login, "connect", counted)
    result = CliRunner().invoke(main, ["run", "--dry-run", "--idle-seconds", "0.1"])
    assert result.exit_code == 0, result.output
    assert len(refused) == 1


def test_a_role_of_one_connection_can_run(postgres: EmbeddedPostgres, job: Job) -> None:
    """What has prepared the database does not keep the only connection while the worker waits."""
    superuser = sa.create_engine(driver_url(postgres.superuser_url), isolation_level="AUTOCOMMIT")
    url = sa.make_url(job.environment["DATABASE_URL"]).set(username="single", password="x")
    job.send(event())
    with superuser.connect() as connection:
        connection.exec_driver_sql(
            "create role single login password 'x' connection limit 1 in role etl"
        )
        try:
            address = {"DATABASE_URL": url.render_as_string(hide_password=False)}
            waits = {"PGOPTIONS": "-c role=etl", "ETL_DATABASE__RETRY_SECONDS": "20"}
            assert job.run(**address, **waits)["loaded"] == 1
        finally:
            connection.exec_driver_sql("drop role single")
    superuser.dispose()
