"""Whatever a session inherits, and from whom, the same rows are stored.

This is one file because its tests inherit the same hostile settings, in each of the ways there are.
"""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from etl import job as etl_job
from etl.config import DatabaseSettings, Settings
from etl.crypto.seal import unseal_each
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import ConfigurationError, DatabaseUnavailable, TableError
from etl.postgres import session
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.postgres.target import check_tables
from tests.conftest import KEYRING, Job

METHODS = pytest.mark.parametrize("method", ["multi", "copy"])

# What a clean session would not have. The search path comes first upon tables, functions and
# operators of the same names as those that the job uses.
HOSTILE = {
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "gin_fuzzy_search_limit": "1",
    "row_security": "off",
    "exit_on_error": "on",
    "restrict_nonsystem_relation_kind": "view",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "7000",
    "tcp_keepalives_interval": "70",
    "tcp_keepalives_count": "9",
    "tcp_user_timeout": "1000000",
    "statement_timeout": "20s",
    "lock_timeout": "1ms",
    "transaction_timeout": "20s",
    "synchronous_commit": "off",
    "search_path": "hostile, public, pg_catalog, pg_temp",
    # Not set by us, but harmless for a reason that is told in docs/reliability.md.
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "backslash_quote": "on",
    "escape_string_warning": "off",
    "xmloption": "document",
    "check_function_bodies": "off",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_sort": "off",
    "jit_above_cost": "0",
    "client_min_messages": "error",
    "plan_cache_mode": "force_generic_plan",
    "debug_parallel_query": "on",
    "synchronize_seqscans": "off",
    "constraint_exclusion": "on",
    "idle_session_timeout": "10s",
}
EXPECTED = (
    {setting.name: setting.value for setting in (*session.SETTINGS, *session.TIME_LIMITS)}
    | {"idle_in_transaction_session_timeout": "1min", "tcp_user_timeout": "30000"}
    | {"synchronous_commit": "on", "search_path": "hostile, public"}
    | {"transaction_isolation": "read committed"}
)
HOSTILE_OBJECTS = """
create schema hostile;
create table hostile.etl_staging (message_id text);
create table public.etl_staging (message_id text);
create table hostile.user_logins (user_id text);
create table hostile.ledger (message_id text);
create function hostile.jsonb_array_elements_text(jsonb) returns setof text
    language sql as 'select null::text where false';
create function hostile.set_config(text, text, boolean) returns text language sql as 'select $2';
create function hostile.current_setting(text) returns text language sql as $$ select 'no' $$;
create function hostile.count(bigint) returns bigint language sql as 'select 0::bigint';
create function hostile.never(text, text) returns boolean language sql as 'select false';
create operator hostile.= (function = hostile.never, leftarg = text, rightarg = text);
create operator hostile.!~ (function = hostile.never, leftarg = text, rightarg = text);
"""
VARIABLES = {
    "client_encoding": "PGCLIENTENCODING",
    "DateStyle": "PGDATESTYLE",
    "TimeZone": "PGTZ",
}


