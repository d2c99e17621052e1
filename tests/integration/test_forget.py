"""A person's rows and quarantined messages are found under every key and removed."""

from __future__ import annotations

import json
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import DatabaseRefused, UsageError
from etl.mask import tokens
from etl.operations import entries, transfer
from etl.operations.entries import Selection
from etl.operations.forget import Matches, Search, find_value, forget_value
from etl.postgres.engine import transaction
from etl.schema import masked_column
from tests.acceptance.job_processes import until
from tests.conftest import Job
from tests.integration.test_quarantine import QuarantineDatabase
from tests.unit.builders import event

IP = "2001:db8::1"
NEW = Keyring.new("k2")


@pytest.fixture
def database(
    engine: sa.Engine, settings: Callable[..., Settings], keyring: Keyring
) -> QuarantineDatabase:
    """A database with empty tables, the default settings and a keyring of two keys."""
    both = Keyring("k2", {"k1": keyring.key("k1"), "k2": NEW.key("k2")})
    return QuarantineDatabase(engine, both, settings())


def search(
    database: QuarantineDatabase, value: str = IP, field: str = "ip", **changes: Any
) -> Search:
    """Make a search for a value."""
    settings = database.settings.model_copy(update=changes)
    column = masked_column(settings.table, field)
    return Search(database.engine, settings, database.keyring, column, value)


def put(database: QuarantineDatabase, user: str, ip: str, keyring: Keyring, **more: str) -> None:
    """Put a row into the target."""
    row = {"user_id": user, "masked_ip": tokens([ip], keyring, "ip")[0], **more}
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("insert into user_logins (user_id, masked_ip) values (:user_id, :masked_ip)"),
            row,
        )


def fill(database: QuarantineDatabase, keyring: Keyring) -> None:
    """Three rows of the person under two keys, one of somebody else."""
    put(database, "a", IP, keyring)
    put(database, "a", IP, database.keyring)
    put(database, "b", IP, keyring)
    put(database, "other", "2001:db8::2", keyring)


def test_rows_of_every_key_are_found_and_deleted(
    database: QuarantineDatabase, keyring: Keyring
) -> None:
    """Any spelling of the value finds them; others stay; the audit has their number."""
    fill(database, keyring)
    for spelling in (IP, "2001:DB8:0:0:0:0:0:1"):
        assert find_value(search(database, spelling)) == Matches(3, (), ())
    assert len(database.users()) == 4
    assert forget_value(search(database, "2001:DB8:0::1"), "delete", "4711") == Matches(3, (), ())
    assert database.users() == ["other"]
    assert forget_value(search(database), "delete", "4711") == Matches(0, (), ())
    assert database.rows("select action, reason, scope, columns, count from etl.unmask_audit") == [
        ("forget", "4711", "3 rows of public.user_logins deleted, 0 in quarantine", ["ip"], 3),
        ("forget", "4711", "0 rows of public.user_logins deleted, 0 in quarantine", ["ip"], 0),
    ]


def test_null_is_for_nullable_columns(
    database: QuarantineDatabase, keyring: Keyring, settings: Callable[..., Settings]
) -> None:
    """In a nullable column the rows stay without the value; any other column is refused."""
    fill(database, keyring)
    with pytest.raises(UsageError, match=r"'masked_ip' of public\.user_logins is not"):
        forget_value(search(database), "null", "x")
    table = database.settings.table
    columns = tuple(
        column.model_copy(update={"nullable": True}) if column.source == "ip" else column
        for column in table.columns
    )
    nullable = search(database, table=table.model_copy(update={"columns": columns}))
    assert forget_value(nullable, "null", "x").rows == 3
    nulled = database.rows("select user_id from user_logins where masked_ip is null order by 1")
    assert nulled == [("a",), ("a",), ("b",)]
    assert len(database.users()) == 4


