"""What ``etl.runs`` keeps of a run: why it ended, failed checks, unknown fields, signs of life."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from etl import config
from etl import job as job_module
from etl.analysis.history import KILLED, RUNNING, RunRecord, read_run
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import DatabaseRefused
from etl.operations import replay
from etl.operations.entries import Selection
from etl.operations.run_ids import find_run
from etl.postgres import sign_of_life
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine
from etl.postgres.findings import Findings
from etl.postgres.sign_of_life import give_sign_of_life, signs_of_life
from etl.runs import Counts, Run
from etl.sqs.limits import Stop
from tests.conftest import ROOT, Job
from tests.integration.waiting import wait_until
from tests.unit.builders import event

TAKES_ALL = {"ETL_QUARANTINE__MAX_FRACTION": "1"}


def record(job: Job, columns: str) -> Any:
    """The columns of the only run."""
    (row,) = job.rows(f"select {columns} from etl.runs")
    return row


def failed(column: str, check: str, messages: int, released: int = 0) -> dict[str, Any]:
    """A failed check as it is stored."""
    return {"column": column, "check": check, "messages": messages, "released": released}


def test_a_run_keeps_its_failed_checks_and_its_exit_code(job: Job) -> None:
    """The most frequent comes first; nothing is the problem."""
    job.send(event(ip="canary"), event(ip="canary"), "{", event())
    job.run(**TAKES_ALL)
    checks, problem, exit_code = record(job, "failed_checks, problem, exit_code")
    assert checks == [failed("ip", "IP address", 2), failed("message", "JSON", 1)]
    assert (problem, exit_code) == (None, 0)


def test_a_budget_stop_keeps_its_sentence_and_what_was_released(job: Job) -> None:
    """The batch is not in the quarantine, but its failed checks are known."""
    job.send(*[event(ip="canary")] * 3, *["{"] * 2)
    summary = job.run(code=3, ETL_QUARANTINE__MIN_MESSAGES="1", ETL_QUARANTINE__MAX_FRACTION="0.01")
    checks, problem, exit_code = record(job, "failed_checks, problem, exit_code")
    assert checks == [failed("ip", "IP address", 3, 3), failed("message", "JSON", 2, 2)]
    assert (problem, exit_code) == (summary["problem"], 3)
    assert "canary" not in json.dumps(checks) + problem


def test_several_workers_add_to_one_record(job: Job) -> None:
    """Each adds what its own batches had."""
    job.send(*[event(ip="canary", extra=1)] * 40)
    job.run("--workers", "2", ETL_BATCH__ROWS="10", **TAKES_ALL)
    checks, unknown = record(job, "failed_checks, unknown_fields")
    assert checks == [failed("ip", "IP address", 40)]
    assert sum(field["messages"] for field in unknown) == 40


def test_a_run_keeps_the_names_of_fields_that_no_column_reads(job: Job) -> None:
    """A name that only one message has may be personal, so it is counted without its name."""
    bodies = [event(ip_address="canary") for _ in range(6)]
    job.send(*bodies, event(canary=1), event(**{"canary@example.com": 1}))
    job.run(**TAKES_ALL)
    (unknown,) = record(job, "unknown_fields")
    assert unknown == [{"name": "ip_address", "messages": 6}, {"name": None, "messages": 2}]


def test_the_batches_of_a_run_add_to_its_notes(job: Job) -> None:
    """The most frequent comes first."""
    settings = config.load(ROOT / "config.yaml", job.environment)
    create_tables(job.engine, settings.table)
    run = Run(str(uuid.uuid4()), "hash")
    run.start(job.engine, settings)
    for number in (1, 2):
        notes = Counter({("ip", "max"): 1, ("locale", "in"): number})
        with job.engine.begin() as connection:
            run.add(connection, Counts(), Findings(notes=notes))
    assert record(job, "notes")[0] == read(job).notes
    assert read(job).notes == [
        {"column": "locale", "note": "in", "messages": 3},
        {"column": "ip", "note": "max", "messages": 2},
    ]


def read(job: Job, **changes: Any) -> RunRecord:
    """The record of the only run."""
    ((run_id,),) = job.rows("select cast(run_id as text) from etl.runs")
    return read_run(job.engine, run_id, **changes)


def loaded_rows(job: Job) -> int:
    """Rows that runs have committed so far."""
    try:
        return int(job.rows("select coalesce(sum(loaded), 0) from etl.runs")[0][0])
    except sa.exc.ProgrammingError:
        return 0  # the run has not created the table yet


def test_a_killed_run_shows_what_it_did_and_that_it_is_gone(job: Job) -> None:
    """It keeps the failed checks of its batches, and looks alive for a while."""
    job.send(event(ip="canary"), event(), event())
    process = job.start("run", "--forever", **TAKES_ALL)
    try:
        assert wait_until(lambda: loaded_rows(job) == 2)
        assert read(job).state == RUNNING
    finally:
        process.kill()
        process.communicate()
    assert read(job).state == RUNNING
    gone = read(job, gone_seconds=0)
    assert (gone.state, gone.finished_at, gone.open_entries) == (KILLED, None, 1)
    assert gone.failed_checks == [failed("ip", "IP address", 1)]
    with job.engine.begin() as connection:
        connection.execute(sa.text("update etl.runs set seen_at = now() - interval '1 hour'"))
    page = job.command("history", gone.run_id[:6])
    assert page.returncode == 0, page.stderr
    assert "1 h 0 min ago)" in page.stdout
    assert "killed?" in job.command("history").stdout
    assert "its messages come back after the queue's visibility timeout" in page.stdout
    assert f"etl quarantine list --run {gone.run_id}" in page.stdout
    as_json = json.loads(job.command("history", gone.run_id[:6], "--json").stdout)
    assert (as_json["state"], as_json["quarantine"]) == (KILLED, {"open": 1})
    assert [step["command"] for step in as_json["next"]][1] == "etl run"


def test_a_run_is_found_by_the_beginning_of_its_id(job: Job) -> None:
    """If several begin so, the error lists them; if none does, it says where to look."""
    ids = [f"3d7c{number}f5e-8f9a-4b6e-9a54-2d5a0c1b7e11" for number in range(2)]
    create_tables(job.engine, config.load(ROOT / "config.yaml", job.environment).table)
    with job.engine.begin() as connection:
        for run_id in ids:
            connection.execute(
                sa.text(
                    "insert into etl.runs (run_id, job, version, config_hash, host) "
                    "values (:run_id, 'public.user_logins', '1', '', '')"
                ),
                {"run_id": run_id},
            )
    assert find_run(job.engine, "3D7C1") == ids[1]
    assert find_run(job.engine, ids[0]) == ids[0]
    done = job.command("history", "3d7c")
    assert done.returncode == 2
    assert "2 runs have an id that begins with '3d7c'" in done.stderr
    assert all(run_id in done.stderr for run_id in ids)
    for unknown in ("4", "latest", "%", str(uuid.UUID("4" * 32))):
        done = job.command("history", unknown)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"{unknown!r}" in done.stderr
        assert "etl history" in done.stderr


def test_a_run_of_an_earlier_version_shows_what_is_known(job: Job) -> None:
    """Its failed checks are those of the quarantine, and it has no sign of life."""
    job.send(event(ip="canary"), event())
    job.run(**TAKES_ALL)
    with job.engine.begin() as connection:
        connection.execute(
            sa.text(
                "update etl.runs set finished_at = null, stop_reason = null, exit_code = null, "
                "seen_at = null, failed_checks = '[]'"
            )
        )
    earlier = read(job)
    assert (earlier.state, earlier.exit_code, earlier.seconds) == (KILLED, None, None)
    assert earlier.failed_checks == [failed("ip", "IP address", 1)]
    page = job.command("history", earlier.run_id)
    assert "killed? (no sign of life: of an earlier version)" in page.stdout


@pytest.mark.parametrize("creates", ["true", "false"])
def test_a_role_that_may_not_add_the_columns_is_told(
    job: Job, postgres: EmbeddedPostgres, creates: str
) -> None:
    """The run receives nothing, and names the table and who can update it."""
    superuser = sa.make_url(postgres.superuser_url).set(database=job.engine.url.database)
    owner = superuser.render_as_string(hide_password=False)
    assert job.command("init", "--roles", DATABASE_URL=owner).returncode == 0
    with sa.create_engine(driver_url(owner)).begin() as connection:
        connection.execute(sa.text("alter table etl.runs drop column empty_messages"))
    job.send(event())
    loader = superuser.update_query_dict({"options": "-c role=etl_loader"})
    done = job.command(
        "run",
        *job.arguments,
        DATABASE_URL=loader.render_as_string(hide_password=False),
        ETL_DATABASE__CREATE_TABLES=creates,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "table 'etl.runs'" in done.stderr
    assert "etl init" in done.stderr
    assert job.left() == 1


def test_whoever_may_not_read_the_quarantine_sees_the_rest(
    job: Job, postgres: EmbeddedPostgres
) -> None:
    """An analyst sees all of a run but what became of its entries."""
    superuser = sa.make_url(postgres.superuser_url).set(database=job.engine.url.database)
    owner = superuser.render_as_string(hide_password=False)
    assert job.command("init", "--roles", DATABASE_URL=owner).returncode == 0
    job.send("{", event())
    job.run(**TAKES_ALL, DATABASE_URL=owner)
    analyst = superuser.update_query_dict({"options": "-c role=etl_analyst"})
    url = analyst.render_as_string(hide_password=False)
    (row,) = map(json.loads, job.command("history", "--json", DATABASE_URL=url).stdout.splitlines())
    page = job.command("history", row["run_id"], "--json", DATABASE_URL=url)
    assert page.returncode == 0, page.stderr
    shown = json.loads(page.stdout)
    assert (shown["quarantine"], shown["quarantined"]) == (None, 1)
    assert shown["failed_checks"] == [failed("message", "JSON", 1)]


def test_a_replay_that_fails_keeps_its_sentence(
    job: Job,
    settings: Callable[..., Settings],
    keyring: Keyring,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has ended, and does not look as if it had been killed."""
    job.send("{")
    job.run(**TAKES_ALL)

    def refused(*_: Any) -> None:
        raise DatabaseRefused("no right")

    monkeypatch.setattr(replay, "_replay_pages", refused)
    with pytest.raises(DatabaseRefused):
        replay.replay(settings(), job.engine, keyring, Selection())
    columns = "finished_at is not null, stop_reason, problem, exit_code"
    (row,) = job.rows(f"select {columns} from etl.runs where command = 'replay'")
    assert row == (True, "database refused", "no right", 1)


