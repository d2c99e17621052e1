"""``etl doctor`` on a real database and queue: each check, good and bad, and nothing changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from etl.cli import main
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.doctor import database, keyring, tables
from etl.doctor.result import Result
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import EtlError
from etl.postgres import first_use
from etl.postgres.creation import create_tables
from etl.postgres.engine import open_engine, read_only, transaction
from tests.acceptance.job_processes import new_job
from tests.acceptance.leak_scan import search
from tests.conftest import KEYRING, Job
from tests.unit.builders import event

TRIGGER = (
    "create function fill() returns trigger language plpgsql as $$ begin return new; end $$",
    "create trigger fill before insert on user_logins for each row execute function fill()",
)
AS_VIEW = (
    "alter table user_logins rename to stored",
    "alter table stored add region text not null",
    (
        "create view public.user_logins as select user_id, device_type, masked_ip, "
        "masked_device_id, locale, app_version, create_date from stored"
    ),
)
RUN = (
    "insert into etl.runs (run_id, job, version, config_hash, host, finished_at, exit_code, "
    "stop_reason) values (gen_random_uuid(), 'public.user_logins', '', '', '', "
    "now() - interval '{}', {}, '{}')"
)

RUNNING = (
    "insert into etl.runs (run_id, job, version, config_hash, host) "
    "values (gen_random_uuid(), 'public.user_logins', '', '', '')"
)


@pytest.fixture
def ready(settings: Callable[..., Settings], engine: sa.Engine) -> Settings:
    """Settings for a database that has the tables."""
    made = settings()
    create_tables(engine, made.table)
    return made


@pytest.fixture
def job_engine(settings: Callable[..., Settings]) -> Iterator[sa.Engine]:
    """An engine as the job opens it."""
    opened = open_engine(settings().database)
    yield opened
    opened.dispose()


def do(engine: sa.Engine, *statements: str) -> None:
    """Run statements."""
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def of_tables(engine: sa.Engine, settings: Settings) -> dict[str, list[Result]]:
    """The results of the checks of tables, by check."""
    found: dict[str, list[Result]] = {}
    for result in tables.results(engine, settings):
        found.setdefault(result.check, []).append(result)
    return found


def not_ok(results: dict[str, list[Result]]) -> dict[str, str]:
    """The status of each check that is not ok."""
    return {check: each[0].status for check, each in results.items() if each[0].status != "ok"}


def ask(engine: sa.Engine, settings: Settings, question: database.Question) -> Result:
    """Ask one question in a transaction that only reads."""
    with transaction(read_only(engine)) as connection:
        return question(connection, settings)


def test_the_tables_of_a_job_that_can_run_are_in_order(
    job_engine: sa.Engine, ready: Settings
) -> None:
    """Every check of them is made."""
    found = of_tables(job_engine, ready)
    assert (tuple(found), not_ok(found)) == (tables.OF_THE_TABLES, {})


BROKEN: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "rights": (
        ("revoke insert, delete on etl.ledger from etl", "revoke update on etl.runs from etl"),
        {"database.rights": "fail"},
        "grant delete, insert on etl.ledger",
    ),
    "a function of another version": (
        ("drop function etl.remove_samples",),
        {"database.own_tables": "warn", "database.rights": "unknown"},
        "the next run creates what is missing",
    ),
    "no column": (
        ("alter table user_logins drop column locale",),
        {"database.target": "fail"},
        "add it with 'etl init --alter', or remove it from 'table.columns'",
    ),
    "no target": (
        ("drop table user_logins",),
        {"database.target": "warn"},
        "the next run creates what is missing",
    ),
    "unlogged": (
        ("alter table user_logins set unlogged",),
        {"database.storage": "fail"},
        'alter table "public"."user_logins" set logged',
    ),
    "a trigger": (TRIGGER, {"database.triggers": "warn"}, "take every row"),
    "behind a view": (AS_VIEW, {"database.load": "fail"}, "set default"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_with_the_tables_is_found(
    name: str, job_engine: sa.Engine, engine: sa.Engine, ready: Settings
) -> None:
    """With the way out; the other checks are made as before."""
    statements, expected, advice = BROKEN[name]
    do(engine, *statements)
    found = of_tables(job_engine, ready)
    if set(expected) & set(tables.BEFORE_LOAD):
        expected = {**expected, "database.load": "unknown"}
    assert not_ok(found) == expected
    assert any(advice in result.advice for each in found.values() for result in each)


def test_each_missing_right_has_a_result(
    job_engine: sa.Engine, engine: sa.Engine, ready: Settings
) -> None:
    """Each with its own statement."""
    do(engine, *BROKEN["rights"][0])
    found = of_tables(job_engine, ready)["database.rights"]
    assert [result.advice for result in found] == [
        'run: grant delete, insert on etl.ledger to "etl"',
        'run: grant update on etl.runs to "etl"',
    ]


@pytest.mark.parametrize(
    ("changes", "status"),
    [({}, "warn"), ({"database__create_tables": False}, "fail"),
     ({"table__schema": "nowhere"}, "fail")],
)  # fmt: skip
def test_tables_that_a_run_would_create_are_a_warning(
    changes: dict[str, Any], status: str, job_engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """Those that nobody would create are a failure."""
    found = of_tables(job_engine, settings(**changes))
    assert found["database.target"][0].status == status


def test_tables_that_the_role_may_not_create_are_a_failure(
    job_engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """The catalogue says so before a run tries."""
    url = job_engine.url
    owner = sa.create_engine(job_engine.url)
    do(owner, f'revoke create on database "{url.database}" from etl')
    owner.dispose()
    found = of_tables(job_engine, settings())
    assert found["database.own_tables"][0].status == "fail"
    assert "grant create on database" in found["database.own_tables"][0].advice


@pytest.fixture
def superuser(postgres: EmbeddedPostgres, job_engine: sa.Engine) -> Iterator[sa.Engine]:
    """Connects to the job's database as one who may do everything."""
    url = sa.make_url(postgres.superuser_url)
    opened = sa.create_engine(
        url.set(drivername="postgresql+psycopg2", database=job_engine.url.database)
    )
    yield opened
    opened.dispose()


