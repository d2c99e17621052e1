"""Another key under a known id, and another context of a column, are refused by every command."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner, Result

from etl import config, worker
from etl.cli import main
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import ConfigurationError, KeyringError, SettingsError
from etl.mask import tokens
from etl.postgres import first_use, key_checks
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, transaction
from etl.postgres.sqlstate import RowRefused
from etl.preflight import Ready, prepare_database
from etl.runs import Run, Share
from etl.sqs.limits import Stop
from etl.sqs.queue import Queue, QueueState
from etl.sqs.quota import open_quota
from etl.workers import interpreter
from tests.acceptance.job_processes import new_job
from tests.conftest import KEYRING, ROOT, Job
from tests.unit.builders import event
from tests.unit.test_help import all_calls

pytestmark = pytest.mark.long

WRONG = Keyring.new("k1")
COLUMNS = yaml.safe_load((ROOT / "config.yaml").read_text())["table"]["columns"]

# Every command that uses keys, with what it needs. {token} is a token of the table, {file} an
# export, {new} a file that does not exist.
WITH_KEYS = {
    "run": ["run --idle-seconds 1", "run --dry-run --idle-seconds 1", "run --workers 2"],
    "token": ["token 198.51.100.7 --column masked_ip"],
    "rows": ["rows 198.51.100.7 --column masked_ip"],
    "unmask": [
        "unmask {token} --reason test",
        "unmask --where true --reason test",
        "unmask --in {csv} --out {new} --reason test",
    ],
    "forget": [
        "forget 198.51.100.7 --column masked_ip",
        "forget 198.51.100.7 --column masked_ip --yes",
    ],
    "quarantine show": ["quarantine show 1 --reason test"],
    "quarantine replay": ["quarantine replay --all"],
    "quarantine export": ["quarantine export {new}"],
    "quarantine import": ["quarantine import {file}"],
    "keys list": ["keys list"],
    "rekey": ["rekey"],
    "rollback": ["rollback 0000 --reason test --yes"],
}
# The others, and why no key is compared.
WITHOUT = {
    "audit": "no key",
    "check-config": "its own key, thrown away; no database",
    "config show": "no key",
    "demo": "runs other commands",
    "draft": "no key, and no database",
    "doctor": "says that a key is another one in a line: see test_doctor.py",
    "history": "no key",
    "init": "no key",
    "keys new": "makes a key, and has no database",
    "keys rotate": "adds a key, and has no database",
    "peek": "no key, and no database",
    "quarantine discard": "no key: it opens no body",
    "quarantine list": "no key: it opens no body",
    "report duplicates": "no key",
    "report notebook": "no key",
    "send": "no key",
}
CALLS = [call for calls in WITH_KEYS.values() for call in calls]


def test_every_command_either_compares_keys_or_uses_none() -> None:
    """A new command must be added to one of the two lists."""
    groups = {" ".join(path) for path in _groups(main)}
    assert {*WITH_KEYS, *WITHOUT} == {call for call in all_calls(main) if call not in groups}


def _groups(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _groups(command, *path, name)


@pytest.fixture(scope="module")
def loaded(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Job, dict[str, str]]]:
    """A job that has loaded a row and quarantined a message, and what the calls need."""
    folder = tmp_path_factory.mktemp("loaded")
    with new_job(sqs, postgres) as job:
        job.send(event(ip="198.51.100.7"), "{")
        job.run()
        job.send(event(ip="198.51.100.8"))
        ((token,),) = job.rows("select masked_ip from user_logins")
        export = job.command("quarantine", "export", str(folder / "export.jsonl"))
        assert export.returncode == 0, export.stderr
        (folder / "masked.csv").write_text(f"ip\n{token}\n")
        yield (
            job,
            {
                "token": token,
                "file": str(folder / "export.jsonl"),
                "csv": str(folder / "masked.csv"),
                "new": str(folder / "new"),
            },
        )


@pytest.fixture
def invoke(
    loaded: tuple[Job, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """Call a command in this process, with changes of its environment."""
    job, places = loaded
    monkeypatch.setattr(interpreter, "tune_interpreter", lambda: None)

    def call(text: str, **changes: str) -> Result:
        arguments = [word.format(**places) for word in text.split()]
        return CliRunner().invoke(main, arguments, env={**job.environment, **changes})

    return call


def everything(job: Job) -> dict[str, list[Any]]:
    """Every row of every table of the database, and what the queue holds."""
    names = job.rows(
        "select table_schema, table_name from information_schema.tables "
        "where table_schema in ('etl', 'public') and table_type = 'BASE TABLE'"
    )
    tables = {
        f"{schema}.{name}": sorted(job.rows(f'select t::text from "{schema}"."{name}" t'))
        for schema, name in names
    }
    return {**tables, "queue": [job.left()]}


def check_refused(
    loaded: tuple[Job, dict[str, str]], call: Callable[[], Result]
) -> ConfigurationError:
    """Check that a call shows, stores and receives nothing; return its error."""
    job, places = loaded
    before = everything(job)
    done = call()
    error = done.exception
    assert isinstance(error, ConfigurationError), done.output
    assert error.exit_code == 2
    assert done.stdout == ""
    assert everything(job) == before
    assert not Path(places["new"]).exists()
    return error


WRONG_KEYRINGS = {
    "its only key": WRONG,
    "its primary key": Keyring("k1", {"k1": WRONG.key("k1"), "k2": KEYRING.key("k1")}),
    "an older key": WRONG.with_new("k3"),
}


@pytest.mark.parametrize("keyring", WRONG_KEYRINGS.values(), ids=WRONG_KEYRINGS)
@pytest.mark.parametrize("text", CALLS)
def test_another_key_of_a_known_id_is_refused(
    loaded: tuple[Job, dict[str, str]],
    invoke: Callable[..., Result],
    text: str,
    keyring: Keyring,
) -> None:
    """The error says which key it is, and when and by which job it was first used."""
    error = check_refused(loaded, lambda: invoke(text, ETL_KEYRING=keyring.dump()))
    assert isinstance(error, KeyringError)
    ((day,),) = loaded[0].rows(
        "select to_char(min(first_used_at), 'YYYY-MM-DD') from etl.key_checks"
    )
    for part in ("key 'k1'", day, "job 'public.user_logins'", "restore the copy of that keyring"):
        assert part in str(error)


def columns(**changes: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of config.yaml with changes by name; a value of None takes a key out."""
    return [
        {
            key: value
            for key, value in {**column, **changes.get(column["name"], {})}.items()
            if value is not None
        }
        for column in COLUMNS
    ]