class Inherited:
    """A database, and the ways in which a session on it inherits settings."""

    WAYS = ("role", "database", "role in database", "PGOPTIONS", "URL", "service file", "variables")

    def __init__(self, postgres: EmbeddedPostgres, url: str, folder: Path) -> None:
        self.url = sa.make_url(url)
        self.superuser = sa.create_engine(
            driver_url(postgres.superuser_url).set(database=self.url.database),
            isolation_level="AUTOCOMMIT",
        )
        self.folder = folder

    def execute(self, statement: str) -> None:
        """Execute a statement as the superuser."""
        with self.superuser.connect() as connection:
            connection.exec_driver_sql(statement)

    @contextmanager
    def inherit(
        self, way: str, values: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[str]:
        """Let sessions inherit the values in this way; yields the URL to connect with."""
        if way == "service file":  # a line of which is short
            values = {name: value for name, value in values.items() if name in EXPECTED}
        database = f'"{self.url.database}"'
        url = self.url.render_as_string(hide_password=False)
        options = " ".join(
            f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in values.items()
        )
        where = {
            "role": "role heir",
            "database": f"database {database}",
            "role in database": f"role heir in database {database}",
        }.get(way)
        self.execute("create role heir login password 'heir' in role etl")
        heir = self.url.set(username="heir", password="heir")
        try:
            if where:
                for name, value in values.items():
                    listed = value if name == "search_path" else f"'{value}'"
                    self.execute(f"alter {where} set {name} = {listed}")
                url = heir.render_as_string(hide_password=False)
            elif way == "PGOPTIONS":
                monkeypatch.setenv("PGOPTIONS", options)
            elif way == "URL":
                encoding = values.get("client_encoding", "UTF8")
                url += f"?options={quote(options)}&client_encoding={encoding}"
            elif way == "service file":
                file = self.folder / "pg_service.conf"
                encoding = values.get("client_encoding", "UTF8")
                file.write_text(f"[hostile]\noptions={options}\nclient_encoding={encoding}\n")
                monkeypatch.setenv("PGSERVICEFILE", str(file))
                url += "?service=hostile"
            else:
                for name, variable in VARIABLES.items():
                    monkeypatch.setenv(variable, values[name])
            yield url
        finally:
            self.execute("drop owned by heir")
            self.execute("drop role heir")


@pytest.fixture(autouse=True)
def in_the_environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the job's, as far as SQS is concerned."""
    for name, value in environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)


@pytest.fixture
def inherited(postgres: EmbeddedPostgres, database_url: str, tmp_path: Path) -> Iterator[Inherited]:
    """The test's database, with objects that a hostile search path would find first."""
    made = Inherited(postgres, database_url, tmp_path)
    made.execute(HOSTILE_OBJECTS + "grant usage on schema hostile to public;")
    made.execute("grant all on all tables in schema hostile, public to public")
    yield made
    made.superuser.dispose()


@pytest.fixture
def with_every_limit(postgres: EmbeddedPostgres) -> None:
    """Skip the test on a Postgres that does not have every setting that it sets."""
    engine = sa.create_engine(driver_url(postgres.superuser_url))
    with engine.connect():
        version = (engine.dialect.server_version_info or (0,))[0]
    engine.dispose()
    if version < 17:
        pytest.skip("transaction_timeout is new in Postgres 17")


def engine_for(url: str, max_seconds: float | None = None) -> sa.Engine:
    """An engine as the job opens it."""
    return open_engine(DatabaseSettings(url=SecretStr(url)), max_seconds=max_seconds)


def effective(engine: sa.Engine, *names: str) -> dict[str, str]:
    """The values of settings within a transaction of the engine."""
    with transaction(engine) as connection:
        return {name: connection.exec_driver_sql(f"show {name}").scalar_one() for name in names}


