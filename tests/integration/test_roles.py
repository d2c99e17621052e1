"""Each role is tried on each table; also tables of an earlier version, and the token check."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import psycopg2
import pytest
import sqlalchemy as sa

from etl import config
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import TableError
from etl.postgres import roles
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url
from etl.postgres.target import check_tables, check_target
from etl.schema import target_table
from tests.conftest import KEYRING, Job
from tests.unit.builders import EVENT, event

pytestmark = pytest.mark.long

TABLES = (
    "user_logins",
    "etl.ledger",
    "etl.quarantine",
    "etl.runs",
    "etl.jobs",
    "etl.job_columns",
    "etl.unmask_audit",
    "etl.key_checks",
    "etl.masked_columns",
    "etl.dropped_fields",
)
VERBS = ("select", "insert", "update", "delete", "truncate")

# Every other right is refused.
ALLOWED = {
    "etl_loader": {
        "user_logins": {"insert"},
        "etl.ledger": {"select", "insert", "delete"},
        "etl.quarantine": {"insert"},
        "etl.runs": {"select", "insert", "update"},
        "etl.jobs": {"select", "insert"},
        "etl.job_columns": {"select", "insert"},
        "etl.unmask_audit": set(),
        "etl.key_checks": {"select", "insert"},
        "etl.masked_columns": {"select", "insert"},
        "etl.dropped_fields": {"select", "insert"},
    },
    "etl_analyst": {
        "user_logins": {"select"},
        "etl.ledger": set(),
        "etl.quarantine": set(),
        "etl.runs": {"select"},
        "etl.jobs": set(),
        "etl.job_columns": set(),
        "etl.unmask_audit": set(),
        "etl.key_checks": set(),
        "etl.masked_columns": set(),
        "etl.dropped_fields": set(),
    },
    "etl_officer": {
        "user_logins": {"select", "insert", "update", "delete"},
        "etl.ledger": {"select", "insert", "delete"},
        "etl.quarantine": {"select", "insert", "update"},
        "etl.runs": {"select", "insert", "update"},
        "etl.jobs": {"select", "insert"},
        "etl.job_columns": {"select", "insert"},
        "etl.unmask_audit": {"select", "insert"},
        "etl.key_checks": {"select", "insert"},
        "etl.masked_columns": {"select", "insert"},
        "etl.dropped_fields": {"select", "insert"},
    },
}

# For each table, a column that a role with the right to update may update.
UPDATED = {
    "user_logins": "masked_ip",
    "etl.ledger": "batch",
    "etl.quarantine": "body",
    "etl.runs": "loaded",
    "etl.jobs": "job",
    "etl.job_columns": "field",
    "etl.unmask_audit": "reason",
    "etl.key_checks": "check_value",
    "etl.masked_columns": "context",
    "etl.dropped_fields": "field",
}


def as_superuser(server: EmbeddedPostgres, database_url: str) -> str:
    """The address of a database for the superuser."""
    superuser = sa.make_url(server.superuser_url)
    url = sa.make_url(database_url).set(username=superuser.username, password=superuser.password)
    return url.render_as_string(hide_password=False)


@pytest.fixture
def superuser(postgres: EmbeddedPostgres, database_url: str) -> Iterator[sa.Engine]:
    """An engine for the superuser, who creates the roles."""
    superuser = sa.create_engine(driver_url(as_superuser(postgres, database_url)))
    yield superuser
    superuser.dispose()


@pytest.fixture
def with_roles(
    engine: sa.Engine, superuser: sa.Engine, settings: Callable[..., Settings]
) -> sa.Engine:
    """A database with tables and roles, for the superuser."""
    table = settings().table
    create_tables(engine, table)
    roles.create(superuser, table)
    return superuser


def attempt(verb: str, table: str) -> str:
    """A statement that needs this right only."""
    return {
        "select": f"select from {table} limit 0",
        "insert": f"insert into {table} default values",
        "update": f"update {table} set {UPDATED[table]} = null where false",
        "delete": f"delete from {table} where false",
        "truncate": f"truncate {table}",
    }[verb]


def permitted(engine: sa.Engine, role: str, statement: str) -> bool:
    """Whether a role may run a statement; one that is refused for a null value was permitted."""
    with engine.connect() as connection:
        connection.execute(sa.text(f"set role {role}"))
        try:
            connection.execute(sa.text(statement))
        except sa.exc.DBAPIError as error:
            assert isinstance(error.orig, psycopg2.Error)
            assert error.orig.pgcode in ("42501", "23502"), statement
            return error.orig.pgcode == "23502"
        return True


def matrix(engine: sa.Engine) -> dict[str, dict[str, set[str]]]:
    """The verbs that each role may use on each table."""
    allowed: dict[str, dict[str, set[str]]] = {}
    for role, table, verb in itertools.product(roles.ROLES, TABLES, VERBS):
        verbs = allowed.setdefault(role, {}).setdefault(table, set())
        if permitted(engine, role, attempt(verb, table)):
            verbs.add(verb)
    return allowed


def test_each_role_may_do_what_it_needs_and_nothing_else(with_roles: sa.Engine) -> None:
    """Every verb is tried by every role on every table."""
    assert matrix(with_roles) == ALLOWED


def test_roles_are_brought_back_to_the_least(
    with_roles: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """Creating the roles again revokes whatever else they were granted."""
    with with_roles.begin() as connection:
        connection.execute(sa.text("grant all on user_logins, etl.quarantine to etl_analyst"))
        connection.execute(sa.text("grant select (body) on etl.quarantine to etl_loader"))
    assert matrix(with_roles) != ALLOWED
    roles.create(with_roles, settings().table)
    assert matrix(with_roles) == ALLOWED


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("etl_officer", "update etl.quarantine set message_id = 'x'"),
        ("etl_officer", "update user_logins set user_id = 'x'"),
        ("etl_officer", "insert into etl.unmask_audit (asked_at) values (now())"),
        ("etl_officer", "insert into etl.unmask_audit (db_user) values ('other')"),
        ("etl_analyst", "select reasons from etl.quarantine"),
        ("etl_loader", "select from etl.broken_checks"),
        ("etl_loader", "create table etl.x ()"),
        ("etl_officer", "create table etl.x ()"),
        ("etl_analyst", "create table etl.x ()"),
    ],
)
def test_no_role_may_reach_further(with_roles: sa.Engine, role: str, statement: str) -> None:
    """No role writes other columns, the database's columns of the audit, or new tables."""
    assert not permitted(with_roles, role, statement)


