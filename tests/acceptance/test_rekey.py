"""Rekey loses no value, though it is killed at every point and runs beside loads and rekeys."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg2
import pytest

from etl import config
from etl.analysis.key_usage import quarantine_usage
from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal, unseal_each
from etl.mask import tokens, unmask_tokens
from etl.operations.rekey import MAX_BATCHES_AT_ONCE, RekeyResult, rekey_database
from etl.postgres.engine import open_engine
from tests.acceptance.job_processes import (
    ended,
    expected_users,
    held_sessions,
    killed,
    ledger_locked,
    logins,
    make_tables,
    running,
    until,
    users,
)
from tests.conftest import KEYRING, ROOT, Job

pytestmark = pytest.mark.long

SECOND = KEYRING.with_new("k2")
THIRD = SECOND.with_new("k3")

ROWS, ENTRIES = 3000, 30
IPS = [None if at % 7 == 0 else f"10.0.{at % 9}.{at % 250}" for at in range(ROWS)]
DEVICES = [f"device {at % 40}" * (1 + at % 3) for at in range(ROWS)]
BODIES = [f"body {at}" for at in range(ENTRIES)]

# Like `python -m etl`, but with batches of one block, so that there are many points to kill it at.
SMALL = """
import etl.operations.remask, etl.operations.reseal, etl.cli
etl.operations.remask.BLOCKS, etl.operations.reseal.MAX_ENTRIES = 1, 2
etl.cli.start()
"""


@contextmanager
def rekeying(job: Job, keyring: Keyring) -> Iterator[subprocess.Popen[str]]:
    """Start a rekey of small batches, which is killed if it outlives the block."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SMALL, "rekey", "--json"],
        env={**job.environment, "ETL_KEYRING": keyring.dump()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def to_the_end(job: Job, keyring: Keyring) -> RekeyResult:
    """Rekey in this process."""
    settings = config.load(ROOT / "config.yaml", job.environment)
    engine = open_engine(settings.database, MAX_BATCHES_AT_ONCE)
    try:
        return rekey_database(settings, engine, keyring)
    finally:
        engine.dispose()


@pytest.fixture
def filled(job: Job) -> Job:
    """A job whose rows and bodies are all under the first key."""
    make_tables(job)
    rows = zip(
        range(ROWS), tokens(IPS, KEYRING, "ip"), tokens(DEVICES, KEYRING, "device_id"), strict=True
    )
    ids = [f"m{at}" for at in range(ENTRIES)]
    with job.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into user_logins (user_id, masked_ip, masked_device_id) values (%s, %s, %s)",
            list(rows),
        )
        connection.exec_driver_sql(
            "insert into etl.quarantine (job, masked_fields, message_id, run_id, reasons, body) "
            "values ('public.user_logins', '{}', %s, gen_random_uuid(), '[]', %s)",
            list(zip(ids, seal(BODIES, ids, KEYRING), strict=True)),
        )
    return job


def check_values(job: Job, keyring: Keyring) -> None:
    """Check that every row and body is there once and opens to its own value."""
    rows = job.rows(
        "select cast(user_id as integer), masked_ip, masked_device_id from user_logins order by 1"
    )
    assert [row[0] for row in rows] == list(range(ROWS))
    assert unmask_tokens([row[1] for row in rows], keyring, "ip").tolist() == IPS
    assert unmask_tokens([row[2] for row in rows], keyring, "device_id").tolist() == DEVICES
    entries = job.rows("select message_id, body from etl.quarantine order by quarantine_id")
    ids = [message_id for message_id, _ in entries]
    assert unseal_each([bytes(body) for _, body in entries], ids, keyring) == BODIES


def check_done(job: Job, keyring: Keyring) -> None:
    """Check that everything is under the primary key, and equal values have equal tokens."""
    check_values(job, keyring)
    rows = np.array(
        job.rows(
            "select masked_ip, masked_device_id from user_logins order by cast(user_id as integer)"
        ),
        dtype=object,
    )
    assert rows[:, 0].tolist() == tokens(IPS, keyring, "ip").tolist()
    assert rows[:, 1].tolist() == tokens(DEVICES, keyring, "device_id").tolist()
    assert quarantine_usage(job.engine)["key_id"].tolist() == [keyring.primary]