MEANT = [
    event(ip=IP),
    event(ip="2001:DB8:0:0:0:0:0:1"),
    event(ip=f" {IP}\n"),
    event(ip=[IP]),
    event(ip={"a": [{"b": IP}]}),
    event(ip={IP: 1}),
    '{"ip": "' + IP,
    json.dumps({"Type": "Notification", "Message": event(ip=IP)}),
    event(device_id=IP),
]
OTHERS = [
    event(ip="2001:db8::2"),
    event(ip=None),
    event(ip=True),
    f"no JSON, 2001:db8::12 and x{IP}",
    "{",
    "",
]


def test_quarantined_messages_that_have_the_value_become_tombstones(
    database: QuarantineDatabase, keyring: Keyring
) -> None:
    """They are found under every key, whatever was wrong with them; others keep their bodies."""
    database.add(*MEANT[:4], *OTHERS, keyring=keyring)
    database.add(*MEANT[4:])
    matches = find_value(search(database))
    meant = (*range(1, 5), *range(11, 16))
    assert matches == Matches(0, meant, ())
    assert set(database.closed_as()) == {None}
    assert forget_value(search(database), "delete", "4711") == matches
    assert database.closed_as() == ["forgotten"] * 4 + [None] * 6 + ["forgotten"] * 5
    assert forget_value(search(database), "delete", "4711") == Matches(0, (), ())


def test_a_text_column_is_compared_exactly(database: QuarantineDatabase) -> None:
    """Only spaces around the value are ignored, and a number counts as its digits."""
    device = 'ö/"1"\\'
    database.add(
        event(device_id=device), event(device_id=f"{device} "), event(device_id=device.upper())
    )
    assert find_value(search(database, device, "device_id")).entries == (1, 2)
    database.add(event(device_id=4711), event(device_id="47"))
    assert find_value(search(database, "4711", "device_id")).entries == (4,)


def test_a_value_that_no_row_can_have_is_looked_for_in_quarantine(
    database: QuarantineDatabase,
) -> None:
    """An invalid address can be in a quarantined body only."""
    database.add(event(ip="300.1.2.3"))
    assert forget_value(search(database, "300.1.2.3"), "delete", "x") == Matches(0, (1,), ())


OBSTACLES = {
    "alter table etl.unmask_audit add constraint no check (false)": (
        "alter table etl.unmask_audit drop constraint no"
    ),
    "revoke insert on etl.unmask_audit from etl": "grant insert on etl.unmask_audit to etl",
    """
    alter table user_logins add primary key (masked_ip, user_id);
    create table child (
        i text, u text, foreign key (i, u) references user_logins (masked_ip, user_id)
    );
    insert into child select masked_ip, user_id from user_logins
    """: "drop table child",
}


def test_all_of_it_or_nothing(database: QuarantineDatabase, keyring: Keyring) -> None:
    """If the audit row cannot be written or a row may not be deleted, nothing is changed."""
    fill(database, keyring)
    database.add(event(ip=IP))
    for ddl, undo in OBSTACLES.items():
        database.do(ddl)
        with pytest.raises(DatabaseRefused):
            forget_value(search(database), "delete", "x")
        assert (len(database.users()), database.closed_as()) == (4, [None])
        database.do(undo)
    assert forget_value(search(database), "delete", "x") == Matches(3, (1,), ())


def test_what_a_replay_moves_meanwhile_is_forgotten_too(database: QuarantineDatabase) -> None:
    """Forget waits for the replay's lock on the entry, and then finds the row."""
    database.add(event(ip=IP))
    results: list[Matches] = []
    work = threading.Thread(
        target=lambda: results.append(forget_value(search(database), "delete", "x"))
    )
    blocked = (
        "select count(*) from pg_stat_activity "
        "where wait_event_type = 'Lock' and datname = current_database()"
    )
    with database.engine.begin() as moving:
        entries.read_open(moving, [1], lock=True)
        work.start()
        until(lambda: database.rows(blocked) == [(1,)])
        moving.execute(
            sa.text("insert into user_logins (user_id, masked_ip) values ('a', :token)"),
            {"token": tokens([IP], database.keyring, "ip")[0]},
        )
        entries.close(moving, [1], "replayed")
    work.join()
    assert results == [Matches(1, (), ())]
    assert database.users() == []


