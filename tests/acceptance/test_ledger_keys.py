"""An event that a producer sends twice is loaded once, where ``ledger.key`` asks for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from etl import ledger
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.embedded.postgres import EmbeddedPostgres
from etl.embedded.sqs import EmbeddedSqs
from etl.job import run
from etl.postgres.engine import transaction
from etl.runs import Summary
from tests.acceptance.job_processes import make_tables, new_job
from tests.acceptance.leak_scan import search, tables
from tests.chaos.proxy import Fault, Proxy, is_commit, via_proxy
from tests.conftest import KEYRING, Job
from tests.unit.builders import event

pytestmark = pytest.mark.long

KEYS = ("field:login_id", "body")
MODES = pytest.mark.parametrize("key", KEYS)
COUNT = 40
PARTS = ("received", "loaded", "already_handled", "quarantined", "released")

Drain = Callable[..., Summary]


@pytest.fixture
def drain(
    job: Job,
    settings: Callable[..., Settings],
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Drain]:
    """A function that runs the job in this process, by default with one batch for all messages."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    make_tables(job)

    def run_with_key(key: str, keyring: Keyring = KEYRING, **changes: Any) -> Summary:
        run_settings = settings(**{"ledger__key": key, "run__idle_seconds": 1, **changes})
        return run(run_settings, {**environment, "ETL_KEYRING": keyring.dump()})

    yield run_with_key


def logins(count: int = COUNT) -> list[str]:
    """Make good events, each with a business id."""
    return [event(user_id=f"user {n}", login_id=f"login {n}") for n in range(count)]


def parts(summary: Summary) -> dict[str, int]:
    """The counts that are not zero."""
    assert summary.exit_code == 0, summary.problem
    return {name: n for name in PARTS if (n := getattr(summary.counts, name))}


def loaded(job: Job) -> list[Any]:
    """The number of rows, and of distinct users in them."""
    return job.rows("select count(*), count(distinct user_id) from user_logins")


def test_by_default_an_event_sent_twice_is_two_events(job: Job, drain: Drain) -> None:
    """Both are loaded, because the analysts look for duplicates."""
    job.send(*logins(), *logins())
    assert parts(drain("message_id")) == {"received": 2 * COUNT, "loaded": 2 * COUNT}


@MODES
@pytest.mark.parametrize("batch_rows", [4 * COUNT, 16])
def test_an_event_sent_twice_is_loaded_once(
    key: str, batch_rows: int, job: Job, drain: Drain
) -> None:
    """This holds in one batch, in several, and in a later run, as after a redrive with new ids."""
    job.send(*logins(), *logins()[::-1])
    first = drain(key, batch__rows=batch_rows)
    assert parts(first) == {"received": 2 * COUNT, "loaded": COUNT, "already_handled": COUNT}
    job.send(*logins(), event(user_id="new", login_id="new"))
    second = parts(drain(key, batch__rows=batch_rows))
    assert second == {"received": COUNT + 1, "loaded": 1, "already_handled": COUNT}
    assert loaded(job) == [(COUNT + 1, COUNT + 1)]


def test_two_workers_with_the_same_events_load_each_once(job: Job, drain: Drain) -> None:
    """The first worker loads it, and the other counts it as already handled."""
    job.send(*logins(150), *logins(150)[::-1])
    summary = parts(drain("body", batch__rows=20, run__workers=2))
    assert summary == {"received": 300, "loaded": 150, "already_handled": 150}
    assert loaded(job) == [(150, 150)]


