"""Quarantine in practice: list, show, replay, discard, export and import."""

from __future__ import annotations

import json
import stat
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from etl import quarantine
from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import UnmaskError, UsageError
from etl.frames import Reject, rejects
from etl.operations import entries, transfer
from etl.operations.entries import Selection
from etl.operations.replay import replay
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.postgres.tables import create_tables
from etl.runs import Counts, Summary
from tests.conftest import Job
from tests.unit.builders import SENT_MS, event, message

RUN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
ALL = Selection()
BYTES = 1 << 25


class Stored:
    """A database with a quarantine."""

    def __init__(self, engine: sa.Engine, keyring: Keyring, settings: Settings) -> None:
        self.engine, self.keyring, self.settings = engine, keyring, settings
        create_tables(engine, settings.table)

    def add(
        self, *bodies: str, check: str = "null", run: str = RUN, keyring: Keyring | None = None
    ) -> list[str]:
        """Quarantine messages as a run does; returns their ids."""
        messages = {}
        for body in bodies:
            one = message(body, message_id=str(uuid.uuid4()))
            messages[one.message_id] = one
        found: list[Reject] = [(each, "ip", check) for each in messages]
        with transaction(self.engine) as connection:
            for each in messages:
                connection.execute(
                    sa.text("insert into etl.ledger values (:id, :run, 1)"),
                    {"id": each, "run": run},
                )
            quarantine.store(connection, rejects(found), messages, keyring or self.keyring, run)
        return list(messages)

    def replay(self, chosen: Selection = ALL, settings: Settings | None = None) -> Summary:
        """Replay, and see that it adds up, in the summary and in the run's row."""
        summary = replay(settings or self.settings, self.engine, self.keyring, chosen)
        assert summary.counts.adds_up
        row = self.rows(
            "select command, received, loaded, already_handled, quarantined, released, "
            "stop_reason from etl.runs where finished_at is not null "
            f"and run_id = '{summary.run_id}'"
        )
        assert row == [("replay", *vars(summary.counts).values(), "replayed")]
        return summary

    def rows(self, statement: str) -> list[Any]:
        """Query the database."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def do(self, statement: str) -> None:
        """Change the database."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def users(self) -> list[str]:
        """The loaded users."""
        return [user for (user,) in self.rows("select user_id from user_logins order by 1")]

    def fates(self) -> list[str | None]:
        """What became of each entry, in order."""
        found = self.rows("select closed_as, body is null from etl.quarantine order by 1, 2")
        assert all((fate is None) != gone for fate, gone in found)
        return [fate for (fate,) in self.rows(
            "select closed_as from etl.quarantine order by quarantine_id")]  # fmt: skip


@pytest.fixture
def stored(engine: sa.Engine, keyring: Keyring, settings: Callable[..., Settings]) -> Stored:
    """An empty quarantine."""
    return Stored(engine, keyring, settings())


def test_what_passes_now_is_loaded_and_what_fails_stays(stored: Stored) -> None:
    """With the date of the message, new reasons, and tombstones of the loaded."""
    stored.add(event(user_id="a"), event(user_id="b", ip="x"), "{", event(user_id="c"))
    summary = stored.replay()
    assert summary.counts == Counts(received=4, loaded=2, quarantined=2)
    assert summary.reasons == {"ip: IP address": 1, "message: JSON": 1}
    assert stored.rows("select user_id, create_date::text from user_logins order by 1") == [
        ("a", "2023-11-14"), ("c", "2023-11-14"),
    ]  # fmt: skip
    assert stored.fates() == ["replayed", None, None, "replayed"]
    assert list(entries.list_entries(stored.engine, ALL, 9)["reasons"]) == [
        "ip: IP address", "message: JSON",
    ]  # fmt: skip
    again = stored.replay()
    assert again.counts == Counts(received=2, quarantined=2)
    assert stored.users() == ["a", "c"]


def test_a_mended_configuration_lets_entries_through(
    stored: Stored, settings: Callable[..., Settings]
) -> None:
    """Here a field that no column reads."""
    stored.add(event(extra=1))
    strict = settings(event__unknown_fields="reject")
    assert stored.replay(settings=strict).counts == Counts(received=1, quarantined=1)
    assert stored.replay().counts == Counts(received=1, loaded=1)