@contextmanager
def entered_run(settings: Settings, engine: sa.Engine) -> Iterator[str]:
    """Enter a run that does nothing; yield its id."""
    create_tables(engine, settings.table)
    run = Run(str(uuid.uuid4()), "hash")
    run.start(engine, settings)
    yield run.run_id


def seen_at(engine: sa.Engine, run_id: str) -> Any:
    """When a run was last seen."""
    return read_run(engine, run_id).seen_at


def test_a_run_gives_signs_of_life(settings: Callable[..., Settings], engine: sa.Engine) -> None:
    """By the server's clock, again and again, and not for runs of others."""
    with (
        entered_run(settings(), engine) as run_id,
        signs_of_life(settings().database, run_id, 0.02),
    ):
        first = seen_at(engine, run_id)
        assert wait_until(lambda: seen_at(engine, run_id) > first)
        second = seen_at(engine, run_id)
        assert wait_until(lambda: seen_at(engine, run_id) > second)


def test_a_sign_of_life_waits_for_no_batch(
    settings: Callable[..., Settings], engine: sa.Engine
) -> None:
    """A batch that has added its counts holds the row until its commit."""
    with entered_run(settings(), engine) as run_id:
        before = seen_at(engine, run_id)
        with engine.begin() as batch:
            batch.execute(sa.text("update etl.runs set loaded = 1"))
            other = open_engine(settings().database)
            give_sign_of_life(other, run_id)
            assert seen_at(engine, run_id) == before
        give_sign_of_life(other, run_id)
        other.dispose()
        assert seen_at(engine, run_id) > before