IP = "{name: masked_ip, field: %s, type: ip, max_length: 256, mask: true, context: ip}"
DEVICE = (
    "{name: masked_device_id, field: %s, type: text, max_length: 256, mask: true, "
    "context: device_id}"
)
# Each with the line to write for it.
OTHER_COLUMNS = {
    "renamed field": (columns(masked_ip={"field": "ip_address"}), IP % "[ip, ip_address]"),
    "new name first": (
        columns(masked_device_id={"field": ["device", "device_id"]}),
        DEVICE % "[device_id, device]",
    ),
    "context": (columns(masked_ip={"context": "address"}), IP % "ip"),
    "not canonical": (columns(masked_ip={"canonical": False}), IP % "ip"),
    "type": (columns(masked_ip={"type": "text"}), IP % "ip"),
    "cleaned": (columns(masked_device_id={"clean": ["lower"]}), DEVICE % "device_id"),
    "not masked": (columns(masked_device_id={"mask": False}), DEVICE % "device_id"),
}


@pytest.mark.parametrize(("other", "line"), OTHER_COLUMNS.values(), ids=OTHER_COLUMNS)
@pytest.mark.parametrize("text", CALLS)
def test_columns_that_are_masked_in_another_way_are_refused(
    loaded: tuple[Job, dict[str, str]],
    invoke: Callable[..., Result],
    text: str,
    other: list[dict[str, Any]],
    line: str,
) -> None:
    """The error shows the line to write."""
    error = check_refused(loaded, lambda: invoke(text, ETL_TABLE__COLUMNS=yaml.safe_dump(other)))
    assert isinstance(error, SettingsError)
    assert str(error).splitlines()[1:] == [f"    - {line}"]


@pytest.mark.parametrize("sent", [[], [event()]], ids=["nothing", "all quarantined"])
def test_a_mistake_of_the_first_set_up_can_be_corrected_as_the_error_says(
    sqs: EmbeddedSqs, postgres: EmbeddedPostgres, sent: list[str]
) -> None:
    """A run remembers a wrong name of a field although it could load nothing with it."""
    with new_job(sqs, postgres) as job:
        job.send(*sent)
        mistaken = yaml.safe_dump(columns(masked_ip={"field": "ipp"}))
        assert job.run(ETL_TABLE__COLUMNS=mistaken)["loaded"] == 0
        job.send(event())
        refused = job.command("run")
        assert refused.returncode == 2
        assert "let the owner of the tables delete the column's row in etl.masked_columns" in (
            refused.stderr
        )
        with job.engine.begin() as connection:
            connection.execute(
                sa.text("delete from etl.masked_columns where column_name = 'masked_ip'")
            )
        assert job.run()["loaded"] == 1


