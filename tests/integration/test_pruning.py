"""Old ids leave the ledger in small committed pieces, and a failure to remove them is a warning."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from etl import ledger
from etl.config import Settings
from etl.postgres.creation import create_tables
from etl.postgres.queries import queries
from etl.version import __version__
from tests.conftest import Job
from tests.integration.waiting import wait_until

GOOD = json.dumps(
    {
        "user_id": "u",
        "app_version": "2.3.0",
        "device_type": "android",
        "ip": "198.51.100.7",
        "locale": "RU",
        "device_id": "593-47-5928",
    }
)
RETENTION_DAYS = 35
ADD_IDS = """
    insert into etl.ledger (message_id, run_id, batch, handled_at)
    select :prefix || i, gen_random_uuid(), 1, now() - make_interval(days => :days, secs => i)
    from generate_series(1, :ids) as i
"""


def add_ids(engine: sa.Engine, prefix: str, *, days: int, ids: int) -> None:
    """Enter ids that were handled *days* ago."""
    with engine.begin() as connection:
        connection.execute(sa.text(ADD_IDS), {"prefix": prefix, "days": days, "ids": ids})


def ids_left(engine: sa.Engine) -> set[str]:
    """Return all ids in the ledger."""
    with engine.connect() as connection:
        return set(connection.execute(sa.text("select message_id from etl.ledger")).scalars())


@pytest.fixture
def pruner(settings: Callable[..., Settings], engine: sa.Engine) -> ledger.Pruner:
    """Return a pruner of a database that has the tables."""
    made = settings()
    create_tables(engine, made.table, made.job_name)
    return ledger.Pruner(engine, made.job_name, RETENTION_DAYS)


def test_old_ids_are_removed(pruner: ledger.Pruner, engine: sa.Engine) -> None:
    """Only ids above the retention are removed, and no more than the limit."""
    add_ids(engine, "old", days=36, ids=5)
    add_ids(engine, "new", days=34, ids=2)
    assert pruner.remove_some(3)
    assert len(ids_left(engine)) == 4
    assert not pruner.remove_some(3)
    assert ids_left(engine) == {"new1", "new2"}


def test_an_interrupted_pruning_keeps_what_it_has_done(
    pruner: ledger.Pruner, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece is committed by itself."""
    monkeypatch.setattr(ledger, "PRUNE_ROWS", 10)
    add_ids(engine, "old", days=40, ids=25)
    pruner.remove_all(lambda: pruner.removed >= 20)
    assert len(ids_left(engine)) == 5


def test_pruning_does_not_read_the_new_ids(pruner: ledger.Pruner, engine: sa.Engine) -> None:
    """That holds when new ids have taken the place of removed ones, block by block."""
    add_ids(engine, "old", days=40, ids=20_000)
    with engine.begin() as connection:
        # Every other id is new, so that each block holds both.
        connection.exec_driver_sql(
            "update etl.ledger set handled_at = now() where right(message_id, 1) in ('1', '3', '5')"
        )
    pruner.remove_all(lambda: False)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("vacuum analyze etl.ledger")
    add_ids(engine, "next", days=1, ids=20_000)
    add_ids(engine, "late", days=36, ids=50)
    with engine.begin() as connection:
        blocks = connection.exec_driver_sql(
            "select pg_relation_size('etl.ledger') / current_setting('block_size')::int"
        ).scalar_one()
        explain = sa.text(f"explain (analyze, buffers, format json) {queries()['prune_ledger']}")
        parameters = {"job": "public.user_logins", "retention_days": RETENTION_DAYS, "limit": 1000}
        (plan,) = connection.execute(explain, parameters).scalar_one()
        (find,) = [part for part in plan["Plan"]["Plans"] if part.get("Subplan Name")]
    assert blocks > 200
    assert find["Shared Hit Blocks"] + find["Shared Read Blocks"] < blocks / 4


def test_a_run_removes_old_ids_between_its_batches(job: Job) -> None:
    """A run that never ends by itself does so too: the ledger must not grow until it is stopped."""
    assert job.command("init").returncode == 0
    add_ids(job.engine, "old", days=40, ids=100)
    ids = job.send(*[GOOD] * 20)
    process = job.start("run", "--forever", ETL_BATCH__ROWS="10", ETL_BATCH__SECONDS="1")
    try:
        assert wait_until(lambda: len(ids_left(job.engine)) == 100 - 2 * 20 + 20)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    # The stop itself removes nothing more: the time until a SIGKILL may be short.
    left = ids_left(job.engine)
    assert left.issuperset(ids)
    assert len(left) == 80


def test_a_run_removes_all_old_ids_at_its_end(job: Job) -> None:
    """A nightly run handles fewer messages than the ids that have become too old may be."""
    assert job.command("init").returncode == 0
    add_ids(job.engine, "old", days=40, ids=15_000)
    summary = job.run()
    assert summary["stop_reason"] == "idle"
    assert ids_left(job.engine) == set()


@pytest.mark.parametrize(
    "fault",
    [
        "create function refuse() returns trigger language plpgsql as "
        "$$ begin raise exception using errcode = '{code}'; end $$; "
        "create trigger refuse before delete on etl.ledger execute function refuse()".replace(
            "{code}", code
        )
        for code in ("57014", "42501", "23503", "40P01", "P0001")
    ],
)
def test_a_failed_pruning_is_a_warning(job: Job, fault: str) -> None:
    """The run has done its work, so it ends with 0 and its row in etl.runs is complete."""
    assert job.command("init").returncode == 0
    add_ids(job.engine, "old", days=40, ids=3)
    with job.engine.begin() as connection:
        connection.exec_driver_sql(fault)
    job.send(GOOD)
    completed = job.command("run", *job.arguments)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout)["loaded"] == 1
    assert completed.stderr.count("could not remove ids") == 2  # between batches, and at the end
    assert "Traceback" not in completed.stderr
    finished = "select stop_reason, version from etl.runs where finished_at is not null"
    assert job.rows(finished) == [("idle", __version__)]