def test_the_analyst_sees_how_many_messages_broke_a_check(with_roles: sa.Engine) -> None:
    """A view shows the counts and nothing else of the quarantine."""
    assert permitted(with_roles, "etl_analyst", "select * from etl.broken_checks")


def test_the_officer_may_null_every_kind_of_mask(
    engine: sa.Engine, superuser: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """Also a column that shows a part of a value, but none that is plain."""
    table = settings().table
    kinds: list[dict[str, object]] = [{"mask": "hmac"}, {"mask": "partial", "keep_last": 4}]
    masks = [dict(zip(("name", "field", "type"), (n, n, "text"), strict=True)) for n in "ab"]
    columns = [Column.model_validate({**m, **k}) for m, k in zip(masks, kinds, strict=True)]
    table = table.model_copy(update={"columns": (table.columns[0], *columns)})
    create_tables(engine, table)
    roles.create(superuser, table)
    assert permitted(superuser, "etl_officer", "update user_logins set a = null, b = null")
    assert not permitted(superuser, "etl_officer", "update user_logins set user_id = null")


def test_init_makes_the_roles(job: Job, postgres: EmbeddedPostgres) -> None:
    """One command makes tables and roles, and may run twice."""
    url = as_superuser(postgres, job.environment["DATABASE_URL"])
    for _ in range(2):
        done = job.command("init", "--roles", DATABASE_URL=url, ETL_KEYRING="")
        assert done.returncode == 0, done.stderr
    found = job.rows("select rolname, rolcanlogin from pg_roles where rolname ~ '^etl_' order by 1")
    assert found == [("etl_analyst", False), ("etl_loader", False), ("etl_officer", False)]


def test_a_user_who_may_not_create_roles_is_refused(job: Job) -> None:
    """The exit code is 1 and the error has the SQLSTATE."""
    done = job.command("init", "--roles", ETL_TABLE__NAME="other")
    assert done.returncode == 1
    assert "42501" in done.stderr


def test_a_target_of_any_name_gets_its_rights(
    superuser: sa.Engine, engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The name may hold quotes, percent signs, colons and braces."""
    table = settings(table__name="o'\"dd %s :x {y}").table
    create_tables(engine, table)
    roles.create(superuser, table)
    with superuser.connect() as connection:
        connection.execute(sa.text("set role etl_analyst"))
        target = target_table(table)
        assert connection.execute(sa.select(sa.func.count()).select_from(target)).scalar() == 0


def test_a_target_that_numbers_its_rows_gets_its_rights(
    superuser: sa.Engine, engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The default of a serial column needs a right on its sequence."""
    table = settings(table__name="odd %s :x").table
    create_tables(engine, table)
    with engine.begin() as connection:
        connection.exec_driver_sql('alter table "odd %%s :x" add "id %%s" bigserial')
    roles.create(superuser, table)
    loader = sa.create_engine(superuser.url.update_query_dict({"options": "-c role=etl_loader"}))
    check_target(loader, table)
    with loader.begin() as connection:
        connection.exec_driver_sql("""insert into "odd %%s :x" (user_id) values ('x')""")
    loader.dispose()


# The tables as the first version created them.
FIRST_VERSION = """
create schema etl;
create table etl.ledger (
    message_id text collate "C" primary key, run_id uuid not null, batch integer not null,
    handled_at timestamptz not null default now()
);
create table etl.quarantine (
    quarantine_id bigint generated always as identity primary key,
    message_id text collate "C" not null, run_id uuid not null, sent_at timestamptz,
    quarantined_at timestamptz not null default now(), reasons jsonb not null, body bytea not null
);
create table etl.runs (
    run_id uuid primary key, started_at timestamptz not null default now(),
    finished_at timestamptz, received bigint not null default 0, loaded bigint not null default 0,
    already_handled bigint not null default 0, quarantined bigint not null default 0,
    released bigint not null default 0, batches integer not null default 0, stop_reason text,
    version text not null, config_hash text not null, host text not null
);
insert into etl.quarantine (message_id, run_id, reasons, body)
values ('m1', '00000000-0000-4000-8000-000000000001', '[{"column": "ip", "check": "null"}]', 'x');
insert into etl.runs (run_id, version, config_hash, host)
values ('00000000-0000-4000-8000-000000000001', '0.1.0', 'x', 'y');
"""


def test_tables_of_the_first_version_get_what_they_lack(
    engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """They keep their rows and get the columns of new tables."""
    table = settings().table
    with engine.begin() as connection:
        connection.exec_driver_sql(FIRST_VERSION)
    with pytest.raises(
        TableError, match=r"etl\.\w+' is missing or from an earlier version.*etl init"
    ):
        check_tables(engine, table)
    create_tables(engine, table)
    check_tables(engine, table)
    with engine.connect() as connection:
        entries = connection.execute(sa.text("select message_id, closed_as from etl.quarantine"))
        assert entries.all() == [("m1", None)]
        runs = connection.execute(sa.text("select command, seen_at, failed_checks from etl.runs"))
        assert runs.all() == [("run", None, [])]
    upgraded = columns(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("drop schema etl cascade"))
    create_tables(engine, table)
    assert columns(engine) == upgraded


def columns(engine: sa.Engine) -> set[tuple[str, ...]]:
    """The columns of the job's own tables, with their types and defaults."""
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(
                "select table_name, column_name, data_type, is_nullable, column_default "
                "from information_schema.columns where table_schema = 'etl'"
            )
        )
        return {tuple(map(str, row)) for row in found}


def test_tables_that_are_up_to_date_need_no_right_to_change_them(
    with_roles: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """So the loader may run with the default of database.create_tables."""
    url = with_roles.url.update_query_dict({"options": "-c role=etl_loader"})
    loader = sa.create_engine(url)
    create_tables(loader, settings().table)
    check_tables(loader, settings().table)
    loader.dispose()


def as_role(database_url: str, role: str) -> str:
    """The address of a database under a role."""
    return f"{database_url}?options=-c%20role%3D{role}"


def test_only_the_loader_may_remove_samples(with_roles: sa.Engine) -> None:
    """It may still not delete what is quarantined, and the others delete nothing at all."""
    entry = (
        "insert into etl.quarantine (job, message_id, run_id, reasons, masked_fields, body, "
        "is_sample) values ('j', 'm', '00000000-0000-4000-8000-000000000001', '[]', '{}', 'x', "
    )
    remove = "select etl.remove_samples('j', 0)"
    with with_roles.begin() as connection:
        connection.execute(sa.text(f"{entry} true)"))
        connection.execute(sa.text(f"{entry} false)"))
    assert not permitted(with_roles, "etl_analyst", remove)
    assert not permitted(with_roles, "etl_officer", remove)
    with with_roles.begin() as connection:
        connection.execute(sa.text("set local role etl_loader"))
        assert connection.execute(sa.text(remove)).scalar_one() == 1
    with with_roles.begin() as connection:
        kept = connection.execute(sa.text("select is_sample from etl.quarantine")).scalars()
        assert list(kept) == [False]


def test_the_loader_keeps_a_sample_of_what_a_budget_stop_refused(
    job: Job, with_roles: sa.Engine, postgres: EmbeddedPostgres
) -> None:
    """Each stop replaces the sample of the one before."""
    url = as_superuser(postgres, job.environment["DATABASE_URL"])
    job.send(*["{"] * 110)
    for _ in range(2):
        summary = job.run(code=3, DATABASE_URL=as_role(url, "etl_loader"))
        assert "quarantine list --samples" in summary["problem"]
        assert job.rows("select is_sample, count(*) from etl.quarantine group by 1") == [(True, 20)]


@pytest.mark.parametrize("create_tables", ["true", "false"])
@pytest.mark.parametrize("method", ["multi", "copy"])
def test_the_job_runs_as_the_loader(
    create_tables: str, method: str, job: Job, with_roles: sa.Engine, postgres: EmbeddedPostgres
) -> None:
    """It loads rows, quarantines rejects, and prunes the ledger."""
    url = as_superuser(postgres, job.environment["DATABASE_URL"])
    more = {
        "DATABASE_URL": as_role(url, "etl_loader"),
        "ETL_DATABASE__CREATE_TABLES": create_tables,
        "ETL_LOAD__METHOD": method,
    }
    with with_roles.begin() as connection:
        connection.execute(
            sa.text(
                "insert into etl.ledger (message_id, run_id, batch, handled_at) values "
                "('old', '00000000-0000-4000-8000-000000000001', 1, now() - interval '1 year')"
            )
        )
    job.send(event(), event(locale="DE"), "{")
    summary = job.run(**more)
    assert (summary["loaded"], summary["quarantined"]) == (2, 1)
    assert job.rows("select count(*) from etl.ledger") == [(3,)]
    assert job.rows("select count(*) from user_logins") == [(2,)]


def test_rekey_runs_as_the_officer(
    job: Job, with_roles: sa.Engine, postgres: EmbeddedPostgres
) -> None:
    """The officer may rekey rows and bodies and list the keys; the loader may not."""
    job.send(event(), "{")
    job.run()
    url = as_superuser(postgres, job.environment["DATABASE_URL"])
    rotated = {"ETL_KEYRING": KEYRING.with_new("k2").dump()}
    refused = job.command("rekey", DATABASE_URL=as_role(url, "etl_loader"), **rotated)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "42501" in refused.stderr
    officer = {"DATABASE_URL": as_role(url, "etl_officer"), **rotated}
    outcome = json.loads(job.command("rekey", "--json", **officer).stdout)
    assert (outcome["rows"], outcome["entries"]) == (1, 1)
    listed = job.command("keys", "list", "--json", **officer).stdout.splitlines()
    assert [list(json.loads(line).values())[2:] for line in listed] == [[0, 0, 0], [1, 1, 1]]


def test_the_token_check_names_the_constraint_and_no_value(
    engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The error has no DETAIL; null and tokens of any key id are accepted."""
    table = settings(table__token_check=True).table
    create_tables(engine, table)
    good = "a" * 16 + "." + "A" * 43
    with engine.begin() as connection:
        for value in (None, good, f"k.{'_-' * 60}"):
            connection.execute(
                sa.text("insert into user_logins (masked_ip) values (:v)"), {"v": value}
            )
    for value in ("192.0.2.7", "", f"{good}\n", "." + "A" * 43, "k1." + "A" * 42):
        with pytest.raises(sa.exc.IntegrityError) as caught, engine.begin() as connection:
            connection.execute(
                sa.text("insert into user_logins (masked_ip) values (:v)"), {"v": value}
            )
        assert isinstance(caught.value.orig, psycopg2.Error)
        diagnosis = caught.value.orig.diag
        assert diagnosis.constraint_name == "masked_ip_is_token"
        assert diagnosis.message_primary == "not a token"
        assert diagnosis.message_detail is None
        assert "192" not in (diagnosis.context or "")


def test_a_long_or_odd_column_name_gets_its_token_check(
    engine: sa.Engine,
) -> None:
    """Postgres limits names of constraints to 63 bytes, so a long one is cut."""
    columns = [
        {"name": name, "field": f"f{i}", "type": "text", "mask": True, "nullable": True}
        for i, name in enumerate(["ö" * 31, "it's %s :x"])
    ]
    table = config.Table.model_validate({"name": "odd", "columns": columns, "token_check": True})
    create_tables(engine, table)
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("select conname from pg_constraint where conrelid = 'odd'::regclass")
        )
        assert set(found.scalars()) == {"ö" * 27 + "_is_token", "it's %s :x_is_token"}


def test_two_long_names_that_begin_alike_get_a_token_check_each(engine: sa.Engine) -> None:
    """The names of the constraints differ, and have at most 63 bytes."""
    columns = [
        {"name": "x" * 58 + end, "field": f"f{end}", "type": "text", "mask": True}
        for end in ("one", "two", "ö")
    ]
    table = config.Table.model_validate({"name": "odd", "columns": columns, "token_check": True})
    create_tables(engine, table)
    with engine.connect() as connection:
        found = connection.execute(
            sa.text(
                "select conname from pg_constraint where conrelid = 'odd'::regclass "
                "and contype = 'c'"
            )
        ).scalars()
        assert len(set(found)) == 3


def test_the_reports_run_as_the_analyst(
    job: Job, with_roles: sa.Engine, postgres: EmbeddedPostgres
) -> None:
    """Reports and runs work; the officer's commands are refused and show nothing."""
    job.send(event(), event())
    job.run()
    analyst = as_role(as_superuser(postgres, job.environment["DATABASE_URL"]), "etl_analyst")
    for command in (("report", "duplicates"), ("runs",)):
        done = job.command(*command, DATABASE_URL=analyst)
        assert done.returncode == 0, done.stderr
    (token,) = job.rows("select masked_ip from user_logins limit 1")[0]
    for command in (("unmask", token, "--reason", "x"), ("audit",), ("quarantine", "list")):
        done = job.command(*command, DATABASE_URL=analyst)
        assert (done.returncode, done.stdout) == (1, ""), command
        assert "42501" in done.stderr


def test_recovery_runs_as_the_officer(
    job: Job, with_roles: sa.Engine, postgres: EmbeddedPostgres, keyring: Keyring
) -> None:
    """A login that is a member of the role needs no further right for any of the commands."""
    job.send(event(), event(user_id="bad", ip="x"), event(user_id="late", extra=1))
    job.run(ETL_EVENT__UNKNOWN_FIELDS="reject")
    with with_roles.begin() as connection:
        connection.execute(sa.text("drop role if exists test_officer"))
        connection.execute(
            sa.text("create role test_officer login password 'test' in role etl_officer")
        )
    url = sa.make_url(job.environment["DATABASE_URL"])
    officer = url.set(username="test_officer", password="test")
    rotated = keyring.with_new("k2").dump()
    environment = {
        "DATABASE_URL": officer.render_as_string(hide_password=False),
        "ETL_DATABASE__CREATE_TABLES": "false",
        "ETL_KEYRING": rotated,
    }
    for command in (
        ("quarantine", "show", "1", "--reason", "x"),
        ("quarantine", "replay", "--all"),
        ("unmask", "--where", "user_id = 'late'", "--reason", "x"),
        ("rekey",),
        ("keys", "list"),
        ("forget", EVENT["ip"], "--column", "ip", "--yes"),
        ("quarantine", "discard", "--all", "--reason", "x"),
        ("audit",),
    ):
        done = job.command(*command, **environment)
        assert done.returncode == 0, (command, done.stderr)
    assert job.rows("select count(*) from user_logins") == [(0,)]
    closed_as = job.rows("select closed_as from etl.quarantine order by closed_as")
    assert closed_as == [("discarded",), ("replayed",)]
    assert job.rows("select distinct db_user from etl.unmask_audit") == [("test_officer",)]
    with with_roles.begin() as connection:
        connection.execute(sa.text("drop role test_officer"))
