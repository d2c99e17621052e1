"""Quarantined messages are listed, shown, replayed, discarded, exported and imported."""

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
from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import UnmaskError, UsageError
from etl.frames import Reject, rejects
from etl.operations import entries, transfer
from etl.operations.entries import Selection
from etl.operations.replay import replay
from etl.postgres.creation import create_tables
from etl.postgres.engine import driver_url, open_engine, transaction
from etl.runs import Counts, Summary
from tests.conftest import Job
from tests.unit.builders import SENT_MS, event, message

RUN = "00000000-0000-4000-8000-000000000001"
OTHER = "00000000-0000-4000-8000-000000000002"
ALL = Selection()
BYTES = 1 << 25


class QuarantineDatabase:
    """A database with a quarantine."""

    def __init__(self, engine: sa.Engine, keyring: Keyring, settings: Settings) -> None:
        self.engine = engine
        self.keyring = keyring
        self.settings = settings
        create_tables(engine, settings.table)

    def add(
        self, *bodies: str, check: str = "null", run: str = RUN, keyring: Keyring | None = None
    ) -> list[str]:
        """Quarantine messages as a run does; returns their ids."""
        messages = {}
        for body in bodies:
            message_id = str(uuid.uuid4())
            messages[message_id] = message(body, message_id=message_id)
        rows: list[Reject] = [(message_id, "ip", check) for message_id in messages]
        with transaction(self.engine) as connection:
            for message_id in messages:
                connection.execute(
                    sa.text("insert into etl.ledger values (:id, :run, 1)"),
                    {"id": message_id, "run": run},
                )
            quarantine.store(
                connection, rejects(rows), messages, keyring or self.keyring, run, self.settings
            )
        return list(messages)

    def replay(self, selection: Selection = ALL, settings: Settings | None = None) -> Summary:
        """Replay, and check that the summary and the run's row add up."""
        summary = replay(settings or self.settings, self.engine, self.keyring, selection)
        assert summary.counts.adds_up
        row = self.rows(
            "select command, received, loaded, already_handled, quarantined, released, "
            "updated, skipped, stop_reason from etl.runs where finished_at is not null "
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

    def closed_as(self) -> list[str | None]:
        """Return what each entry was closed as, in order; None for an open one."""
        entries = self.rows(
            "select closed_as, body is null from etl.quarantine order by quarantine_id"
        )
        assert all((closed_as is None) != gone for closed_as, gone in entries)
        return [closed_as for closed_as, _ in entries]


@pytest.fixture
def database(
    engine: sa.Engine, keyring: Keyring, settings: Callable[..., Settings]
) -> QuarantineDatabase:
    """A database with empty tables, the default settings and a keyring of one key."""
    return QuarantineDatabase(engine, keyring, settings())


def test_what_passes_now_is_loaded_and_what_fails_stays(database: QuarantineDatabase) -> None:
    """Rows have the message's date, loaded entries are tombstones, the others have new reasons."""
    database.add(event(user_id="a"), event(user_id="b", ip="x"), "{", event(user_id="c"))
    summary = database.replay()
    assert summary.counts == Counts(received=4, loaded=2, quarantined=2)
    assert summary.reasons == {"ip: IP address": 1, "message: JSON": 1}
    assert database.rows("select user_id, create_date::text from user_logins order by 1") == [
        ("a", "2023-11-14"),
        ("c", "2023-11-14"),
    ]
    assert database.closed_as() == ["replayed", None, None, "replayed"]
    assert list(entries.list_entries(database.engine, ALL, 9)["reasons"]) == [
        "ip: IP address",
        "message: JSON",
    ]
    again = database.replay()
    assert again.counts == Counts(received=2, quarantined=2)
    assert database.users() == ["a", "c"]


def test_a_corrected_configuration_lets_entries_through(
    database: QuarantineDatabase, settings: Callable[..., Settings]
) -> None:
    """Here it allows a field that no column reads."""
    database.add(event(extra=1))
    strict = settings(event__unknown_fields="reject")
    assert database.replay(settings=strict).counts == Counts(received=1, quarantined=1)
    assert database.replay().counts == Counts(received=1, loaded=1)


def test_entries_are_selected_by_id_run_check_and_age(database: QuarantineDatabase) -> None:
    """Conditions work alone and together, and a replay touches selected entries only."""
    database.add("1")
    database.add("2", check="IP address")
    database.add("3", run=OTHER)
    database.do(
        "update etl.quarantine set quarantined_at = now() - interval '3 days' "
        "where quarantine_id = 2"
    )

    def ids(**conditions: Any) -> list[int]:
        found = entries.list_entries(database.engine, Selection(**conditions), 9)
        return [int(entry_id) for entry_id in found["quarantine_id"]]

    assert ids() == [1, 2, 3]
    assert ids(ids=(3, 1, 9)) == [1, 3]
    assert ids(run_id=OTHER) == [3]
    assert ids(check="IP address") == ids(check="ip: IP address") == [2]
    assert ids(check="device_id: IP address") == []
    assert ids(older_days=2) == [2]
    assert ids(newer_days=2) == [1, 3]
    assert ids(check="null", run_id=RUN) == [1]
    assert database.replay(Selection(check="IP address")).counts.received == 1
    counted = entries.count_by_reason(database.engine, Selection(check="null"))
    assert counted[["column", "check", "messages"]].to_numpy().tolist() == [["ip", "null", 2]]


def test_a_page_holds_no_more_bytes_than_a_batch(database: QuarantineDatabase) -> None:
    """A page has at least one entry, and together the pages have each entry once."""
    database.add(*("x" * size for size in (10, 10, 3000, 10, 10)))
    pages = list(entries.id_pages(database.engine, ALL, 200))
    assert [entry_id for page in pages for entry_id in page] == [1, 2, 3, 4, 5]
    assert [3] in pages
    assert len(pages) >= 3


def test_a_row_that_the_database_refuses_stays(database: QuarantineDatabase) -> None:
    """Its new reason names the constraint, and the other rows of the page load."""
    database.do("alter table user_logins add constraint no_b check (user_id <> 'b')")
    database.add(*(event(user_id=user) for user in "abc"))
    summary = database.replay()
    assert summary.counts == Counts(received=3, loaded=2, quarantined=1)
    assert "no_b" in next(iter(summary.reasons))
    assert database.closed_as() == ["replayed", None, "replayed"]
    database.do("alter table user_logins drop constraint no_b")
    assert database.replay().counts == Counts(received=1, loaded=1)


def test_a_damaged_message_is_never_loaded(database: QuarantineDatabase) -> None:
    """Its MD5 was wrong when it arrived, so its right content is unknown."""
    database.add(event(), check="MD5 of body")
    assert database.replay().reasons == {"message: MD5 of body": 1}
    assert database.replay().reasons == {"message: MD5 of body": 1}


def test_an_entry_of_a_lost_key_stays_and_blocks_nothing(database: QuarantineDatabase) -> None:
    """It counts among those that stay; with the key it loads."""
    other = Keyring.new("k9")
    database.add(event(user_id="a"), keyring=other)
    database.add(event(user_id="b"))
    assert database.replay().counts == Counts(received=2, loaded=1, quarantined=1)
    database.keyring = other
    assert database.replay().counts == Counts(received=1, loaded=1)
    assert database.users() == ["a", "b"]


def test_a_message_that_came_again_after_the_ledger_forgot_it_loads_once(
    database: QuarantineDatabase,
) -> None:
    """This holds whether the later run quarantined the message too or loaded it."""
    first, second = database.add(event(user_id="a"), event(user_id="b"))
    database.do("delete from etl.ledger")
    database.do(
        f"insert into etl.quarantine (job, masked_fields, message_id, run_id, reasons, body) "
        f"select job, masked_fields, message_id, '{OTHER}', reasons, body from etl.quarantine "
        f"where message_id = '{first}'"
    )
    database.do(f"insert into etl.ledger values ('{second}', '{OTHER}', 1)")
    database.do("insert into user_logins (user_id) values ('b')")
    for _ in range(3):
        database.replay()
    assert database.users() == ["a", "b"]
    assert database.closed_as() == ["replayed", "already handled", "already handled"]


def test_an_entry_that_stays_is_tried_again_though_the_ledger_forgot_it(
    database: QuarantineDatabase,
) -> None:
    """The replay removes its own claim from the ledger."""
    database.add(event(user_id="a", ip="x"))
    database.do("delete from etl.ledger")
    assert database.replay().counts == Counts(received=1, quarantined=1)
    assert database.rows("select * from etl.ledger") == []
    database.do("alter table user_logins alter masked_ip type text")
    assert database.replay().counts == Counts(received=1, quarantined=1)
    assert database.closed_as() == [None]


def test_the_ledger_key_holds_in_a_replay_too(
    database: QuarantineDatabase, settings: Callable[..., Settings]
) -> None:
    """Of two messages with one business id one is loaded, now and later."""
    by_user = settings(ledger__key="field:user_id")
    database.add(event(user_id="a"), event(user_id="a", locale="DE"), event(user_id="b"))
    summary = database.replay(settings=by_user)
    assert summary.counts == Counts(received=3, loaded=2, already_handled=1)
    assert database.closed_as() == ["replayed", "already handled", "replayed"]
    database.add(event(user_id="b"))
    assert database.replay(settings=by_user).counts == Counts(received=1, already_handled=1)
    assert database.users() == ["a", "b"]


def test_two_replays_at_once_share_the_work(
    database: QuarantineDatabase, settings: Callable[..., Settings]
) -> None:
    """Each skips what the other has locked, and every entry is loaded once."""
    database.add(*(event(user_id=f"{number:03}") for number in range(200)))
    small_pages = settings(batch__bytes=2048)
    summaries: list[Summary] = []

    def work() -> None:
        engine = open_engine(small_pages.database)
        summaries.append(replay(small_pages, engine, database.keyring, ALL))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(summary.counts.loaded for summary in summaries) == 200
    assert all(summary.counts.adds_up for summary in summaries)
    assert database.users() == [f"{number:03}" for number in range(200)]


def test_a_locked_entry_is_skipped(database: QuarantineDatabase) -> None:
    """The replay does not wait for the lock."""
    database.add(event(user_id="a"), event(user_id="b"))
    with database.engine.begin() as connection:
        assert len(entries.read_open(connection, [1], lock=True)) == 1
        assert database.replay().counts == Counts(received=1, loaded=1)
    assert database.closed_as() == [None, "replayed"]


def test_discarded_entries_leave_tombstones(database: QuarantineDatabase) -> None:
    """A tombstone has no body, but the reason and the user; it is not discarded twice."""
    database.add(event(), event(), check="IP address")
    database.add(event())
    selection = Selection(check="IP address")
    assert entries.discard(database.engine, selection, "a test", BYTES) == 2
    assert entries.discard(database.engine, selection, "another", BYTES) == 0
    assert database.closed_as() == ["discarded", "discarded", None]
    tombstones = database.rows(
        "select closed_by, note, closed_at is null from etl.quarantine where body is null"
    )
    assert set(tombstones) == {("etl", "a test", False)}
    assert database.replay().counts == Counts(received=1, loaded=1)


def test_large_bodies_are_read_and_stored_some_at_a_time(
    database: QuarantineDatabase, postgres: EmbeddedPostgres, settings: Any, tmp_path: Path
) -> None:
    """Postgres takes 256 MB of JSON at most, and 200 bodies of 1 MiB are more than that."""
    mebibyte = event(user_id="x" * 1024 * 1024)
    database.add(*[mebibyte] * 20, event())
    path = tmp_path / "large.jsonl"
    transfer.export_entries(database.engine, database.keyring, database.settings, ALL, path)
    url = postgres.new_database()
    other = QuarantineDatabase(sa.create_engine(driver_url(url)), database.keyring, settings())
    sizes = []

    @sa.event.listens_for(other.engine, "before_cursor_execute")
    def measure(_c: Any, _cursor: Any, _text: str, parameters: Any, *_: Any) -> None:
        sizes.append(len(str(parameters.get("entries", ""))) if parameters else 0)

    assert transfer.import_entries(other.engine, database.keyring, database.settings, path) == (
        21,
        21,
    )
    assert transfer.MAX_PAGE_BYTES / 2 < max(sizes) < transfer.MAX_PAGE_BYTES + 4096
    assert sum(size > 0 for size in sizes) == 4
    other.engine.dispose()
    postgres.drop_database(url)


def test_an_export_holds_sealed_bodies_and_comes_back(
    database: QuarantineDatabase, postgres_databases: Callable[[], sa.Engine], tmp_path: Path
) -> None:
    """Another database imports and replays it once; the first one has the messages already."""
    ids = database.add(event(user_id="a"), event(user_id="b", ip="192.0.2.7 "))
    path = tmp_path / "rejects.jsonl"
    assert (
        transfer.export_entries(database.engine, database.keyring, database.settings, ALL, path)
        == 2
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"192.0.2" not in path.read_bytes()
    assert transfer.import_entries(database.engine, database.keyring, database.settings, path) == (
        0,
        2,
    )
    elsewhere = QuarantineDatabase(postgres_databases(), database.keyring, database.settings)
    assert transfer.import_entries(elsewhere.engine, database.keyring, database.settings, path) == (
        2,
        2,
    )
    assert transfer.import_entries(elsewhere.engine, database.keyring, database.settings, path) == (
        0,
        2,
    )
    columns = "message_id, run_id, sent_at, quarantined_at, reasons, body"
    query = f"select {columns} from etl.quarantine order by message_id"
    imported = elsewhere.rows(query)
    exported = database.rows(query)
    assert [bytes(row[-1]) for row in imported] == [bytes(row[-1]) for row in exported]
    assert [row[:-1] for row in imported] == [row[:-1] for row in exported]
    assert {row[0] for row in imported} == set(ids)
    assert elsewhere.replay().counts == Counts(received=2, loaded=1, quarantined=1)
    assert transfer.import_entries(elsewhere.engine, database.keyring, database.settings, path) == (
        0,
        2,
    )
    assert elsewhere.users() == ["a"]


@pytest.fixture
def postgres_databases(
    request: pytest.FixtureRequest,
) -> Any:
    """A function that makes further databases."""
    server = request.getfixturevalue("postgres")
    databases = []

    def make() -> sa.Engine:
        url = server.new_database()
        engine = sa.create_engine(driver_url(url))
        databases.append((url, engine))
        return engine

    yield make
    for url, engine in databases:
        engine.dispose()
        server.drop_database(url)


def test_a_file_that_was_saved_again_is_refused_in_words(
    database: QuarantineDatabase, tmp_path: Path
) -> None:
    """Its HMAC is over the bytes that the export wrote."""
    path = tmp_path / "rejects.jsonl"
    transfer.export_entries(database.engine, database.keyring, database.settings, ALL, path)
    text = path.read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        with pytest.raises(UsageError, match=r"saved again in another encoding; import the file"):
            transfer.import_entries(database.engine, database.keyring, database.settings, path)


@pytest.mark.parametrize(
    "change", ["cut", "line", "byte", "key", "header", "none", "hmac", "deep", "deep end"]
)
def test_a_changed_file_is_refused_whole(
    database: QuarantineDatabase, tmp_path: Path, change: str
) -> None:
    """No entry of it is imported."""
    database.add(event(), event())
    path = tmp_path / "rejects.jsonl"
    keyring = database.keyring
    transfer.export_entries(database.engine, keyring, database.settings, ALL, path)
    database.do("truncate etl.quarantine, etl.ledger")
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
            "hmac": b"".join([*lines[:-1], '{"hmac": "ü\\ud800"}\n'.encode()]),
            "deep": b"[" * 100_000,
            "deep end": b"".join([*lines[:-1], b"[" * 100_000]),
        }.get(change, data)
    )
    with pytest.raises((UsageError, UnmaskError)):
        transfer.import_entries(database.engine, keyring, database.settings, path)
    assert database.rows("select * from etl.quarantine") == []
    path.write_bytes(data)
    assert transfer.import_entries(database.engine, database.keyring, database.settings, path) == (
        2,
        2,
    )


