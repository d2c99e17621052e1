"""The checker finds each kind of problem, and nothing where there is none."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from etl.crypto.keyring import Keyring
from etl.crypto.seal import seal
from etl.embedded.postgres import EmbeddedPostgres
from tests.acceptance.expected_rows import expected_row
from tests.chaos import checker, oracle
from tests.chaos.messages import Messages, mutate
from tests.chaos.producer import History
from tests.chaos.services import make_tables

KEYRING = Keyring.new("k1")
TODAY = dt.datetime.now(dt.UTC).date()
COUNT = 40
MESSAGES = Messages(seed=5, bad_share=0.2)


class LoadedDatabase:
    """A database as the program would leave it, but filled without the program."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.history = History(MESSAGES, {f"m{n}": n for n in range(COUNT)}, COUNT)
        self.good = [n for n in range(COUNT) if MESSAGES.is_good(n)]
        self.bad = [n for n in range(COUNT) if not MESSAGES.is_good(n)]
        for number in self.good:
            self.load(number)
        for number in self.bad:
            self.quarantine(number)

    def execute(self, statement: str, *parameters: Any) -> None:
        """Execute a statement."""
        connection = psycopg2.connect(self.url)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
        connection.close()

    def load(self, number: int) -> None:
        """Store the row of a good message."""
        now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
        row = expected_row(KEYRING.dump(), MESSAGES.event(number), now_ms)
        self.execute("insert into user_logins values (%s, %s, %s, %s, %s, %s, %s)", *row)

    def quarantine(self, number: int) -> None:
        """Store the quarantine entry of a message."""
        (body,) = seal([MESSAGES.body(number)], [f"m{number}"], KEYRING)
        self.execute(
            "insert into etl.quarantine (job, masked_fields, message_id, run_id, reasons, body) "
            "values ('public.user_logins', '{}', %s, gen_random_uuid(), '[]', %s)",
            f"m{number}",
            body,
        )

    def findings(self) -> dict[str, int]:
        """The checker's counts that are not zero."""
        findings = checker.check(self.history, self.url, KEYRING.dump(), {TODAY})
        names = ("lost", "duplicated", "unexpected", "wrong")
        return {name: getattr(findings, name) for name in names if getattr(findings, name)}


@pytest.fixture
def loaded(postgres: EmbeddedPostgres) -> Iterator[LoadedDatabase]:
    url = postgres.new_database()
    make_tables(url)
    yield LoadedDatabase(url)
    postgres.drop_database(url)


def test_nothing_is_found_where_nothing_is_wrong(loaded: LoadedDatabase) -> None:
    assert loaded.good
    assert loaded.bad
    assert loaded.findings() == {}


def test_a_missing_row_and_a_missing_entry_are_lost(loaded: LoadedDatabase) -> None:
    loaded.execute("delete from user_logins where user_id = %s", MESSAGES.user(loaded.good[0]))
    loaded.execute("delete from etl.quarantine where message_id = %s", f"m{loaded.bad[0]}")
    assert loaded.findings() == {"lost": 2}


def test_a_row_or_an_entry_that_is_there_twice_is_duplicated(loaded: LoadedDatabase) -> None:
    loaded.load(loaded.good[0])
    loaded.quarantine(loaded.bad[0])
    assert loaded.findings() == {"duplicated": 2}


def test_a_good_message_in_quarantine_too_is_duplicated_and_wrong(loaded: LoadedDatabase) -> None:
    loaded.quarantine(loaded.good[0])
    assert loaded.findings() == {"duplicated": 1, "wrong": 1}


def test_a_row_of_a_message_that_was_never_sent_is_unexpected(loaded: LoadedDatabase) -> None:
    loaded.execute(
        "update user_logins set user_id = 'x' where user_id = %s", MESSAGES.user(loaded.good[0])
    )
    assert loaded.findings() == {"lost": 1, "unexpected": 1}


@pytest.mark.parametrize(
    "change",
    [
        "device_type = 'other'",
        "locale = 'XX'",
        "app_version = app_version + 1",
        "create_date = create_date - 1",
        "masked_ip = masked_device_id",
        "masked_device_id = replace(masked_device_id, 'k1.', 'k2.')",
        "masked_ip = 'k1.AAAA'",
    ],
)
def test_a_field_that_differs_is_wrong(loaded: LoadedDatabase, change: str) -> None:
    statement = f"update user_logins set {change} where user_id = %s"
    loaded.execute(statement, MESSAGES.user(loaded.good[0]))
    assert loaded.findings()["wrong"] == 1


def test_a_sealed_body_of_another_message_is_wrong(loaded: LoadedDatabase) -> None:
    message_id = f"m{loaded.bad[0]}"
    (body,) = seal(["{}"], [message_id], KEYRING)
    loaded.execute("update etl.quarantine set body = %s where message_id = %s", body, message_id)
    assert loaded.findings() == {"wrong": 1}


def test_leaks_are_found_in_tables_and_files(loaded: LoadedDatabase, tmp_path: Path) -> None:
    """They are found as text and as bytes, and where one crosses the border of two chunks."""
    canary = MESSAGES.canary
    assert checker.leaks(canary.values, loaded.url, []) == set()
    loaded.execute("create table etl.leak as select %s::text, %s::bytea", canary.word, canary.ipv6)
    file = tmp_path / "output"
    file.write_bytes(b"x" * (checker.CHUNK_BYTES - 3) + canary.word.encode() + b"y" * 100)
    found = checker.leaks(canary.values, loaded.url, [file])
    assert found == {
        ("etl.leak", canary.word, "plain"), ("etl.leak", canary.word, "JSON"),
        ("etl.leak", canary.word, "URL"), ("etl.leak", canary.word, "form"),
        ("etl.leak", canary.ipv6, "hex"),
        *(("output", canary.word, how) for how in ("plain", "JSON", "URL", "form")),
    }  # fmt: skip


def test_the_verdict_is_unknown_when_too_few_faults_fired() -> None:
    """A finding makes it a fail, however few faults fired."""
    clean = checker.Findings()
    assert checker.verdict(clean, Counter(cut=5), {"cut": 5}) == "pass"
    assert checker.verdict(clean, Counter(cut=4), {"cut": 5}) == "unknown"
    assert checker.verdict(checker.Findings(lost=1), Counter(cut=4), {"cut": 5}) == "fail"


def test_the_messages_of_a_seed_are_always_the_same() -> None:
    again = Messages(seed=5, bad_share=0.2)
    assert [again.body(n) for n in range(COUNT)] == [MESSAGES.body(n) for n in range(COUNT)]


def test_a_good_message_contains_the_canary_in_its_personal_fields_only() -> None:
    event = MESSAGES.event(1)
    personal = json.dumps([event.pop("ip").lower(), event.pop("device_id")])
    assert sum(value in personal for value in MESSAGES.canary.values) == 2
    assert not any(value in json.dumps(event) for value in MESSAGES.canary.values)


def test_mutations_make_both_good_and_bad_messages() -> None:
    """None of them is empty, which SQS would refuse."""
    draw = random.Random(1)
    bodies = [mutate(MESSAGES.event(number), draw) for number in range(2000)]
    good = sum(oracle.fields(body) is not None for body in bodies)
    assert 200 < good < 1800
    assert all(bodies)