def test_entries_are_chosen_by_id_run_check_and_age(stored: Stored) -> None:
    """Alone and together; what is not meant is not touched."""
    stored.add("1")
    stored.add("2", check="IP address")
    stored.add("3", run=OTHER)
    stored.do("update etl.quarantine set quarantined_at = now() - interval '3 days' "
              "where quarantine_id = 2")  # fmt: skip

    def ids(**choices: Any) -> list[int]:
        found = entries.list_entries(stored.engine, Selection(**choices), 9)
        return [int(number) for number in found["quarantine_id"]]

    assert ids() == [1, 2, 3]
    assert ids(ids=(3, 1, 9)) == [1, 3]
    assert ids(run_id=OTHER) == [3]
    assert ids(check="IP address") == ids(check="ip: IP address") == [2]
    assert ids(check="device_id: IP address") == []
    assert ids(older_days=2) == [2]
    assert ids(newer_days=2) == [1, 3]
    assert ids(check="null", run_id=RUN) == [1]
    assert stored.replay(Selection(check="IP address")).counts.received == 1
    counted = entries.count_by_reason(stored.engine, Selection(check="null"))
    assert counted[["column", "check", "messages"]].to_numpy().tolist() == [["ip", "null", 2]]


def test_a_page_holds_no_more_bytes_than_a_batch(stored: Stored) -> None:
    """But one entry always; together the pages hold each entry once."""
    stored.add(*("x" * size for size in (10, 10, 3000, 10, 10)))
    found = list(entries.id_pages(stored.engine, ALL, 200))
    assert [number for page in found for number in page] == [1, 2, 3, 4, 5]
    assert [3] in found
    assert len(found) >= 3


def test_a_row_that_the_database_refuses_stays(stored: Stored) -> None:
    """With the name of the constraint; its neighbours load."""
    stored.do("alter table user_logins add constraint no_b check (user_id <> 'b')")
    stored.add(*(event(user_id=user) for user in "abc"))
    summary = stored.replay()
    assert summary.counts == Counts(received=3, loaded=2, quarantined=1)
    assert "no_b" in next(iter(summary.reasons))
    assert stored.fates() == ["replayed", None, "replayed"]
    stored.do("alter table user_logins drop constraint no_b")
    assert stored.replay().counts == Counts(received=1, loaded=1)


def test_a_damaged_message_is_never_loaded(stored: Stored) -> None:
    """Its MD5 was wrong when it came; nobody knows what it was."""
    stored.add(event(), check="MD5 of body")
    assert stored.replay().reasons == {"message: MD5 of body": 1}
    assert stored.replay().reasons == {"message: MD5 of body": 1}


def test_an_entry_of_a_lost_key_stays_and_blocks_nothing(stored: Stored) -> None:
    """It counts as what stays; with the key it loads."""
    other = Keyring.new("k9")
    stored.add(event(user_id="a"), keyring=other)
    stored.add(event(user_id="b"))
    assert stored.replay().counts == Counts(received=2, loaded=1, quarantined=1)
    stored.keyring = other
    assert stored.replay().counts == Counts(received=1, loaded=1)
    assert stored.users() == ["a", "b"]


def test_a_message_that_came_again_after_the_ledger_forgot_it_loads_once(stored: Stored) -> None:
    """Whether the later run quarantined it too, or loaded it."""
    first, second = stored.add(event(user_id="a"), event(user_id="b"))
    stored.do("delete from etl.ledger")
    stored.do(
        f"insert into etl.quarantine (message_id, run_id, reasons, body) "
        f"select message_id, '{OTHER}', reasons, body from etl.quarantine "
        f"where message_id = '{first}'"
    )
    stored.do(f"insert into etl.ledger values ('{second}', '{OTHER}', 1)")
    stored.do("insert into user_logins (user_id) values ('b')")
    for _ in range(3):
        stored.replay()
    assert stored.users() == ["a", "b"]
    assert stored.fates() == ["replayed", "already handled", "already handled"]


def test_an_entry_that_stays_is_tried_again_though_the_ledger_forgot_it(stored: Stored) -> None:
    """The replay leaves no trace of it in the ledger."""
    stored.add(event(user_id="a", ip="x"))
    stored.do("delete from etl.ledger")
    assert stored.replay().counts == Counts(received=1, quarantined=1)
    assert stored.rows("select * from etl.ledger") == []
    stored.do("alter table user_logins alter masked_ip type text")
    assert stored.replay().counts == Counts(received=1, quarantined=1)
    assert stored.fates() == [None]