def test_the_command_counts_first_and_acts_on_yes(
    job: Job, keyring: Keyring, settings: Callable[..., Settings]
) -> None:
    """The value comes from standard input and is never printed; exit code 1 means a missing key."""
    database = QuarantineDatabase(job.engine, keyring, settings())
    put(database, "a", "192.0.2.7", keyring)
    put(database, "b", "192.0.2.8", keyring)
    database.add(event(ip="192.0.2.7 "))
    for arguments, printed, left in (
        ((), "found 1 row and 1 quarantined message with this value\n", ["a", "b"]),
        (("--yes", "--null"), "", ["a", "b"]),
        (
            ("--yes",),
            "deleted 1 row and closed 1 quarantined message that had this value\n",
            ["b"],
        ),
        (("--json",), '{"rows": 0, "rows_within": 0, "quarantined": 0, "done": false}\n', ["b"]),
    ):
        done = job.command("forget", "-", "--column", "ip", *arguments, piped="192.0.2.7\n")
        assert (done.returncode, done.stdout) == (2 if "--null" in arguments else 0, printed)
        assert "192.0.2" not in done.stdout + done.stderr
        assert database.users() == left
    other = Keyring.new("k7").dump()
    done = job.command("forget", "-", "--column", "ip", piped="192.0.2.7\n", ETL_KEYRING=other)
    assert done.returncode == 1
    assert "no key in this keyring opens them: 1 row and 0 quarantined messages" in done.stderr


def test_the_command_says_that_it_set_the_column_to_null(job: Job) -> None:
    """With --null no row is deleted, and the printed line does not say so."""
    ip = {"name": "masked_ip", "field": "ip", "type": "ip", "mask": True, "nullable": True}
    columns = {"ETL_TABLE__NAME": "addresses", "ETL_TABLE__COLUMNS": json.dumps([ip])}
    job.command("init", **columns)
    erase = ("forget", "-", "--column", "ip", "--yes", "--null")
    done = job.command(*erase, piped="192.0.2.7\n", **columns)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "set the column to null in 0 rows and closed 0 quarantined messages that had this value\n"
    )


def test_what_is_forgotten_cannot_come_back(database: QuarantineDatabase, tmp_path: Any) -> None:
    """Neither a replay nor the import of an earlier export brings it back."""
    database.add(event(ip=IP))
    path = tmp_path / "before.jsonl"
    transfer.export_entries(database.engine, database.keyring, database.settings, Selection(), path)
    forget_value(search(database), "delete", "x")
    assert transfer.import_entries(database.engine, database.keyring, database.settings, path) == (
        0,
        1,
    )
    assert database.replay().counts.received == 0
    with transaction(database.engine) as connection:
        assert entries.close(connection, [1], "discarded", "x") == []
    assert database.closed_as() == ["forgotten"]


def test_the_value_is_searched_in_every_text_of_a_message(database: QuarantineDatabase) -> None:
    """In other fields, keys, other escapes, text that is not JSON; a body of others stays."""
    name = "Gerät Ü/7"
    database.add(
        event(device_id="x", user_id=name),
        json.dumps({"Type": "Notification", "Message": event(locale={name: 1})}),
        '{"device_id": "Ger\\u00E4t \\u00DC\\/7"',
        event(device_id=f"\ufeff{name}\r\n"),
        event(device_id="Gerät Ü/70"),
    )
    database.add(event(device_id="x"), check="MD5 of body")
    for given in (name, f'"{name}"', f"\u00a0{unicodedata.normalize('NFD', name)}\u200b"):
        matches = find_value(search(database, given, "device_id"))
        assert (matches.entries, matches.searched) == ((1, 2, 3, 4), 6)
    assert forget_value(search(database, name, "device_id"), "delete", "x").entries == (1, 2, 3, 4)
    assert find_value(search(database, "Gerät Ü/70", "device_id")).entries == (5,)