def test_keys_claimed_in_opposite_orders_do_not_lock_each_other_out(
    job: Job, drain: Drain, engine: sa.Engine
) -> None:
    """Ids come before keys, and both are sorted; unsorted keys deadlock within a few rounds."""
    count = 3_000
    names = [f"{n:05d}" for n in range(count)]
    fresh: list[list[str]] = []
    both_claimed = threading.Barrier(2)
    errors: list[BaseException] = []

    def work(worker: str, order: list[str]) -> None:
        ids = {f"{worker} {name}": (f"k1:{name}",) for name in order}
        run_id = f"00000000-0000-4000-8000-00000000000{worker}"
        try:
            with transaction(engine) as connection:
                ledger.claim(connection, list(ids), run_id, 1)
                both_claimed.wait()
                fresh.append(ledger.claim_keys(connection, list(ids), ids, run_id, 1))
        except BaseException as error:  # noqa: BLE001  (shown by the test)
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=("1", names)),
        threading.Thread(target=work, args=("2", names[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(map(len, fresh)) == [0, count]


def test_a_lost_reply_to_commit_is_resolved_here_too(job: Job, drain: Drain) -> None:
    """Rows count as loaded and duplicates as handled, as in the attempt that committed."""
    job.send(*logins(), *logins(), "no JSON")
    seen: list[str] = []

    def lose_a_reply(request: bytes) -> Fault:
        if b"insert into etl.ledger" in request:
            seen.append("claim")
        elif is_commit(request) and seen == ["claim", "claim"]:
            seen.append("commit")
            return Fault.UNANSWERED
        return Fault.NONE

    url = job.environment["DATABASE_URL"]
    with Proxy(sa.make_url(url).port or 0, lose_a_reply) as proxy:
        by_proxy = {"DATABASE_URL": via_proxy(url, proxy.port), "ETL_LEDGER__KEY": "field:login_id"}
        summary = job.run(**by_proxy)
        assert proxy.fired == {"unanswered": 1}
    assert seen == ["claim", "claim", "commit", "claim"]
    assert [summary[part] for part in PARTS] == [2 * COUNT + 1, COUNT, COUNT, 1, 0]
    assert loaded(job) == [(COUNT, COUNT)]


def test_an_event_without_its_business_id_is_quarantined(job: Job, drain: Drain) -> None:
    """It has one entry with one reason, and the other events load."""
    odd = [event(login_id=value) for value in (None, "", [], True)] + [event()]
    job.send(*logins(), *odd)
    summary = drain("field:login_id")
    assert parts(summary) == {
        "received": COUNT + len(odd),
        "loaded": COUNT,
        "quarantined": len(odd),
    }
    assert summary.reasons == {"login_id: ledger key": len(odd)}


def test_a_dry_run_counts_an_event_without_its_business_id_once(job: Job) -> None:
    """Its row passes the checks of the columns, but a run would not load it."""
    job.send(*logins(3), event())
    summary = job.run("--dry-run", ETL_LEDGER__KEY="field:login_id")
    assert (summary["would_load"], summary["would_quarantine"]) == (3, 1)


def test_a_key_field_that_no_column_reads_is_not_unknown(job: Job, drain: Drain) -> None:
    """It is accepted although unknown fields are rejected."""
    job.send(*logins(3), event(login_id="x", more=1))
    summary = drain("field:login_id", event__unknown_fields="reject")
    assert parts(summary) == {"received": 4, "loaded": 3, "quarantined": 1}


def test_a_rejected_event_may_be_sent_again_corrected(job: Job, drain: Drain) -> None:
    """A reject does not occupy its business id, and a bad event sent twice has two entries."""
    job.send(*[event(ip="x", user_id="u", login_id="l")] * 2)
    changes = {"quarantine__max_fraction": 1}
    assert parts(drain("field:login_id", **changes)) == {"received": 2, "quarantined": 2}
    job.send(event(user_id="u", login_id="l"))
    assert parts(drain("field:login_id")) == {"received": 1, "loaded": 1}


def test_a_row_that_the_table_refuses_leaves_its_business_id_to_the_next(
    job: Job, drain: Drain, engine: sa.Engine
) -> None:
    """The next event of that id loads, in the same batch or in a later one."""
    with engine.begin() as connection:
        connection.execute(sa.text("alter table user_logins add check (user_id not like 'bad%')"))
    job.send(*[event(user_id=user, login_id="l") for user in ("bad 1", "bad 2", "good", "late")])
    job.send(event(user_id="bad 3", login_id="m"), event(user_id="good too", login_id="n"))
    summary = drain("field:login_id", queue__max_receivers=1)
    assert summary.counts.loaded == 2
    assert summary.counts.quarantined + summary.counts.already_handled == 4
    job.send(event(user_id="good at last", login_id="m"), event(user_id="x", login_id="l"))
    assert parts(drain("field:login_id")) == {"received": 2, "loaded": 1, "already_handled": 1}
    users = {user for (user,) in job.rows("select user_id from user_logins")}
    assert len(users) == 3
    assert {"good too", "good at last"} < users


@MODES
def test_no_ledger_holds_a_value(key: str, job: Job, drain: Drain) -> None:
    """No table holds it, even if the key is a personal field or its value is rejected."""
    canary = "593-47-canary"
    key = "field:device_id" if key.startswith("field") else key
    job.send(event(device_id=canary), event(device_id=canary, user_id="\0"))
    drain(key)
    assert search(tables(job), [canary]) == set()
    assert job.rows("select count(*) from etl.ledger where message_id like 'k1:%'") == [(1,)]


def test_a_rotation_of_the_keyring_forgets_nothing(job: Job, drain: Drain) -> None:
    """Events loaded under the old key are known under both keys, then under the new one alone."""
    new = Keyring.new("k1").key("k1")
    job.send(*logins())
    drain("body")
    both = Keyring("k2", {"k1": KEYRING.key("k1"), "k2": new})
    for keyring in (both, Keyring("k2", {"k2": new})):
        job.send(*logins())
        assert parts(drain("body", keyring)) == {"received": COUNT, "already_handled": COUNT}


def test_a_key_is_forgotten_with_the_retention(job: Job, drain: Drain) -> None:
    """Like a message id, it is removed, and an event that comes again after that is new."""
    job.send(*logins(2))
    drain("field:login_id")
    with job.engine.begin() as connection:
        aged = "update etl.ledger set handled_at = now() - interval '36 days'"
        connection.execute(sa.text(aged))
    job.send(event(user_id="user 9", login_id="login 9"))
    drain("field:login_id")  # forgets at its end
    job.send(*logins(2))
    assert parts(drain("field:login_id")) == {"received": 2, "loaded": 2}


def test_a_change_of_the_setting_loads_no_message_twice(postgres: EmbeddedPostgres) -> None:
    """The ledger has the message ids whatever the key is."""
    with EmbeddedSqs(redeliver_fraction=1.0) as sqs, new_job(sqs, postgres) as job:
        job.send(*logins(3))
        # The queue delivers each message once more after it was deleted, to the second run.
        first = job.run("--max-messages", "3", ETL_LEDGER__KEY="body")
        second = job.run(ETL_LEDGER__KEY="message_id")
    assert [first[part] for part in PARTS] == [3, 3, 0, 0, 0]
    assert [second[part] for part in PARTS] == [3, 0, 3, 0, 0]
