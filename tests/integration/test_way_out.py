"""A statement that the database refuses names what is missing, for whom, and what to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

import etl
from etl.config import DatabaseSettings, Settings
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine, transaction
from tests.conftest import ROOT, Job
from tests.integration.test_roles import as_superuser
from tests.unit.builders import event

READ_ONLY = "-c default_transaction_read_only=on"


@pytest.fixture
def stranger(
    settings: Callable[..., Settings], engine: sa.Engine, postgres: EmbeddedPostgres
) -> Iterator[tuple[sa.Engine, sa.Engine]]:
    """An engine of a role without any right, and one of the superuser; the tables exist."""
    made = settings()
    create_tables(engine, made.table)
    url = sa.make_url(engine.url)
    superuser = sa.create_engine(
        driver_url(as_superuser(postgres, url.render_as_string(hide_password=False))),
        isolation_level="AUTOCOMMIT",
    )
    role = url.set(drivername="postgresql", username="stranger", password="right")
    with superuser.connect() as connection:
        connection.exec_driver_sql("create role stranger login password 'right'")
    address = SecretStr(role.render_as_string(hide_password=False))
    opened = open_engine(DatabaseSettings(url=address))
    yield opened, superuser
    opened.dispose()
    with superuser.connect() as connection:
        connection.exec_driver_sql("drop owned by stranger; drop role stranger")
    superuser.dispose()


def refusal(engine: sa.Engine, statement: str) -> str:
    """What is said about a statement."""
    with pytest.raises(DatabaseRefused) as caught, transaction(engine) as connection:
        connection.exec_driver_sql(statement)
    return str(caught.value)


MISSING = {
    "a schema": (
        "select 1 from etl.runs", "may not use schema 'etl'", 'grant usage on schema "etl" to',
    ),
    "insert": (
        "insert into etl.ledger (message_id) values ('x')",
        "may not insert in table 'etl.ledger'", "grant insert on etl.ledger to",
    ),
    "select": (
        'select 1 from "public"."user_logins" join etl.runs on true',
        "may not select in table 'public.user_logins'",
        'grant select on "public"."user_logins" to',
    ),
    "update": (
        "update etl.runs set host = null", "may not update in table 'etl.runs'",
        "grant update on etl.runs to",
    ),
    "delete": (
        'delete from "public"."user_logins"', "may not delete in table 'public.user_logins'",
        'grant delete on "public"."user_logins" to',
    ),
    "create in a schema": (
        "create table public.another (a int)", 'may not create anything in schema "public"',
        'grant create on schema "public" to',
    ),
    "create a schema": (
        "create schema if not exists another", "may not create anything in database",
        "grant create on database",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_right_is_named_with_its_grant(
    name: str, stranger: tuple[sa.Engine, sa.Engine]
) -> None:
    """The names come from the statement and the catalogue, not from the server's text."""
    engine, superuser = stranger
    statement, cause, grant = MISSING[name]
    if name != "a schema":
        with superuser.connect() as connection:
            connection.exec_driver_sql("grant usage on schema etl to stranger")
    said = refusal(engine, statement)
    assert f"role 'stranger' {cause}" in said
    assert "SQLSTATE 42501" in said
    assert f'{grant} "stranger"' in said or f'{grant} "etl_' in said


def test_the_grant_that_is_named_suffices(stranger: tuple[sa.Engine, sa.Engine]) -> None:
    """Whoever runs what the errors say is done after as many errors as rights are missing."""
    engine, superuser = stranger
    statement = "insert into etl.jobs (job_id, job) select 7, run_id::text from etl.runs"
    for _ in range(2):
        said = refusal(engine, statement)
        with superuser.connect() as connection:
            for part in said.split("run: ")[1:]:
                connection.exec_driver_sql(part.partition(";")[0])
    with transaction(engine) as connection:
        connection.exec_driver_sql(statement)


def test_what_belongs_to_another_role_is_said_so(stranger: tuple[sa.Engine, sa.Engine]) -> None:
    """Only the owner can do it, so no grant helps."""
    engine, superuser = stranger
    with superuser.connect() as connection:
        connection.exec_driver_sql("grant usage on schema etl to stranger")
    said = refusal(engine, "create index on etl.ledger (batch)")
    assert "must be owner of table ledger" in said
    assert "role 'stranger' lacks this right" in said


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("insert into nowhere.a (b) values (1)", "schema 'nowhere' is missing (SQLSTATE "),
        ("select 1 from etl.nothing", "table 'etl.nothing' is missing (SQLSTATE 42P01)"),
        (
            'insert into "public"."user_logins" ("user_id", "my column") values (1, 2)',
            """'my column' (SQLSTATE 42703); run: alter table "public"."user_logins" add column""",
        ),
        ("insert into etl.jobs (nothing) values (1)", "has no column 'nothing'"),
        ("select nothing from etl.jobs", 'column "nothing" does not exist'),
    ],
)
def test_what_does_not_exist_is_named(
    statement: str, words: str, stranger: tuple[sa.Engine, sa.Engine], engine: sa.Engine
) -> None:
    """Schema, table and column; the way out is etl init, or the configuration."""
    assert words in refusal(engine_of(engine), statement)


def engine_of(engine: sa.Engine) -> sa.Engine:
    """The engine that the job itself would open."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return open_engine(DatabaseSettings(url=SecretStr(url)))


@pytest.fixture
def guarded(job: Job, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The environment of a notebook that must not write, as docker-compose.yml has it."""
    for name, value in {**job.environment, "PGOPTIONS": READ_ONLY, "PGAPPNAME": "mine"}.items():
        monkeypatch.setenv(name, value)
    job.command("init")
    return job


def test_the_guard_of_a_notebook_is_in_force(guarded: Job) -> None:
    """What a notebook opens reads, and refuses to write; its name is the user's."""
    source = etl.connect(ROOT / "config.yaml")
    with transaction(source.engine) as connection:
        names = connection.exec_driver_sql("select current_setting('application_name')")
        assert names.scalar_one() == "mine"
    with (
        pytest.raises(ConfigurationError, match=r"PGOPTIONS.*default_transaction_read_only"),
        transaction(source.engine) as connection,
    ):
        connection.exec_driver_sql("delete from user_logins")
    source.engine.dispose()


def test_a_run_under_the_guard_of_a_notebook_ends_at_once(guarded: Job) -> None:
    """It would wait for a failover that never comes."""
    guarded.send(event())
    done = guarded.command("run", *guarded.arguments, PGOPTIONS=READ_ONLY)
    assert done.returncode == 2
    assert "take it out for a command that writes" in done.stderr.splitlines()[-1]
    assert guarded.left() == 1


def test_the_guard_of_an_administrator_is_waited_for(engine: sa.Engine) -> None:
    """It may be there for the time of a maintenance, or because a disk is nearly full."""
    with engine.begin() as connection:
        connection.exec_driver_sql("alter role etl set default_transaction_read_only = on")
    try:
        with pytest.raises(DatabaseUnavailable), transaction(engine_of(engine)) as connection:
            connection.exec_driver_sql("create table a ()")
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("set transaction read write")
            connection.exec_driver_sql("alter role etl reset default_transaction_read_only")