# The statement with which another session makes a rekey wait at each point.
HOLDS = {
    "reading": "lock table user_logins in access exclusive mode",
    "writing": "select from user_logins where user_id = '1500' for update",
    "committing": "select pg_advisory_xact_lock(4)",
    "sealing": "select from etl.quarantine where message_id = 'm15' for update",
}
# Deferred constraints are checked in COMMIT.
AT_COMMIT = """
create function wait() returns trigger language plpgsql
as 'begin perform pg_advisory_xact_lock_shared(4); return null; end';
create constraint trigger wait after update on user_logins
deferrable initially deferred for each row when (old.user_id = '1500') execute function wait()
"""


@pytest.mark.parametrize("point", HOLDS)
def test_a_rekey_killed_at_a_point_is_finished_by_the_next(filled: Job, point: str) -> None:
    """The points are before COPY, before the update, in COMMIT, and among the bodies."""
    with filled.engine.begin() as connection:
        connection.exec_driver_sql(AT_COMMIT)
    holder = psycopg2.connect(filled.environment["DATABASE_URL"])
    try:
        holder.cursor().execute(HOLDS[point])
        with rekeying(filled, SECOND) as process:
            until(lambda: held_sessions(filled))
            killed(process)
    finally:
        holder.close()
    # The server may not have noticed the kill yet, and it finishes a COMMIT that has begun.
    until(lambda: not held_sessions(filled))
    check_values(filled, SECOND)
    outcome = to_the_end(filled, SECOND)
    assert outcome.exit_code == 0
    assert outcome.entries > 0
    check_done(filled, SECOND)


@pytest.mark.long
def test_rows_come_through_three_keys_and_kills_at_any_moment(filled: Job) -> None:
    """Rekey is killed four times on the way to each of two keys, before the first is finished."""
    draw = random.Random(4)
    for keyring, last in ((SECOND, ROWS * 2 // 3), (THIRD, ROWS)):
        for share in sorted(draw.random() for _ in range(4)):
            with rekeying(filled, keyring) as process:
                until(
                    lambda: (
                        rows_of_key(filled, keyring) >= share * last  # noqa: B023
                        or process.poll() is not None
                    )
                )
                killed(process)
            check_values(filled, keyring)
    assert 0 < rows_of_key(filled, THIRD) <= ROWS
    assert to_the_end(filled, THIRD).exit_code == 0
    check_done(filled, THIRD)


def rows_of_key(job: Job, keyring: Keyring) -> int:
    """The number of rows under the primary key."""
    statement = "select count(*) from user_logins where masked_device_id like :start"
    return int(job.rows(statement, start=f"{keyring.primary}.%")[0][0])


def test_two_rekeys_at_once_change_each_row_once(filled: Job) -> None:
    """They meet at every block, and neither undoes, repeats or misses the other's work."""
    with rekeying(filled, SECOND) as first, rekeying(filled, SECOND) as second:
        outcomes = []
        for process in (first, second):
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
            outcomes.append(json.loads(out))
    check_done(filled, SECOND)
    assert sum(outcome["rows"] for outcome in outcomes) == ROWS
    assert sum(outcome["entries"] for outcome in outcomes) == ENTRIES


def test_a_load_with_the_old_keyring_is_neither_held_up_nor_missed(job: Job) -> None:
    """A rekey finishes while the load's transaction is open, and the next one does its rows."""
    make_tables(job)
    job.send(*logins(60)[:30])
    job.run()
    job.send(*logins(60)[30:])
    with ledger_locked(job) as release, running(job) as process:
        until(lambda: held_sessions(job))
        assert to_the_end(job, SECOND).rows == 30
        release()
        assert ended(process)["loaded"] == 30
    assert to_the_end(job, SECOND).rows == 30
    assert users(job) == expected_users(60)
    pairs = job.rows("select distinct masked_ip, masked_device_id from user_logins")
    assert [token[:3] for pair in pairs for token in pair] == ["k2.", "k2."]


def test_loads_and_rekeys_run_beside_each_other(job: Job) -> None:
    """Rekeys run one after another as long as a load with the old keyring runs."""
    make_tables(job)
    job.send(*logins(500))
    outcomes = []
    with running(job, ETL_BATCH__ROWS="20", ETL_LOAD__METHOD="copy") as process:
        while process.poll() is None:
            outcomes.append(to_the_end(job, SECOND))
        assert ended(process)["loaded"] == 500
    outcomes.append(to_the_end(job, SECOND))
    assert outcomes[-1].exit_code == 0
    assert sum(outcome.rows for outcome in outcomes) == 500
    assert users(job) == expected_users(500)
    assert len(job.rows("select distinct masked_ip, masked_device_id from user_logins")) == 1