def remember(engine: sa.Engine, settings: config.Settings, keyring: Keyring) -> None:
    """Record a first use, as a run does when it starts."""
    with transaction(engine) as connection:
        first_use.record(connection, settings, keyring)


@pytest.fixture
def made(engine: sa.Engine, settings: Callable[..., config.Settings]) -> sa.Engine:
    """A database with the tables, and nothing in them."""
    create_tables(engine, settings().table)
    return engine


def keys_known(engine: sa.Engine) -> list[tuple[str, ...]]:
    """The jobs, tables and key ids whose first use is recorded."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("select job, target, key_id from etl.key_checks order by 1, 2, 3")
        )
        return [tuple(row) for row in rows]


def test_a_check_value_recognises_a_key_and_does_not_show_it() -> None:
    """Another key or another id has another value, and none of them is in the keyring."""
    both = Keyring("k1", {"k1": KEYRING.key("k1"), "k2": WRONG.key("k1")})
    swapped = Keyring("k1", {"k1": WRONG.key("k1"), "k2": KEYRING.key("k1")})
    values = {key_checks.check_value(ring, key) for ring in (both, swapped) for key in ("k1", "k2")}
    assert len(values) == 4
    assert key_checks.check_value(both, "k1") == key_checks.check_value(KEYRING, "k1")
    assert all(len(bytes.fromhex(value)) == 16 for value in values)
    assert not any(value in ring.key("k1").hex() for value in values for ring in (both, swapped))


def test_jobs_with_tables_of_their_own_may_have_keyrings_of_their_own(
    made: sa.Engine, settings: Callable[..., config.Settings]
) -> None:
    """The same id may then name two keys; no token of one is in the table of the other."""
    logins, orders = settings(), settings(table__name="orders")
    remember(made, logins, KEYRING)
    remember(made, orders, WRONG)
    for _ in range(2):
        first_use.check(made, logins, KEYRING)
        first_use.check(made, orders, WRONG)
    assert keys_known(made) == [
        ("public.orders", "public.orders", "k1"),
        ("public.user_logins", "public.user_logins", "k1"),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"job__name": "a"}, {"job__name": "b"}),
        ({"job__name": "a"}, {"job__name": "a", "table__name": "other"}),
        ({}, {"job__name": "b"}),
        ({}, {"job__name": "public.user_logins", "table__schema": "other"}),
    ],
)
def test_jobs_that_share_a_table_or_a_name_must_have_the_same_keys(
    made: sa.Engine,
    settings: Callable[..., config.Settings],
    first: dict[str, str],
    second: dict[str, str],
) -> None:
    """With the same key each of them is recorded."""
    one, other = settings(**first), settings(**second)
    remember(made, one, KEYRING)
    for keyring in WRONG_KEYRINGS.values():
        with pytest.raises(KeyringError, match=f"job '{one.job_name}'"):
            first_use.check(made, other, keyring)
        with pytest.raises(KeyringError, match=f"table '{one.table.full_name}'"):
            remember(made, other, keyring)
    assert len(keys_known(made)) == 1
    remember(made, other, KEYRING)
    assert len(keys_known(made)) == 2


def test_a_rotated_keyring_is_recorded_key_by_key(
    made: sa.Engine, settings: Callable[..., config.Settings]
) -> None:
    """Also one without an old key, or with a key that was unknown until now."""
    rotated = KEYRING.with_new("k2")
    only_new = Keyring("k2", {"k2": rotated.key("k2")})
    for keyring in (KEYRING, rotated, only_new, rotated.with_new("k3"), KEYRING):
        remember(made, settings(), keyring)
    assert [key_id for _, _, key_id in keys_known(made)] == ["k1", "k2", "k3"]
    with pytest.raises(KeyringError, match="key 'k2'"):
        remember(made, settings(), KEYRING.with_new("k2"))


def test_a_keyring_that_replaces_another_is_reported(
    made: sa.Engine,
    settings: Callable[..., config.Settings],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has an id of its own, so nothing contradicts it; a rotated keyring is no news."""
    remember(made, settings(), KEYRING)
    remember(made, settings(), KEYRING.with_new())
    assert caplog.text == ""
    fresh = Keyring.new()
    remember(made, settings(), fresh)
    assert "has none of the keys that were used for table 'public.user_logins'" in caplog.text
    caplog.clear()
    remember(made, settings(), fresh)
    assert caplog.text == ""


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b")])
@pytest.mark.parametrize("keyrings", [(KEYRING, WRONG), (KEYRING, KEYRING)])
def test_of_first_starts_at_the_same_time_one_key_wins(
    made: sa.Engine,
    settings: Callable[..., config.Settings],
    names: tuple[str, str],
    keyrings: tuple[Keyring, Keyring],
) -> None:
    """The others are refused if their key is another, and otherwise none is."""
    outcomes: list[str] = []
    starts = threading.Barrier(6)
    engine = sa.create_engine(made.url, pool_size=6)

    def start(number: int) -> None:
        starts.wait()
        try:
            remember(engine, settings(job__name=names[number % 2]), keyrings[number % 2])
        except KeyringError:
            outcomes.append("refused")
        else:
            outcomes.append("recorded")

    threads = [threading.Thread(target=start, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    refused = 3 if keyrings == (KEYRING, WRONG) else 0
    assert sorted(outcomes) == ["recorded"] * (6 - refused) + ["refused"] * refused
    with made.connect() as connection:
        values = connection.execute(sa.text("select distinct check_value from etl.key_checks"))
        assert len(values.all()) == 1


def test_nothing_is_recorded_for_a_run_that_cannot_be_entered(
    made: sa.Engine, settings: Callable[..., config.Settings]
) -> None:
    """Both are one transaction, so a keyring that never masked a value binds nobody."""
    run = Run("00000000-0000-4000-8000-000000000001", "hash")
    with made.begin() as connection:
        connection.execute(sa.text("alter table etl.runs add check (host is null)"))
    job = settings()
    with pytest.raises(RowRefused):
        run.start(made, job, lambda connection: first_use.record(connection, job, WRONG))
    assert keys_known(made) == []


STORING = ["run --idle-seconds 1", "quarantine replay --all", "quarantine import {file}", "rekey"]


@pytest.mark.parametrize("text", CALLS)
def test_commands_that_store_what_a_key_made_record_its_first_use(
    loaded: tuple[Job, dict[str, str]], invoke: Callable[..., Result], text: str
) -> None:
    """Those that only look leave nothing behind, not even for a key that is new."""
    job, places = loaded
    if "--yes" in text or "--workers" in text:
        return
    before = keys_known(job.engine)
    key_id = Keyring.new().primary
    done = invoke(text, ETL_KEYRING=KEYRING.with_new(key_id).with_primary("k1").dump())
    Path(places["new"]).unlink(missing_ok=True)
    assert done.exit_code == 0, done.output
    known = {key for _, _, key in keys_known(job.engine)} - {key for _, _, key in before}
    assert known == ({key_id} if text in STORING else set())


def forget_first_uses(engine: sa.Engine) -> None:
    """Make the database one of an earlier version."""
    with engine.begin() as connection:
        connection.execute(sa.text("drop table etl.key_checks, etl.masked_columns"))


@pytest.fixture
def earlier(sqs: EmbeddedSqs, postgres: EmbeddedPostgres) -> Iterator[Job]:
    """A database of an earlier version, with a row and an entry of the quarantine."""
    with new_job(sqs, postgres) as job:
        job.send(event(), "{")
        job.run()
        forget_first_uses(job.engine)
        yield job


def test_a_key_is_tested_on_what_an_earlier_version_stored(earlier: Job) -> None:
    """So the first keyring that comes is not recorded, whatever is in it."""
    earlier.send(event())
    wrong = {"ETL_KEYRING": WRONG.dump()}
    for command in (["rows", "::1", "--column", "ip"], ["run"], ["run", "--dry-run"], ["rekey"]):
        done = earlier.command(*command, **wrong)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert "key 'k1' of this keyring opens nothing of what is stored" in done.stderr
        assert "restore the copy of the keyring" in done.stderr
    assert earlier.run()["loaded"] == 1
    assert keys_known(earlier.engine) == [("public.user_logins", "public.user_logins", "k1")]


@pytest.mark.parametrize("what", ["user_logins", "etl.quarantine"])
def test_a_key_is_tested_on_whatever_there_is(
    earlier: Job, settings: Callable[..., config.Settings], what: str
) -> None:
    """On tokens without bodies, and on bodies without tokens."""
    other = "user_logins" if what == "etl.quarantine" else "etl.quarantine"
    with earlier.engine.begin() as connection:
        connection.execute(sa.text(f"delete from {other}"))
    first_use.check(earlier.engine, settings(), KEYRING)
    first_use.check(earlier.engine, settings(), KEYRING.with_new())
    for keyring in WRONG_KEYRINGS.values():
        with pytest.raises(KeyringError, match=r"'k1' .* opens nothing"):
            first_use.check(earlier.engine, settings(), keyring)


def test_one_token_that_opens_proves_the_key(
    earlier: Job, settings: Callable[..., config.Settings]
) -> None:
    """A token that somebody changed, and a value that is none, do not stop the job."""
    with earlier.engine.begin() as connection:
        for number in range(5):
            connection.execute(
                sa.text("insert into user_logins (masked_ip) values (:a), (:b), ('k1.x')"),
                {"a": f"k1.{number}{'A' * 42}", "b": f"k1.{number}{'A' * 43}"},
            )
        connection.execute(sa.text("insert into user_logins (masked_device_id) values ('plain')"))
    remember_after_init(earlier, settings(), KEYRING)


def remember_after_init(job: Job, settings: config.Settings, keyring: Keyring) -> None:
    """Bring the tables up to date and record a first use."""
    create_tables(job.engine, settings.table)
    remember(job.engine, settings, keyring)


def other_columns(name: str, **changes: Any) -> list[dict[str, Any]]:
    """The columns of config.yaml with changes of one of them."""
    return columns(**{name: changes})


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"name": "masked_ip", "field": "ip_address"}, IP % "ip_address"),
        ({"name": "masked_ip", "context": "address"}, "mask: true, context: ip}"),
        ({"name": "masked_device_id", "context": "ip"}, "mask: true, context: device_id}"),
        ({"name": "masked_device_id", "field": "device"}, "mask: true, context: device_id}"),
    ],
)
def test_a_context_is_tested_on_what_an_earlier_version_stored(
    earlier: Job, settings: Callable[..., config.Settings], changes: dict[str, Any], part: str
) -> None:
    """The error shows the line to write, if a name that is at hand was the context."""
    other = settings(table__columns=other_columns(changes.pop("name"), **changes))
    create_tables(earlier.engine, other.table)
    for check in (first_use.check, remember):
        with pytest.raises(SettingsError) as caught:
            check(earlier.engine, other, KEYRING)
        assert part in str(caught.value)
    assert keys_known(earlier.engine) == []


