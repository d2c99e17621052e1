"""The campaign ``hostile-server``: a server, a role and an environment with hostile settings."""

from __future__ import annotations

import random
import time
from contextlib import closing
from typing import Any

import psycopg2
from sqlalchemy import make_url

from tests.chaos.injected_faults import restore_load_speed, slow_down_loads, wait_until_all_commit
from tests.chaos.messages import Messages
from tests.chaos.proxy import via_proxy
from tests.chaos.services import open_testbed
from tests.chaos.testbed import Result, Size, Testbed
from tests.chaos.workers import WorkerPlan

LOAD_SECONDS = 0.5
# A commit that is answered before it is on disk stays in memory for up to 10 s, the longest that
# Postgres allows, and is lost when the server is stopped like in a crash.
SERVER = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
# Each load takes longer than the time limits allow.
ROLE = {
    "synchronous_commit": "off",
    "statement_timeout": "400ms",
    "lock_timeout": "20ms",
    "transaction_timeout": "450ms",
    "idle_session_timeout": "5s",
    "default_transaction_isolation": "serializable",
    "client_encoding": "LATIN1",
    "standard_conforming_strings": "off",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Pacific/Kiritimati",
    "bytea_output": "escape",
    "exit_on_error": "on",
    "row_security": "off",
}
# The objects of this schema have the names of those that the job uses.
SEARCH_PATH = "hostile, etl, public, pg_catalog, pg_temp"
OBJECTS = """
create schema hostile;
create table hostile.etl_staging (message_id text);
create table hostile.user_logins (user_id text);
create function hostile.jsonb_array_elements_text(jsonb) returns setof text
    language sql as 'select null::text where false';
create function hostile.set_config(text, text, boolean) returns text language sql as 'select $2';
"""
ENVIRONMENT = {
    "PGCLIENTENCODING": "SJIS",
    "PGDATESTYLE": "German",
    "PGTZ": "America/St_Johns",
    "PGOPTIONS": "-c synchronous_commit=off -c lock_timeout=10ms -c extra_float_digits=-10",
}
METHODS = ("multi", "copy")


def hostile_server(seed: int, size: Size) -> Result:
    """Crash the server and cancel statements, while nothing that a session inherits is right."""
    planned = {"restart": size.of(40, 3), "cancelled statement": size.of(200, 4)}
    draw = random.Random(f"hostile-server {seed}")
    settings = {**ENVIRONMENT, "ETL_BATCH__ROWS": "40", "ETL_BATCH__SECONDS": "1"}
    messages = Messages(seed, bad_share=0.02)
    with open_testbed(
        "hostile-server", messages, settings=settings, server_settings=SERVER
    ) as testbed:
        _become_hostile(testbed)
        slow_down_loads(testbed, LOAD_SECONDS)
        testbed.send(3000)
        for slot in testbed.workers.free_slots:
            variables = (("ETL_LOAD__METHOD", METHODS[slot % 2]),)
            testbed.workers.start(slot, WorkerPlan(variables=variables))
        wait_until_all_commit(testbed)
        while any(testbed.fired[kind] < count for kind, count in planned.items()):
            testbed.keep_queue_filled(2000, 1000)
            for _ in range(draw.randint(1, 3)):
                time.sleep(draw.uniform(0.1, 0.5))
                testbed.fired["cancelled statement"] += _cancel_statement(testbed)
            if testbed.fired["restart"] < planned["restart"]:
                testbed.postgres.restart("immediate")
                testbed.fired["restart"] += 1
            wait_until_all_commit(testbed)
            testbed.report_progress()
        restore_load_speed(testbed)
        testbed.drain()
        return testbed.result(planned)


def _become_hostile(testbed: Testbed) -> None:
    """Let the workers log in with a role of hostile settings."""
    url = make_url(testbed.database_url).set(username="hostile", password="hostile")
    statements = ["create role hostile login password 'hostile' in role etl", OBJECTS]
    statements += [f"alter role hostile set {name} = '{value}'" for name, value in ROLE.items()]
    statements += [
        f'alter role hostile in database "{url.database}" set search_path = {SEARCH_PATH}',
        "grant usage on schema hostile to public",
        "grant all on all tables in schema hostile to public",
    ]
    for statement in statements:
        _as_superuser(testbed, statement)
    testbed.environment["DATABASE_URL"] = via_proxy(
        url.render_as_string(hide_password=False), testbed.proxy.port
    )


def _cancel_statement(testbed: Testbed) -> int:
    """Cancel the statement of one worker, as an administrator may; returns how many it were."""
    statement = (
        "select pg_cancel_backend(pid)::int from pg_stat_activity "
        "where usename = 'hostile' and state = 'active' order by random() limit 1"
    )
    return sum(cancelled for (cancelled,) in _as_superuser(testbed, statement))


def _as_superuser(testbed: Testbed, statement: str) -> list[tuple[Any, ...]]:
    name = make_url(testbed.database_url).database
    url = make_url(testbed.postgres.superuser_url).set(database=name)
    with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