def test_earlier_tables_of_another_owner_are_a_failure(
    superuser: sa.Engine, job_engine: sa.Engine, ready: Settings
) -> None:
    """Only their owner can update them, also where this role may create new ones."""
    do(
        superuser,
        "alter table etl.runs drop column empty_messages cascade",
        "alter table etl.runs owner to postgres",
    )
    (result,) = of_tables(job_engine, ready)["database.own_tables"]
    assert (result.status, result.advice) == ("fail", "let the owner of the tables run: etl init")


def test_a_server_that_refuses_the_staging_table_fails(
    superuser: sa.Engine, job_engine: sa.Engine, ready: Settings
) -> None:
    """A run would meet the same."""
    do(
        superuser,
        "create function refuse() returns event_trigger language plpgsql as "
        "$$ begin raise exception 'no'; end $$",
        "create event trigger refuse on ddl_command_start execute function refuse()",
    )
    try:
        assert not_ok(of_tables(job_engine, ready)) == {"database.load": "fail"}
    finally:
        do(superuser, "drop event trigger refuse", "drop function refuse")


def test_the_plan_of_a_load_leaves_nothing(job_engine: sa.Engine, ready: Settings) -> None:
    """Its transaction is rolled back, and the staging table with it."""
    committed: list[sa.Connection] = []
    sa.event.listen(job_engine, "commit", committed.append)
    assert tables.load(job_engine, ready)[0].status == "ok"
    assert committed == []


