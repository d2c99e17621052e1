"""A replay or forget killed between any two statements loses and duplicates nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.mask import tokens
from etl.operations.entries import Selection
from tests.acceptance.job_processes import held_sessions, killed, until
from tests.conftest import ROOT, Job
from tests.integration.test_quarantine import QuarantineDatabase
from tests.unit.builders import event

pytestmark = pytest.mark.long

IP = "192.0.2.7"
GOOD = 6


@pytest.fixture
def database(
    engine: sa.Engine, keyring: Keyring, settings: Callable[..., Settings]
) -> QuarantineDatabase:
    """A database with empty tables, the default settings and a keyring of one key."""
    return QuarantineDatabase(engine, keyring, settings())


def deaths(job: Job, command: str, **more: str) -> list[dict[str, Any]]:
    """Run the command once for each crash point; returns what was in the database after each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.kill_at_each_point", command],
        env={**job.environment, **more},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [state["lived"] for state in seen] == [False] * (len(seen) - 1) + [True]
    return seen


@pytest.mark.long
def test_a_replay_killed_anywhere_loses_and_duplicates_nothing(
    job: Job, database: QuarantineDatabase
) -> None:
    """After each kill every message is in the table once or open; in the end all are loaded."""
    users = [f"u{number}" for number in range(GOOD)]
    database.add(*(event(user_id=user) for user in users), event(user_id="bad", ip="x"), "{")
    # Pages of two entries, so that a kill leaves some committed and some not.
    seen = deaths(job, "replay", ETL_BATCH__BYTES="1024")
    assert len(seen) > 40
    for state in seen:
        replayed = [
            user
            for user, closed_as in zip(users, state["closed_as"], strict=False)
            if closed_as == "replayed"
        ]
        assert state["users"] == replayed
        assert set(state["closed_as"]) <= {"open", "replayed"}
        assert state["closed_as"][GOOD:] == ["open", "open"]
    assert seen[0]["users"] == []
    assert seen[-1]["users"] == users
    assert any(0 < len(state["users"]) < GOOD for state in seen)
    assert database.replay(Selection()).counts.loaded == 0


def test_a_forget_killed_anywhere_has_happened_or_has_not(
    job: Job, database: QuarantineDatabase, keyring: Keyring
) -> None:
    """Rows, entries and audit row change together, and a second forget changes nothing more."""
    token = tokens([IP], keyring, "ip")[0]
    with database.engine.begin() as connection:
        for user in ("a", "b"):
            connection.execute(
                sa.text("insert into user_logins (user_id, masked_ip) values (:user, :token)"),
                {"user": user, "token": token},
            )
        connection.execute(sa.text("insert into user_logins (user_id) values ('other')"))
    database.add(event(ip=f"{IP} "), event(ip="192.0.2.8"), "{" + IP)
    seen = deaths(job, "forget", VALUE=IP)
    before = {"users": ["a", "b", "other"], "closed_as": ["open"] * 3, "audit": 0}
    after = {"users": ["other"], "closed_as": ["forgotten", "open", "forgotten"]}
    assert len(seen) > 15
    done = [state["audit"] > 0 for state in seen]
    assert done == sorted(done)
    for state in seen:
        expected = {**after, "audit": state["audit"]} if state["audit"] else before
        assert {name: state[name] for name in expected} == expected
    assert not done[0]
    assert done[-2]


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        (("quarantine", "replay", "--all"), "etl.ledger"),
        (("quarantine", "discard", "--all", "--reason", "x"), "etl.quarantine"),
        (("forget", IP, "--column", "ip", "--yes"), "etl.unmask_audit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[:2]),
)
def test_a_command_killed_while_it_waits_for_a_lock_has_done_nothing(
    job: Job, database: QuarantineDatabase, keyring: Keyring, arguments: tuple[str, ...], table: str
) -> None:
    """The real command is killed inside its transaction, and the next one does all the work."""
    database.add(event(user_id="a", ip=IP), event(user_id="b", ip=IP))
    with database.engine.connect() as holder:
        holder.exec_driver_sql(f"lock table {table} in share row exclusive mode")
        with job.start(*arguments) as process:
            until(lambda: held_sessions(job))
            killed(process)
    until(lambda: not held_sessions(job))
    assert database.users() == []
    assert database.closed_as() == [None, None]
    done = job.command(*arguments)
    assert done.returncode == 0, done.stderr
    assert None not in database.closed_as()
    assert database.users() == (["a", "b"] if "replay" in arguments else [])