def test_a_context_that_cannot_be_guessed_is_refused_too(
    earlier: Job, settings: Callable[..., config.Settings]
) -> None:
    """The error says what to look for."""
    with earlier.engine.begin() as connection:
        token = tokens(["198.51.100.7"], KEYRING, "an earlier name")[0]
        connection.execute(sa.text("update user_logins set masked_ip = :t"), {"t": token})
    with pytest.raises(SettingsError, match="'masked_ip' holds tokens of another context"):
        first_use.check(earlier.engine, settings(), KEYRING)
    named = settings(table__columns=other_columns("masked_ip", context="an earlier name"))
    remember_after_init(earlier, named, KEYRING)


def as_loader(job: Job, superuser_url: str) -> str:
    """The address of the job's database as the role etl_loader."""
    url = sa.make_url(superuser_url).set(
        database=sa.make_url(job.environment["DATABASE_URL"]).database
    )
    return f"{url.render_as_string(hide_password=False)}?options=-c%20role%3Detl_loader"


def test_a_loader_that_may_not_read_the_table_records_and_says_so(
    earlier: Job, postgres: EmbeddedPostgres
) -> None:
    """Only on a database that was used before; the check value protects it from then on."""
    loader = as_loader(earlier, postgres.superuser_url)
    owner = loader.partition("?")[0]
    assert earlier.command("init", "--roles", DATABASE_URL=owner).returncode == 0
    first = earlier.command("run", "--idle-seconds", "1", DATABASE_URL=loader)
    assert first.returncode == 0, first.stderr
    assert "recorded without a test on stored tokens" in first.stderr
    second = earlier.command("run", "--idle-seconds", "1", DATABASE_URL=loader)
    assert (second.returncode, "without a test" in second.stderr) == (0, False)
    wrong = earlier.command("run", DATABASE_URL=loader, ETL_KEYRING=WRONG.dump())
    assert wrong.returncode == 2
    assert "is not the key that job" in wrong.stderr