def test_the_ledger_key_holds_in_a_replay_too(
    stored: Stored, settings: Callable[..., Settings]
) -> None:
    """Of two messages with one business id one is loaded, now and later."""
    by_user = settings(ledger__key="field:user_id")
    stored.add(event(user_id="a"), event(user_id="a", locale="DE"), event(user_id="b"))
    summary = stored.replay(settings=by_user)
    assert summary.counts == Counts(received=3, loaded=2, already_handled=1)
    assert stored.fates() == ["replayed", "already handled", "replayed"]
    stored.add(event(user_id="b"))
    assert stored.replay(settings=by_user).counts == Counts(received=1, already_handled=1)
    assert stored.users() == ["a", "b"]


def test_two_replays_at_once_share_the_work(
    stored: Stored, settings: Callable[..., Settings]
) -> None:
    """What one holds the other leaves alone; each entry is loaded once."""
    stored.add(*(event(user_id=f"{number:03}") for number in range(200)))
    small = settings(batch__bytes=2048)
    both: list[Summary] = []

    def work() -> None:
        both.append(replay(small, open_engine(small.database), stored.keyring, ALL))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(summary.counts.loaded for summary in both) == 200
    assert all(summary.counts.adds_up for summary in both)
    assert stored.users() == [f"{number:03}" for number in range(200)]


def test_an_entry_that_another_holds_is_left_alone(stored: Stored) -> None:
    """And not waited for."""
    stored.add(event(user_id="a"), event(user_id="b"))
    with stored.engine.begin() as connection:
        assert len(entries.read_open(connection, [1], lock=True)) == 1
        assert stored.replay().counts == Counts(received=1, loaded=1)
    assert stored.fates() == [None, "replayed"]


def test_discarded_entries_leave_tombstones(stored: Stored) -> None:
    """Without a body, with the reason and the user; once."""
    stored.add(event(), event(), check="IP address")
    stored.add(event())
    chosen = Selection(check="IP address")
    assert entries.discard(stored.engine, chosen, "a test", BYTES) == 2
    assert entries.discard(stored.engine, chosen, "another", BYTES) == 0
    assert stored.fates() == ["discarded", "discarded", None]
    assert set(stored.rows(
        "select closed_by, note, closed_at is null from etl.quarantine where body is null"
    )) == {("etl", "a test", False)}  # fmt: skip
    assert stored.replay().counts == Counts(received=1, loaded=1)


def test_an_export_holds_sealed_bodies_and_comes_back(
    stored: Stored, postgres_databases: Callable[[], sa.Engine], tmp_path: Path
) -> None:
    """In another database, where the messages can be replayed; there only once, here never."""
    ids = stored.add(event(user_id="a"), event(user_id="b", ip="192.0.2.7 "))
    path = tmp_path / "rejects.jsonl"
    assert transfer.export_entries(stored.engine, stored.keyring, ALL, path, BYTES) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"192.0.2" not in path.read_bytes()
    assert transfer.import_entries(stored.engine, stored.keyring, path) == (0, 2)
    elsewhere = Stored(postgres_databases(), stored.keyring, stored.settings)
    assert transfer.import_entries(elsewhere.engine, stored.keyring, path) == (2, 2)
    assert transfer.import_entries(elsewhere.engine, stored.keyring, path) == (0, 2)
    columns = "message_id, run_id, sent_at, quarantined_at, reasons, body"
    what = f"select {columns} from etl.quarantine order by message_id"
    assert [bytes(row[-1]) for row in elsewhere.rows(what)] == [
        bytes(row[-1]) for row in stored.rows(what)
    ]
    assert [row[:-1] for row in elsewhere.rows(what)] == [row[:-1] for row in stored.rows(what)]
    assert {row[0] for row in elsewhere.rows(what)} == set(ids)
    assert elsewhere.replay().counts == Counts(received=2, loaded=1, quarantined=1)
    assert transfer.import_entries(elsewhere.engine, stored.keyring, path) == (0, 2)
    assert elsewhere.users() == ["a"]


@pytest.fixture
def postgres_databases(
    request: pytest.FixtureRequest,
) -> Any:
    """Make further databases."""
    server, made = request.getfixturevalue("postgres"), []

    def make() -> sa.Engine:
        url = server.new_database()
        engine = sa.create_engine(driver_url(url))
        made.append((url, engine))
        return engine

    yield make
    for url, engine in made:
        engine.dispose()
        server.drop_database(url)