def test_show_is_audited_and_prints_the_message_as_received(
    job: Job, database: QuarantineDatabase
) -> None:
    """Standard output has the body alone, and a closed or unknown entry is an error."""
    body = '{"ip": " 192.0.2.7"}'
    (message_id,) = database.add(body)
    done = job.command("quarantine", "show", "1", "--reason", "ticket 4711")
    assert (done.returncode, done.stdout) == (0, body + "\n"), done.stderr
    assert message_id in done.stderr
    assert "192.0" not in done.stderr
    done = job.command("quarantine", "show", "1", "--reason", "again", "--json")
    assert json.loads(done.stdout)["body"] == body
    assert database.rows("select action, reason, scope, count from etl.unmask_audit") == [
        ("quarantine show", "ticket 4711", "entry 1", 1),
        ("quarantine show", "again", "entry 1", 1),
    ]
    done = job.command("quarantine", "show", "2", "--reason", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert "entry 2 does not exist" in done.stderr
    other = Keyring.new("k9").dump()
    done = job.command("quarantine", "show", "1", "--reason", "x", ETL_KEYRING=other)
    assert (done.returncode, done.stdout) == (1, "")
    assert "entry 1 was not sealed by this keyring" in done.stderr
    entries.discard(database.engine, ALL, "a test", BYTES)
    done = job.command("quarantine", "show", "1", "--reason", "x")
    assert "entry 1 is discarded; its body is gone" in done.stderr


def test_without_the_audit_row_show_shows_nothing(job: Job, database: QuarantineDatabase) -> None:
    """The command prints no body and ends with exit code 1."""
    database.add(event())
    database.do("revoke insert on etl.unmask_audit from etl")
    done = job.command("quarantine", "show", "1", "--reason", "x")
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing is shown" in done.stderr


def test_the_commands_do_what_their_functions_do(
    job: Job, database: QuarantineDatabase, tmp_path: Path
) -> None:
    """They list, replay, export, discard and import; without a selection two of them do nothing."""
    database.add(event(user_id="a"), "{")
    listed = job.command("quarantine", "list", "--entries", "--json")
    assert [json.loads(line)["quarantine_id"] for line in listed.stdout.splitlines()] == [1, 2]
    done = job.command("quarantine", "replay", "--all", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["received"], summary["loaded"], summary["quarantined"]) == (2, 1, 1)
    assert "replayed" in job.command("quarantine", "list", "--entries", "--closed").stdout
    path = tmp_path / "rejects.jsonl"
    done = job.command("quarantine", "export", str(path))
    assert "wrote 1 entry to" in done.stderr
    assert job.command("quarantine", "export", str(path)).returncode == 2
    done = job.command("quarantine", "discard", "--check", "message: JSON", "--reason", "a test")
    assert "discarded 1 entry" in done.stderr
    done = job.command("quarantine", "import", str(path))
    assert "imported 0 of 1 entries" in done.stderr
    for command in ("replay", "discard"):
        more = ("--reason", "x") if command == "discard" else ()
        assert job.command("quarantine", command, *more).returncode == 2
        assert job.command("quarantine", command, "1", "--all", *more).returncode == 2


def test_the_sent_time_of_an_entry_is_that_of_the_message(database: QuarantineDatabase) -> None:
    """It is kept to the millisecond."""
    for sent_ms in (SENT_MS + 123, SENT_MS + 999, None):
        rejected = message("x", message_id=str(uuid.uuid4()), sent_ms=sent_ms)
        rows = rejects([(rejected.message_id, "ip", "null")])
        messages = {rejected.message_id: rejected}
        with transaction(database.engine) as connection:
            quarantine.store(connection, rows, messages, database.keyring, RUN, database.settings)
    with database.engine.connect() as connection:
        found = entries.read_open(connection, [1, 2, 3])
    assert [entries.as_message(entry, "x").sent_ms for entry in found] == [
        SENT_MS + 123,
        SENT_MS + 999,
        None,
    ]


@pytest.mark.parametrize("run", ["A1", "a1b2c3d4-0", "a1b2c3d40000400080000000000000ff"])
def test_a_run_is_given_by_the_beginning_of_its_id(
    database: QuarantineDatabase, job: Job, run: str
) -> None:
    """Also by an id without dashes; its entries are selected, and no others."""
    database.add("{", run="a1b2c3d4-0000-4000-8000-0000000000ff")
    database.add("{", run=OTHER)
    done = job.command("quarantine", "list", "--entries", "--json", "--run", run)
    assert [json.loads(line)["quarantine_id"] for line in done.stdout.splitlines()] == [1]


def test_the_beginning_of_several_ids_lists_them(database: QuarantineDatabase, job: Job) -> None:
    """Nothing is done; a run of the job comes before one of another job."""
    database.add("{")
    database.add("{", run=OTHER)
    done = job.command("quarantine", "replay", "--run", "0000")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: 2 runs have an id that begins with '0000'; give more of it: " in done.stderr
    assert RUN in done.stderr
    assert OTHER in done.stderr
    done = job.command("quarantine", "discard", "--run", "ff-f", "--reason", "a test")
    assert done.stderr.strip() == (
        "error: no run has an id that begins with 'ff-f'; see: etl history"
    )
    database.do("update etl.quarantine set job = 'public.orders' where quarantine_id = 2")
    done = job.command("quarantine", "list", "--entries", "--json", "--run", "0000")
    assert json.loads(done.stdout)["run_id"] == RUN
    assert database.closed_as() == [None, None]


@pytest.mark.parametrize(
    ("check", "meant"),
    [
        ("ip: IP adress", "ip: IP address"),
        ("ip adress", "IP address"),
        ("message:json", "message: JSON"),
        ("adress: geocodd", "address: geocoded"),
    ],
)
def test_a_misspelt_check_is_answered_with_the_nearest(
    database: QuarantineDatabase, job: Job, check: str, meant: str
) -> None:
    """Of the checks that this configuration has, or that an entry has failed; nothing is done."""
    database.add("{")
    reasons = json.dumps([{"column": "address", "check": "geocoded"}])
    database.do(f"update etl.quarantine set reasons = '{reasons}'")
    done = job.command("quarantine", "discard", "--reason", "a test", "--check", check)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"a check {check!r}; did you mean {meant!r}?\n")
    assert database.closed_as() == [None]


def test_a_check_that_nothing_has_failed_selects_nothing(
    database: QuarantineDatabase, job: Job
) -> None:
    """A schedule may name one; of an unknown one it is said, unless the database may raise it."""
    database.add("{")
    for check in ("ip: IP address", "nesting", "ip: two values", "row: SQLSTATE 23514"):
        done = job.command("quarantine", "discard", "--check", check, "--reason", "a test")
        assert (done.returncode, done.stderr) == (0, "discarded 0 entries\n")
    done = job.command("quarantine", "discard", "--check", "zzz", "--reason", "a test")
    assert done.returncode == 0
    assert "no entry has ever failed a check 'zzz'; see: etl quarantine list" in done.stderr