RENAMED = {
    "the column": ("rename masked_ip to address", {"name": "address"}, {}),
    "the table": ("rename to logins", {}, {"ETL_TABLE__NAME": "logins"}),
}


@pytest.mark.parametrize(("change", "column", "more"), RENAMED.values(), ids=RENAMED)
def test_a_loader_says_so_too_when_a_masked_column_is_not_known_by_its_name(
    sqs: EmbeddedSqs,
    postgres: EmbeddedPostgres,
    change: str,
    column: dict[str, str],
    more: dict[str, str],
) -> None:
    """It may be a known one under a new name, and nothing shows which context it had."""
    with new_job(sqs, postgres) as job:
        job.send(event())
        job.run()
        with job.engine.begin() as connection:
            connection.execute(sa.text(f"alter table user_logins {change}"))
        renamed = columns(masked_ip={"field": "ip_address", **column})
        job.environment |= {
            "ETL_TABLE__COLUMNS": yaml.safe_dump(renamed),
            "ETL_JOB__NAME": "public.user_logins",
            **more,
        }
        loader = as_loader(job, postgres.superuser_url)
        roles = job.command("init", "--roles", DATABASE_URL=loader.partition("?")[0])
        assert roles.returncode == 0, roles.stderr
        for is_first in (True, False):
            done = job.command("run", "--idle-seconds", "1", DATABASE_URL=loader)
            assert done.returncode == 0, done.stderr
            assert ("recorded without a test on stored tokens" in done.stderr) == is_first