def test_a_session_knows_its_connection(job_engine: sa.Engine) -> None:
    """The embedded server is asked over TCP, without TLS or a pooler."""
    session = database.open_session(read_only(job_engine))
    assert (session.is_local, session.tls, session.sslmode) == (True, None, "prefer")
    assert session.process == session.backend
    assert session.version >= 140000


def test_the_server_of_a_job_that_can_run_is_in_order(
    job_engine: sa.Engine, ready: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except that the embedded one does not wait for the disk."""
    reader = read_only(job_engine)
    found = list(database.results(reader, ready, database.open_session(reader)))
    expected = ("database.connection", *database.OF_A_CONNECTION)
    assert tuple(result.check for result in found) == expected
    assert [r.check for r in found if r.status != "ok"] == ["database.durability"]
    monkeypatch.setattr(database, "durability_settings_off", lambda _: [])
    assert ask(job_engine, ready, database.durability).status == "ok"


@pytest.mark.long
def test_another_encoding_fails(
    postgres: EmbeddedPostgres, settings: Callable[..., Settings], job_engine: sa.Engine
) -> None:
    """Not every text can be stored in it."""
    superuser = sa.create_engine(
        sa.make_url(postgres.superuser_url).set(drivername="postgresql+psycopg2"),
        isolation_level="AUTOCOMMIT",
    )
    name = "latin_for_the_doctor"
    with superuser.connect() as connection:
        connection.exec_driver_sql(
            f"create database {name} encoding latin1 locale 'C' template template0"
        )
    latin = sa.create_engine(job_engine.url.set(database=name))
    try:
        (result,) = [
            result
            for result in database.results(latin, settings(), database.open_session(latin))
            if result.check == "database.encoding"
        ]
        assert (result.status, "encoding 'UTF8'" in result.advice) == ("fail", True)
    finally:
        latin.dispose()
        with superuser.connect() as connection:
            connection.exec_driver_sql(f"drop database {name} with (force)")
        superuser.dispose()


def test_a_database_that_is_read_only_fails(
    job_engine: sa.Engine, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result says where that is set."""
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    result = ask(job_engine, settings(), database.writable)
    assert (result.status, "client" in result.found) == ("fail", True)


def test_a_replica_fails(settings: Callable[..., Settings]) -> None:
    """Whatever else it is set to."""
    replica: Any = SimpleNamespace(
        exec_driver_sql=lambda _: SimpleNamespace(scalar_one=lambda: True)
    )
    assert database.writable(replica, settings()).status == "fail"


def test_time_limits_are_listed_and_short_ones_are_a_warning(
    job_engine: sa.Engine, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run sets its own, by a statement that they limit too."""
    monkeypatch.setenv("PGOPTIONS", "-c statement_timeout=1h -c lock_timeout=2h")
    result = ask(job_engine, settings(), database.time_limits)
    assert result.status == "ok"
    assert result.found.startswith("lock_timeout = 7,200,000 ms, statement_timeout = 3,600,000 ms")
    monkeypatch.setattr(database, "SHORT_MILLISECONDS", 3_600_001)
    result = ask(job_engine, settings(), database.time_limits)
    assert (result.status, "reset statement_timeout" in result.advice) == ("warn", True)


def test_without_tables_ledger_and_last_run_are_unknown(
    job_engine: sa.Engine, settings: Callable[..., Settings]
) -> None:
    """And every other check is made."""
    reader = read_only(job_engine)
    found = list(database.results(reader, settings(), database.open_session(reader)))
    unknown = [result.check for result in found if result.status == "unknown"]
    assert unknown == ["database.ledger", "database.last_run"]


@pytest.mark.parametrize(
    ("runs", "status", "found"),
    [
        ((), "ok", "no run of job 'public.user_logins' has finished yet"),
        (("1 hour", "0", "idle"), "ok", "the last good run ended 1.0 h ago"),
        (("60 hours", "0", "idle"), "warn", "the last good run ended 60.0 h ago"),
        (("2 hours", "1", "queue refused"), "warn",
         "no run was good; the last one 2.0 h ago: exit code 1, queue refused"),
        (("30 hours", "0", "idle", "6 hours", "3", "quarantine budget"), "warn",
         "the last good run ended 30.0 h ago; the last one 6.0 h ago: exit code 3, quarantine"),
        (("6 hours", "0", "idle", "30 hours", "3", "quarantine budget"), "ok",
         "the last good run ended 6.0 h ago"),
    ],
)  # fmt: skip
def test_the_last_good_run_is_found(
    runs: tuple[str, ...], status: str, found: str, job_engine: sa.Engine, engine: sa.Engine,
    ready: Settings,
) -> None:  # fmt: skip
    """A later one that failed, or none for days, is a warning; one that is running is not."""
    do(engine, RUNNING, *(RUN.format(*runs[start : start + 3]) for start in range(0, len(runs), 3)))
    result = ask(job_engine, ready, database.last_run)
    assert result.status == status
    assert result.found.startswith(found)
    assert bool(result.advice) == (status == "warn")


def of_keyring(engine: sa.Engine, settings: Settings, keys: Keyring) -> dict[str, str]:
    """The status of each check of the keyring in the database."""
    found = keyring.results(read_only(engine), settings, keys)
    return {result.check: result.status for result in found}


@pytest.mark.parametrize(
    ("right", "table"), [("select", "key_checks"), ("insert", "masked_columns")]
)
def test_a_first_use_that_a_run_may_not_read_or_record_fails(
    right: str, table: str, job_engine: sa.Engine, engine: sa.Engine, ready: Settings
) -> None:
    """Unless there is nothing left to record."""

    def status() -> str:
        return next(keyring.results(read_only(job_engine), ready, KEYRING)).status

    do(engine, f"revoke {right} on etl.{table} from etl")
    assert status() == "fail"
    do(engine, f"grant {right} on etl.{table} to etl")
    with transaction(job_engine) as connection:
        first_use.record(connection, ready, KEYRING)
    do(engine, f"revoke {right} on etl.{table} from etl")
    assert status() == ("ok" if right == "insert" else "fail")


def test_the_keyring_is_compared_with_its_first_use(job_engine: sa.Engine, ready: Settings) -> None:
    """Another key of the same id fails, whatever else is right about it."""
    keys = KEYRING.with_new("k2")
    assert set(of_keyring(job_engine, ready, keys).values()) == {"ok"}
    with transaction(job_engine) as connection:
        first_use.record(connection, ready, KEYRING)
    with_new = of_keyring(job_engine, ready, keys)
    assert with_new == {"keyring.first_use": "ok", "keyring.primary": "warn", "keyring.keys": "ok"}
    wrong = of_keyring(job_engine, ready, Keyring.new("k1"))
    assert wrong == {"keyring.first_use": "fail", "keyring.primary": "ok", "keyring.keys": "ok"}
    other = of_keyring(job_engine, ready, Keyring.new("k9"))
    assert (other["keyring.primary"], other["keyring.keys"]) == ("warn", "fail")


SECRET = "Sw0rdfishTr0ub4dorSw0rdfishTr0ub4dorXyz9"  # as long as a secret access key
DEVICE = "kanarie-593-47-5928"
ADDRESS = "198.51.100.227"
CANARIES = (SECRET, DEVICE, ADDRESS)


def everything(job: Job) -> dict[str, Any]:
    """Every row of the job's tables, the objects of the database, and the queue's attributes."""
    names = job.rows(
        "select format('%I.%I', schemaname, tablename) from pg_tables "
        "where schemaname in ('etl', 'public') order by 1"
    )
    rows = {name: sorted(job.rows(f"select cast(t as text) from {name} as t")) for (name,) in names}
    objects = job.rows("select oid, relname from pg_class where oid >= 16384 order by 1")
    answer = job.client.get_queue_attributes(QueueUrl=job.queue_url, AttributeNames=["All"])
    return {**rows, "objects": objects, "queue": answer["Attributes"]}


@pytest.fixture(scope="module")
def loaded(sqs: EmbeddedSqs, postgres: EmbeddedPostgres) -> Iterator[Job]:
    """A job with rows, rejects and a run, and a message that waits; all hold canaries."""
    with new_job(sqs, postgres) as job:
        job.send(event(ip=ADDRESS, device_id=DEVICE), event(ip=DEVICE), "{" + ADDRESS)
        job.run(ETL_QUARANTINE__MAX_FRACTION="1")
        job.send(event(ip=ADDRESS, device_id=DEVICE))
        yield job


def receives(job: Job) -> list[str]:
    """How often each message that waits was received, this time included."""
    names = ["ApproximateReceiveCount"]
    answer = job.client.receive_message(
        QueueUrl=job.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0, AttributeNames=names
    )
    return [message["Attributes"][names[0]] for message in answer["Messages"]]


def test_a_job_that_can_run_is_told_so_and_nothing_changes(loaded: Job, tmp_path: Path) -> None:
    """No row, no object of the database, no attribute of the queue, no receive and no file."""
    before = everything(loaded)
    done = loaded.command("doctor", "--json", HOME=str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["summary"]["fail"] == 0
    names = [check["check"] for check in document["checks"]]
    assert len(set(names)) == len(names) == sum(document["summary"].values())
    areas = {name.partition(".")[0] for name in names}
    assert areas == {"environment", "keyring", "queue", "rights", "database"}
    assert all(check["advice"] for check in document["checks"] if check["status"] == "warn")
    assert everything(loaded) == before
    assert receives(loaded) == ["1"]
    assert list(tmp_path.iterdir()) == []


def test_the_server_refuses_a_check_that_would_write(
    loaded: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transactions only read, so a slip in a check changes nothing."""

    def write(connection: sa.Connection, _: Settings) -> Result:
        connection.exec_driver_sql("delete from etl.runs")
        return Result("database.encoding", "ok", "")

    def write_at_first_use(engine: sa.Engine, settings: Settings, _: Keyring) -> None:
        with transaction(engine) as connection:
            write(connection, settings)

    monkeypatch.setitem(database.OF_THE_SERVER, "database.encoding", write)
    monkeypatch.setattr(first_use, "check", write_at_first_use)
    _, out, _ = printed(loaded, "--json")
    found = {check["check"]: check["found"] for check in json.loads(out)["checks"]}
    for name in ("database.encoding", "keyring.first_use"):
        assert "25006" in found[name]
    assert loaded.rows("select count(*) from etl.runs") == [(1,)]


def printed(job: Job, *arguments: str, **more: str) -> tuple[int, str, str]:
    """Call the command in this process; its exit code, its output and its errors."""
    environment = dict.fromkeys(("DATABASE_URL", "ETL_KEYRING"), "") | job.environment | more
    result = CliRunner().invoke(main, ["doctor", *arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, (SystemExit, EtlError))
    return result.exit_code, result.stdout, f"{result.stderr}{result.exception}"


def test_offline_leaves_out_what_needs_a_network(loaded: Job) -> None:
    """And says what that is."""
    nowhere = {"DATABASE_URL": "postgresql://etl@127.0.0.1:1/etl", "AWS_ENDPOINT_URL": "http://[1"}
    code, out, _ = printed(loaded, "--offline", "--json", **nowhere)
    document = json.loads(out)
    assert code == 0
    assert {check["check"].partition(".")[0] for check in document["checks"]} == {
        "environment",
        "keyring",
    }
    assert document["skipped"] == ["AWS", "the queue", "the rights to it", "the database"]
    code, out, _ = printed(loaded, "--offline")
    assert out.endswith("left out: AWS, the queue, the rights to it, the database\n")


def test_a_keyring_in_secrets_manager_is_left_out_offline(loaded: Job) -> None:
    """It is not a failure that it cannot be read."""
    secret = {"ETL_KEYRING": "", "ETL_KEYRING_SECRET": "etl/keyring"}
    code, out, _ = printed(loaded, "--offline", "--json", **secret)
    document = json.loads(out)
    assert (code, document["skipped"][-1]) == (0, "the keyring (in Secrets Manager)")
    assert "keyring.readable" not in [check["check"] for check in document["checks"]]


def test_without_a_connection_each_check_of_the_database_is_unknown(loaded: Job) -> None:
    """The connection itself has failed; queue and keyring are checked as before."""
    url = "postgresql://etl@127.0.0.1:1/etl"
    code, out, _ = printed(loaded, "--json", DATABASE_URL=url)
    status = {check["check"]: check["status"] for check in json.loads(out)["checks"]}
    assert (code, status["database.connection"], status["queue.exists"]) == (1, "fail", "ok")
    others = {*database.OF_A_CONNECTION, *tables.OF_THE_TABLES, *keyring.OF_THE_DATABASE}
    assert {name for name, value in status.items() if value == "unknown"} >= others


def test_a_wrong_configuration_has_its_exit_code(loaded: Job) -> None:
    """As for every command."""
    code, out, error = printed(loaded, ETL_BATCH__ROWS="many")
    assert (out, "batch.rows" in error) == ("", True)
    result = CliRunner().invoke(
        main, ["doctor"], env={**loaded.environment, "ETL_BATCH__ROWS": "x"}
    )
    assert isinstance(result.exception, EtlError)
    assert (code, result.exception.exit_code) == (1, 2)


# What is set to a secret, or has one in it. None of it may be repeated, whatever the check says.
SECRETS = {
    "nothing": {},
    "password": {"DATABASE_URL": f"postgresql://etl:{SECRET}@127.0.0.1:1/etl"},
    "password in the wrong place": {"DATABASE_URL": f"postgresql://etl:a@{SECRET}@127.0.0.1/etl"},
    "no URL": {"DATABASE_URL": SECRET},
    "keyring": {"ETL_KEYRING": SECRET},
    "keyring in JSON": {"ETL_KEYRING": json.dumps({"primary": SECRET, "keys": {SECRET: SECRET}})},
    "two keyrings": {"ETL_KEYRING_SECRET": SECRET},
    "access key": {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET},
    "half a key": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": SECRET},
    "region": {"AWS_REGION": SECRET},
    "profile": {"AWS_PROFILE": SECRET, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    "endpoint": {"AWS_ENDPOINT_URL": f"http://etl:{SECRET}@127.0.0.1:1"},
    "queue": {"ETL_QUEUE__URL": f"http://etl:{SECRET}@127.0.0.1:1/000000000000/q"},
    "debug": {"ETL_LOG__LEVEL": "debug", "AWS_SESSION_TOKEN": SECRET},
}


def check_shows_no_canary(job: Job, names: Iterable[str]) -> None:
    """Search the output, in both forms, for the canaries in every usual encoding."""
    places = []
    for name in names:
        for form in ((), ("--json",)):
            code, out, error = printed(job, *form, **SECRETS[name])
            assert out or code, name
            places.append((f"{name} {form}", f"{out}{error}".encode()))
    (key,) = json.loads(KEYRING.dump())["keys"].values()
    assert search(places, [*CANARIES, key, str(job.engine.url.password)]) == set()


def test_no_value_and_no_secret_is_in_the_output(loaded: Job) -> None:
    """Neither of a job that can run, nor in what is said of a key in the wrong place."""
    check_shows_no_canary(loaded, ["nothing", "region"])


@pytest.mark.long
def test_no_secret_is_in_the_output_whatever_is_wrong(loaded: Job) -> None:
    """Wherever the secret was written."""
    check_shows_no_canary(loaded, SECRETS)