@pytest.mark.parametrize("change", ["cut", "line", "byte", "key", "header", "none"])
def test_a_changed_file_is_refused_whole(stored: Stored, tmp_path: Path, change: str) -> None:
    """Nothing of it is taken."""
    stored.add(event(), event())
    path, keyring = tmp_path / "rejects.jsonl", stored.keyring
    transfer.export_entries(stored.engine, keyring, ALL, path, BYTES)
    stored.do("truncate etl.quarantine, etl.ledger")
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    if change == "key":
        keyring = Keyring.new("k1")
    path.write_bytes(
        {
            "cut": b"".join(lines[:-1]),
            "line": b"".join([lines[0], *lines[2:]]),
            "byte": data.replace(b"null", b"nuLl", 1),
            "header": data.replace(b"etl-quarantine", b"other"),
            "none": b"",
        }.get(change, data)
    )
    with pytest.raises((UsageError, UnmaskError)):
        transfer.import_entries(stored.engine, keyring, path)
    assert stored.rows("select * from etl.quarantine") == []
    path.write_bytes(data)
    assert transfer.import_entries(stored.engine, stored.keyring, path) == (2, 2)


def test_show_is_audited_and_prints_the_message_as_it_came(job: Job, stored: Stored) -> None:
    """On standard output the body alone; a closed or unknown entry is told."""
    body = '{"ip": " 192.0.2.7"}'
    (message_id,) = stored.add(body)
    done = job.command("quarantine", "show", "1", "--reason", "ticket 4711")
    assert (done.returncode, done.stdout) == (0, body + "\n"), done.stderr
    assert message_id in done.stderr
    assert "192.0" not in done.stderr
    done = job.command("quarantine", "show", "1", "--reason", "again", "--json")
    assert json.loads(done.stdout)["body"] == body
    assert stored.rows("select action, reason, scope, count from etl.unmask_audit") == [
        ("quarantine show", "ticket 4711", "entry 1", 1),
        ("quarantine show", "again", "entry 1", 1),
    ]
    done = job.command("quarantine", "show", "2", "--reason", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "entry 2 does not exist" in done.stderr
    other = Keyring.new("k1").dump()
    done = job.command("quarantine", "show", "1", "--reason", "x", ETL_KEYRING=other)
    assert (done.returncode, done.stdout) == (1, "")
    assert "entry 1 was not sealed by this keyring" in done.stderr
    entries.discard(stored.engine, ALL, "a test", BYTES)
    done = job.command("quarantine", "show", "1", "--reason", "x")
    assert "entry 1 is discarded; its body is gone" in done.stderr


def test_without_the_audit_row_show_shows_nothing(job: Job, stored: Stored) -> None:
    """Exit code 1."""
    stored.add(event())
    stored.do("revoke insert on etl.unmask_audit from etl")
    done = job.command("quarantine", "show", "1", "--reason", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is shown" in done.stderr


def test_the_commands_from_the_outside(job: Job, stored: Stored, tmp_path: Path) -> None:
    """Listed, replayed, exported, discarded, imported."""
    stored.add(event(user_id="a"), "{")
    listed = job.command("quarantine", "list", "--entries", "--json")
    assert [json.loads(line)["quarantine_id"] for line in listed.stdout.splitlines()] == [1, 2]
    done = job.command("quarantine", "replay", "--all", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["received"], summary["loaded"], summary["quarantined"]) == (2, 1, 1)
    assert "replayed" in job.command("quarantine", "list", "--entries", "--closed").stdout
    path = tmp_path / "rejects.jsonl"
    done = job.command("quarantine", "export", str(path))
    assert "wrote 1 messages to" in done.stderr
    assert job.command("quarantine", "export", str(path)).returncode == 2
    done = job.command("quarantine", "discard", "--check", "message: JSON", "--reason", "a test")
    assert "discarded 1 messages" in done.stderr
    done = job.command("quarantine", "import", str(path))
    assert "imported 0 of 1 messages" in done.stderr
    for command in ("replay", "discard"):
        more = ("--reason", "x") if command == "discard" else ()
        assert job.command("quarantine", command, *more).returncode == 2
        assert job.command("quarantine", command, "1", "--all", *more).returncode == 2


def test_the_sent_time_of_an_entry_is_that_of_the_message(stored: Stored) -> None:
    """To the millisecond."""
    for odd in (SENT_MS + 123, SENT_MS + 999, None):
        one = message("x", message_id=str(uuid.uuid4()), sent_ms=odd)
        found = rejects([(one.message_id, "ip", "null")])
        with transaction(stored.engine) as connection:
            quarantine.store(connection, found, {one.message_id: one}, stored.keyring, RUN)
    with stored.engine.connect() as connection:
        read = entries.read_open(connection, [1, 2, 3])
    assert [entries.as_message(one, "x").sent_ms for one in read] == [
        SENT_MS + 123,
        SENT_MS + 999,
        None,
    ]