@pytest.mark.parametrize("right", ["select", "insert"])
def test_a_role_without_the_rights_is_told_what_to_grant(
    earlier: Job, postgres: EmbeddedPostgres, right: str
) -> None:
    """A role that an earlier version created lacks them; nothing was received then."""
    loader = as_loader(earlier, postgres.superuser_url)
    owner = loader.partition("?")[0]
    assert earlier.command("init", "--roles", DATABASE_URL=owner).returncode == 0
    superuser = sa.create_engine(driver_url(owner))
    with superuser.begin() as connection:
        connection.execute(sa.text(f"revoke {right} on etl.key_checks from etl_loader"))
    superuser.dispose()
    earlier.send(event())
    done = earlier.command("run", DATABASE_URL=loader)
    assert (done.returncode, done.stdout) == (2, "")
    granted = "grant select, insert on etl.key_checks, etl.masked_columns, etl.dropped_fields"
    assert f'{granted} to "etl_loader"' in done.stderr
    assert earlier.left() == 1


@pytest.mark.parametrize("url", ["", "postgresql://nobody@127.0.0.1:1/none", "existing"])
@pytest.mark.parametrize(
    "command", [["token", "198.51.100.7", "--column", "ip"], ["run", "--dry-run", "--json"]]
)
def test_a_command_that_needs_no_database_works_without_it(
    job: Job, url: str, command: list[str]
) -> None:
    """Also with one that has none of the tables; what could not be compared is a warning."""
    job.send(event())
    more = {} if url == "existing" else {"DATABASE_URL": url}
    done = job.command(*command, ETL_RUN__IDLE_SECONDS="1", **more)
    assert done.returncode == 0, done.stderr
    assert ("were not compared with the database" in done.stderr) == url.startswith("postgresql")


def test_a_worker_compares_the_keyring_that_it_has_loaded_itself(
    made: sa.Engine, settings: Callable[..., config.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the start of the run and its own, the file may have been replaced."""
    monkeypatch.setattr(worker, "tune_interpreter", lambda: None)  # for the whole process
    these = settings()
    run = Run("00000000-0000-4000-8000-000000000001", these.config_hash)
    stop = Stop()
    prepare_database(these, made, KEYRING, run, stop)
    ready = Ready(WRONG, Queue(lambda _name: None, ""), QueueState(30, 0, 0))
    monkeypatch.setattr(worker, "check_keys_and_queue", lambda *_: ready)
    with pytest.raises(KeyringError, match="is not the key that job"):
        worker.work_in_own_process(
            these, Share(run), open_quota(None), stop, lambda *_: nullcontext(), environment={}
        )