@pytest.mark.parametrize("way", Inherited.WAYS)
@pytest.mark.usefixtures("with_every_limit")
def test_a_transaction_has_its_own_settings(
    way: str, inherited: Inherited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting is inherited with a hostile value, and has ours in the transaction."""
    with inherited.inherit(way, HOSTILE, monkeypatch) as url:
        engine = engine_for(url)
        got = effective(engine, *EXPECTED)
        engine.dispose()
    expected = EXPECTED if way != "variables" else EXPECTED | {"search_path": '"$user", public'}
    if way == "variables":
        expected |= {"search_path": "public"}
    assert got == expected


COLUMNS = [
    {"name": "text", "field": "text", "type": "text"},
    {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True},
    {"name": "number", "field": "number", "type": "number", "nullable": True},
    {"name": "day", "field": "day", "type": "date"},
    {"name": "moment", "field": "moment", "type": "timestamp"},
    {"name": "yes", "field": "yes", "type": "boolean"},
    {"name": "big", "field": "big", "type": "bigint"},
]
TEXTS = [
    "€ ä 漢 🎈", "back\\slash", "\\", "\\'", "\\\\'; --", "it's", '"', "\\x41", "\\N", "\t\n\r",
    "", "NULL", "\u00a4\u20ac", "\u0160\u0152", "ｱ\uff5e\u301c", "\u2028", "a\u0308", "é\\é",
    "%s %(x)s :name",
]  # fmt: skip
BODIES = [
    json.dumps(
        {
            "text": text,
            "ip": f"203.0.113.{number}",
            "number": None if number == 3 else 0.1 + 0.2 + number,
            "day": f"2026-02-{number + 1:02}",
            "moment": f"2026-03-04T05:06:{number:02}.123456+07:00",
            "yes": bool(number % 2),
            "big": 2**53 + number,
        },
        ensure_ascii=bool(number % 2),
    )
    for number, text in enumerate(TEXTS)
]
# Quarantined: its seal and its reasons are stored.
BODIES += ['{"text": "€ \\\\ ä", "ip": "straße"}', "no JSON: € ä \\ 🎈"]


def stored(
    job: Job, settings: Callable[..., Settings], url: str, method: str
) -> tuple[list[Any], list[Any], str]:
    """Run the job with this URL, in this process; what a clean session then finds."""
    job.send(*BODIES)
    made = settings(
        load__method=method,
        table__columns=COLUMNS,
        run__max_messages=len(BODIES),
        batch__seconds=0.5,
    )
    summary = etl_job.run(made, {**job.environment, "DATABASE_URL": url})
    assert (summary.exit_code, summary.counts.received) == (0, len(BODIES)), summary.problem
    rows = job.rows("select convert_to(t::text, 'UTF8') from user_logins t")
    bodies = job.rows("select body, message_id, reasons from etl.quarantine")
    opened = unseal_each([bytes(b) for b, _, _ in bodies], [i for _, i, _ in bodies], KEYRING)
    counts = job.rows("select count(*), count(distinct message_id) from etl.ledger")
    return (
        sorted(bytes(row[0]) for row in rows),
        sorted(
            (body, json.dumps(reasons))
            for body, (_, _, reasons) in zip(opened, bodies, strict=True)
        ),
        str(counts),
    )


@METHODS
@pytest.mark.parametrize("way", Inherited.WAYS)
@pytest.mark.usefixtures("with_every_limit")
def test_the_same_rows_are_stored(
    way: str,
    method: str,
    inherited: Inherited,
    job: Job,
    settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Byte for byte, with everything hostile at once; and nothing is quarantined for it."""
    create_tables(job.engine, settings(table__columns=COLUMNS).table)
    inherited.execute("grant all on all tables in schema etl, public to public")
    clean = stored(job, settings, job.environment["DATABASE_URL"], method)
    assert (len(clean[0]), len(clean[1])) == (len(TEXTS), 2)
    inherited.execute("truncate user_logins, etl.ledger, etl.quarantine")
    with inherited.inherit(way, HOSTILE, monkeypatch) as url:
        hostile = stored(job, settings, url, method)
    assert hostile == clean
    assert job.rows("select count(*) from hostile.etl_staging") == [(0,)]


@pytest.mark.usefixtures("with_every_limit")
def test_the_same_rows_are_stored_on_a_hostile_server(
    job: Job, settings: Callable[..., Settings]
) -> None:
    """The settings are those of the server itself."""
    create_tables(job.engine, settings(table__columns=COLUMNS).table)
    clean = stored(job, settings, job.environment["DATABASE_URL"], "copy")
    values = {name: value for name, value in HOSTILE.items() if name != "client_encoding"}
    with EmbeddedPostgres(settings=values) as server:
        engine = sa.create_engine(driver_url(server.url), connect_args={"options": CLEAN})
        other = Job(job.environment, job.queue_url, job.client, engine)
        for method in ("multi", "copy"):
            assert stored(other, settings, server.url, method) == clean
            with engine.begin() as connection:
                connection.exec_driver_sql("truncate user_logins, etl.ledger, etl.quarantine")
        engine.dispose()


CLEAN = "-c DateStyle=ISO,MDY -c TimeZone=UTC -c extra_float_digits=1 -c search_path=public"

ENCODINGS = [
    "LATIN1", "LATIN9", "SQL_ASCII", "WIN1252", "WIN1251", "EUC_JP", "SJIS", "BIG5", "GB18030",
    "KOI8R", "MULE_INTERNAL", "UHC", "UTF8", "unicode", "auto", "nonsense", "",
]  # fmt: skip


@METHODS
def test_no_client_encoding_changes_a_text(
    method: str, job: Job, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver would encode text as PGCLIENTENCODING says."""
    url = job.environment["DATABASE_URL"]
    create_tables(job.engine, settings(table__columns=COLUMNS).table)
    clean = stored(job, settings, url, method)
    for encoding in ENCODINGS:
        with job.engine.begin() as connection:
            connection.exec_driver_sql("truncate user_logins, etl.ledger, etl.quarantine")
        job.engine.dispose()
        with monkeypatch.context() as patched:
            patched.setenv("PGCLIENTENCODING", encoding)
            engine = engine_for(url)
            with transaction(engine) as connection:
                assert connection.exec_driver_sql("show client_encoding").scalar_one() == "UTF8"
                text = connection.execute(sa.text("select :text"), {"text": "€\\ä🎈"}).scalar_one()
                assert text == "€\\ä🎈"
            engine.dispose()
            if encoding in ("LATIN1", "SJIS", "SQL_ASCII"):
                result = etl_rows(job, settings, url, method, patched)
                assert result == clean, encoding


def etl_rows(
    job: Job,
    settings: Callable[..., Settings],
    url: str,
    method: str,
    patched: pytest.MonkeyPatch,
) -> tuple[list[Any], list[Any], str]:
    """Run the job in a strange environment, and look at its rows in a usual one."""
    rows = job.rows
    strange = os.environ["PGCLIENTENCODING"]

    def in_a_usual_environment(statement: str, **parameters: Any) -> list[Any]:
        patched.delenv("PGCLIENTENCODING")
        try:
            return rows(statement, **parameters)
        finally:
            patched.setenv("PGCLIENTENCODING", strange)

    patched.setattr(job, "rows", in_a_usual_environment)
    return stored(job, settings, url, method)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP", "WIN1252", "EUC_KR"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    encoding: str, postgres: EmbeddedPostgres, job: Job, settings: Callable[..., Settings]
) -> None:
    """It is refused before anything is received, by name and with what to do."""
    name = f"encoded_{encoding.lower()}"
    superuser = sa.create_engine(driver_url(postgres.superuser_url), isolation_level="AUTOCOMMIT")
    url = sa.make_url(job.environment["DATABASE_URL"]).set(database=name)
    environment = {
        **job.environment,
        "DATABASE_URL": url.render_as_string(hide_password=False),
    }
    job.send(*BODIES)
    with superuser.connect() as connection:
        connection.exec_driver_sql(
            f"create database {name} owner etl encoding '{encoding}' template template0 "
            "locale_provider libc locale 'C'"
        )
        try:
            with pytest.raises(TableError, match=f"{encoding}.*'UTF8'"):
                etl_job.run(settings(), environment)
        finally:
            connection.exec_driver_sql(f"drop database {name} with (force)")
    superuser.dispose()
    answer = job.client.receive_message(QueueUrl=job.queue_url, AttributeNames=["All"])
    assert answer["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("off", "on"), ("local", "on"), ("remote_write", "on"), ("on", "on"),
        ("remote_apply", "remote_apply"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["role", "database", "PGOPTIONS"])
def test_a_commit_waits_for_the_disk_at_least(
    way: str, value: str, ours: str, inherited: Inherited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is inherited is strengthened, and never weakened."""
    with inherited.inherit(way, {"synchronous_commit": value}, monkeypatch) as url:
        engine = engine_for(url)
        assert effective(engine, "synchronous_commit") == {"synchronous_commit": ours}
        engine.dispose()


@pytest.mark.parametrize(
    ("max_seconds", "limit"), [(None, "0"), (600, "610s"), (0.5, "10500ms"), (1e12, "2147483647ms")]
)
@pytest.mark.usefixtures("with_every_limit")
def test_a_batch_has_its_own_time_limit(
    max_seconds: float | None, limit: str, inherited: Inherited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's comes after the client's, and the role's does not count."""
    names = ("statement_timeout", "transaction_timeout", "lock_timeout")
    with inherited.inherit("role", dict.fromkeys(names, "20s"), monkeypatch) as url:
        engine = engine_for(url, max_seconds)
        got = effective(engine, *names)
        reader = engine.execution_options(postgresql_readonly=True)
        read = effective(reader, *names)
        engine.dispose()
    with psycopg2.connect(inherited.url.render_as_string(hide_password=False)) as connection:
        cursor = connection.cursor()
        cursor.execute(f"set statement_timeout = '{limit}'; show statement_timeout")
        (shown,) = cursor.fetchone() or ("",)
    connection.close()
    assert got == {names[0]: shown, names[1]: shown, names[2]: "0"}
    # An administrator protects the server with them from an analyst's query.
    assert read == dict.fromkeys(names, "20s")


@pytest.mark.parametrize("statement", ["select pg_sleep(20)", "select 1"])
@pytest.mark.usefixtures("with_every_limit")
def test_the_server_ends_what_the_client_has_given_up(
    statement: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that runs on would keep its locks, which the next attempt then waits for."""
    monkeypatch.setattr(session, "AFTER_WATCHDOG_SECONDS", 0.1)
    engine = engine_for(database_url, 0.1)
    with pytest.raises(DatabaseUnavailable), transaction(engine) as connection:
        connection.exec_driver_sql(statement)
        time.sleep(1)
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_nothing_is_left_in_the_session(engine: sa.Engine, database_url: str) -> None:
    """A pooler that pools transactions gives the session to another client afterwards."""
    ours = engine_for(database_url)
    everything = (
        "select name, setting from pg_settings where name !~ '^transaction_|in_hot_standby'"
    )
    with ours.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        assert driver.info.options in (None, "")
        with driver.cursor() as cursor:
            cursor.execute(everything)
            before = cursor.fetchall()
        driver.rollback()
        with connection.begin():
            connection.exec_driver_sql("create temporary table x (a int) on commit drop")
        with driver.cursor() as cursor:
            cursor.execute(everything)
            assert cursor.fetchall() == before
        driver.rollback()
    ours.dispose()


def test_skipped_triggers_are_refused(
    inherited: Inherited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a superuser can set it back, so the message says to let one do it."""
    replica = {"session_replication_role": "replica"}
    with (
        inherited.inherit("role", replica, monkeypatch) as url,
        pytest.raises(ConfigurationError, match="session_replication_role is 'replica'"),
        transaction(engine_for(url)),
    ):
        pass


@pytest.mark.parametrize(
    "table", ["public.user_logins", "etl.ledger", "etl.quarantine", "etl.runs"]
)
def test_a_table_that_a_crash_would_empty_is_refused(
    table: str, settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """An UNLOGGED table is empty after a crash, when its messages are no longer in the queue."""
    made = settings()
    create_tables(engine, made.table)
    check_tables(engine, made.table)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"alter table {table} set unlogged")
    with pytest.raises(TableError, match=f"'{table}' is unlogged.*set logged"):
        check_tables(engine, made.table)


def test_an_unlogged_partition_is_refused(
    settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """The partitioned table itself is never UNLOGGED."""
    made = settings()
    create_tables(engine, made.table)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "create table public.parted (like user_logins) partition by list (locale); "
            "create table public.parted_all partition of public.parted default; "
            "drop table user_logins; alter table public.parted rename to user_logins; "
            "alter table public.parted_all set unlogged"
        )
    with pytest.raises(TableError, match=r"'public\.parted_all' is unlogged"):
        check_tables(engine, made.table)


def test_a_server_that_does_not_wait_for_its_disk_is_warned_about(
    settings: Callable[..., Settings], engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """The servers of the tests are such servers."""
    made = settings()
    create_tables(engine, made.table)
    check_tables(engine, made.table)
    warnings = [record.getMessage() for record in caplog.records]
    assert [name for name in ("fsync", "full_page_writes") if name in " ".join(warnings)] == [
        "fsync",
        "full_page_writes",
    ]


# What a role may set besides, and why it is left as it is inherited.
LEFT = {
    "decides how a query is computed, not what it returns": "enable_* *_cost *_cost_* geqo* jit* "
    "*collapse_limit cursor_tuple_fraction default_statistics_target plan_cache_mode "
    "recursive_worktable_factor effective_cache_size min_parallel_* *parallel* *_work_mem work_mem "
    "hash_mem_multiplier *io_concurrency io_combine_limit temp_buffers constraint_exclusion "
    "synchronize_seqscans stats_fetch_consistency debug_discard_caches",
    "goes to the server's log, its statistics or its traces": "log_* debug_print_* "
    "debug_pretty_print track_* trace_* update_process_title compute_query_id backtrace_functions "
    "client_min_messages application_name lc_messages",
    "decides how pages reach the disk, not when a commit is answered": "wal_* commit_* "
    "backend_flush_after default_toast_compression gin_pending_list_limit file_copy_method "
    "vacuum_* max_stack_depth temp_file_limit",
    "concerns functions and types that the job does not use": "xml* lo_compat_privileges "
    "default_text_search_config lc_* timezone_abbreviations icu_validation_level "
    "check_function_bodies password_encryption scram_iterations md5_password_warnings "
    "createrole_self_grant "
    "debug_logical_replication_streaming event_triggers dynamic_library_path "
    "extension_control_path *preload_libraries",
    "has no effect while standard_conforming_strings is on": "backslash_quote "
    "escape_string_warning",
    "is said in BEGIN, or is the result of it": "default_transaction_isolation "
    "default_transaction_deferrable transaction_isolation transaction_deferrable "
    "transaction_read_only",
    "is how an administrator asks for no writes": "default_transaction_read_only",
    "says where and how new tables are made": "default_tablespace temp_tablespaces "
    "default_table_access_method allow_in_place_tablespaces",
    "ends an idle session, and the next batch opens another": "idle_session_timeout "
    "client_connection_check_interval",
    "is for the repair of a server, by a superuser": "allow_system_table_mods ignore_* "
    "zero_damaged_pages deadlock_timeout",
}


@pytest.mark.usefixtures("with_every_limit")
def test_every_setting_of_a_session_is_decided(postgres: EmbeddedPostgres) -> None:
    """A new version of Postgres brings new settings; each one may change what is stored."""
    with psycopg2.connect(postgres.superuser_url) as connection:
        cursor = connection.cursor()
        cursor.execute("select name from pg_settings where context in ('user', 'superuser')")
        names = {name for (name,) in cursor}
    connection.close()
    left = {
        name
        for name in names
        for pattern in " ".join(LEFT.values()).split()
        if fnmatch.fnmatchcase(name, pattern)
    }
    set_by_us = {setting.name for setting in (*session.SETTINGS, *session.TIME_LIMITS)}
    set_by_us |= {"synchronous_commit", "search_path", "session_replication_role"}
    assert names - left - set_by_us == set()
    assert set_by_us - names == set()
    assert set_by_us & left == set()