def test_a_run_that_waits_for_messages_gives_signs_of_life(
    settings: Callable[..., Settings],
    environment: dict[str, str],
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From its start to its end."""
    create_tables(engine, settings().table)
    monkeypatch.setattr(job_module, "signs_of_life", partial(signs_of_life, every_seconds=0.02))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)  # boto3 reads its own
    stop = Stop()
    alive = sa.text("select count(*) from etl.runs where seen_at > started_at")

    def is_alive() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(alive).scalar())

    with ThreadPoolExecutor() as pool:
        running = pool.submit(job_module.run, settings(run__forever=True), environment, stop=stop)
        try:
            assert wait_until(lambda: running.done() or is_alive())
            assert not running.done()
        finally:
            stop.request("SIGTERM", release_rest=True)
        assert running.result().exit_code == 0


def test_a_sign_of_life_that_must_wait_is_given_up(
    settings: Callable[..., Settings],
    engine: sa.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In silence; the next one comes as if nothing had happened."""
    monkeypatch.setattr(sign_of_life, "LOCK_SECONDS", 0.2)
    with entered_run(settings(), engine) as run_id:
        before = seen_at(engine, run_id)
        waiting = sa.text(
            "select count(*) from pg_stat_activity "
            "where wait_event_type = 'Lock' and datname = current_database()"
        )

        def are_waiting(count: int) -> bool:
            with engine.connect() as connection:
                return bool(connection.execute(waiting).scalar_one() == count)

        caplog.set_level("INFO")
        with signs_of_life(settings().database, run_id, 0.02):
            with engine.begin() as lock:
                lock.execute(sa.text("lock table etl.runs in access exclusive mode"))
                for count in (1, 0, 1):
                    assert wait_until(partial(are_waiting, count))
            assert wait_until(lambda: seen_at(engine, run_id) > before)
    assert caplog.records == []


def test_signs_of_life_that_cannot_be_given_are_left_out(
    settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a database there is no warning, no error and no long wait."""
    caplog.set_level("INFO")
    nowhere = SecretStr("postgresql://etl@127.0.0.1:1/etl")
    database = settings().database.model_copy(update={"url": nowhere})
    began = time.monotonic()
    with signs_of_life(database, str(uuid.uuid4()), 0.01):
        time.sleep(0.2)
    assert time.monotonic() - began < 30
    assert caplog.records == []