def test_rows_of_every_spelling_are_deleted(database: QuarantineDatabase) -> None:
    """With and without what is around the value, in both Unicode forms; ``exact`` takes one."""
    given = '"Zoë"'
    stored = [given, "Zoë", unicodedata.normalize("NFD", "Zoë"), "zoë", "Zoe"]
    with database.engine.begin() as connection:
        connection.execute(
            sa.text("insert into user_logins (user_id, masked_device_id) values (:user, :token)"),
            [
                {"user": str(n), "token": token}
                for n, token in enumerate(tokens(stored, database.keyring, "device_id"))
            ],
        )
    exact = replace(search(database, given, "device_id"), exact=True)
    assert find_value(exact).rows == 1
    assert forget_value(search(database, given, "device_id"), "delete", "x").rows == 3
    assert database.users() == ["3", "4"]


@pytest.mark.parametrize(
    ("value", "field", "check"),
    [
        ("canary", "ip", "IP address"),
        ("198.51.100.7, 198.51.100.8", "ip", "IP address"),
        ("canary" * 50, "device_id", "length"),
        ("can\0ary", "device_id", "NUL character"),
        ("canary\ud800", "device_id", "lone surrogate"),
    ],
)
def test_a_value_that_the_column_cannot_hold_is_no_answer_of_0_rows(
    database: QuarantineDatabase, value: str, field: str, check: str
) -> None:
    """It is refused without an audit row, unless a message in quarantine has it."""
    database.add(event())
    wanted = replace(search(database, value, field), exact=True)
    for act in (find_value, lambda wanted: forget_value(wanted, "delete", "x")):
        with pytest.raises(UsageError, match=f"check '{check}'.*none of 1 quarantined") as caught:
            act(wanted)
        assert "canary" not in str(caught.value)
    assert database.rows("select count(*) from etl.unmask_audit") == [(0,)]
    database.add(event(**{field: value}))
    assert forget_value(wanted, "delete", "x") == Matches(0, (2,), ())


def test_the_command_never_answers_0_to_what_it_did_not_search(
    job: Job, keyring: Keyring, settings: Callable[..., Settings]
) -> None:
    """It says where it looked; what it could not open or cannot hold is an error."""
    database = QuarantineDatabase(job.engine, keyring, settings())
    erase = ("forget", "-", "--column", "ip")
    done = job.command(*erase, "--json", piped='"192.0.2.7"\r\n')
    assert (done.returncode, json.loads(done.stdout)["rows"]) == (0, 0)
    assert "looked in public.user_logins and in 0 open quarantined messages" in done.stderr
    database.add(event(ip="300.1.2.3"))
    for code, value, words in (
        (0, "300.1.2.3", "looked in 1 open quarantined message only: the value fails the check"),
        (2, "300.1.2.4", "it is in none of 0 quarantined messages"),
        (2, "", "no value on standard input"),
    ):
        done = job.command(*erase, "--yes", piped=value)
        assert (done.returncode, "300.1.2" in done.stderr) == (code, False)
        assert words in done.stderr
    database.add(event(ip="300.1.2.3"), keyring=Keyring.new("k9"))
    done = job.command(*erase, "--yes", piped="300.1.2.4")
    assert done.returncode == 1
    assert "opens them: 0 rows and 1 quarantined message; see" in done.stderr
    for command in ("rows", "token"):
        done = job.command(command, "-", "--column", "ip", piped="300.1.2.3\n")
        assert (done.returncode, done.stdout) == (2, "")
        assert "check 'IP address'" in done.stderr
