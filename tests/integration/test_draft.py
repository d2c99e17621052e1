"""From a queue of unknown events to rows: ``etl draft``, and a run with what it wrote."""

from __future__ import annotations

import json
import random
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from etl.cli import main
from etl.crypto.tokens import TOKEN
from etl.embedded.sqs import EmbeddedSqs
from etl.errors import SettingsError
from tests import fork_server
from tests.acceptance.leak_scan import search
from tests.conftest import Job
from tests.integration.test_peek import CANARY, Place
from tests.unit.builders import event, some_long

COLUMNS = """
select column_name, data_type, character_maximum_length, is_nullable, column_default
from information_schema.columns where table_name = 'orders' order by ordinal_position
"""


def order(number: int) -> dict[str, Any]:
    """A made-up order, nested and with gaps."""
    chance = random.Random(number)
    made: dict[str, Any] = {
        "orderId": str(uuid.UUID(int=chance.getrandbits(128))),
        "createdAt": f"2026-11-28T10:{number:02}:00+01:00",
        "customer": {
            "id": 1000 + number,
            "email": f"customer{number}@example.org",
            "address": {"street": f"Main Street {number}", "city": "Ulm"},
        },
        "amount": round(chance.uniform(1, 500), 2),
        "paid": number % 2 == 0,
        "note": None if number % 3 else "to the back door",
        "items": [{"sku": f"A-{number}", "count": 1}],
        "clientIp": f"203.0.113.{number}",
    }
    if number % 4 == 0:
        del made["customer"]["address"], made["amount"]
    return made


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_a_draft_loads_the_queue_that_it_was_made_from(
    job: Job, tmp_path: Path, method: str
) -> None:
    """As it is; the personal columns are tokens, and the table is the one of table.sql."""
    orders = [order(number) for number in range(20)]
    job.send(*map(json.dumps, orders))
    done = job.command("draft", "--table", "orders", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "given back: 20; it was receive 1 of 100 (maxReceiveCount)" in done.stderr
    file = str(tmp_path / "config.yaml")
    summary = job.run("--config", file, ETL_LOAD__METHOD=method)
    assert (summary["loaded"], summary["quarantined"], job.left()) == (20, 0, 0)
    rows = job.rows(
        "select order_id::text, customer_id, masked_customer_email, masked_client_ip, "
        "masked_customer_address_street, customer_address_city, amount::float8, paid, note, "
        "created_at at time zone 'UTC' from orders order by customer_id"
    )
    for made, row in zip(orders, rows, strict=True):
        address = made["customer"].get("address", {})
        assert row[:2] == (made["orderId"], made["customer"]["id"])
        assert [is_token(value) for value in row[2:5]] == [True, True, bool(address)]
        assert row[5:9] == (address.get("city"), made.get("amount"), made["paid"], made["note"])
        assert f"{row[9]:%Y-%m-%dT%H:%M}" == made["createdAt"][:16].replace("T10", "T09")
    by_init = job.rows(COLUMNS)
    with job.engine.begin() as connection:
        connection.exec_driver_sql("drop table orders")
        connection.exec_driver_sql((tmp_path / "table.sql").read_text())
    assert job.rows(COLUMNS) == by_init


def is_token(value: str | None) -> bool:
    """Whether a value is a token of the key of the tests."""
    return value is not None and re.fullmatch(TOKEN, value) is not None


def draft(place: Place, folder: Path, *arguments: str) -> Any:
    """Draft from the queue, without a database and without keys."""
    given = ("draft", "--output", str(folder), *arguments)
    return fork_server.run(given, place.environment, None)


def test_a_draft_shows_no_value_and_changes_no_more_than_the_receive_counts(
    sqs: EmbeddedSqs, tmp_path: Path
) -> None:
    """Not in a file, not in the log; and what is there already is not replaced or received for."""
    place = Place(sqs)
    odd = json.dumps({CANARY[2]: {CANARY[0]: CANARY[1]}, CANARY[0]: [CANARY[3]]})
    good = event(user_id=CANARY[0], ip=CANARY[1], device_id=CANARY[3], inner={CANARY[2]: 1})
    place.send(*[good] * 7, odd, CANARY[0])
    place.environment["ETL_LOG__LEVEL"] = "debug"
    done = draft(place, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "after 5 receives (maxReceiveCount)" in done.stderr
    assert "1 of 9 messages failed message: JSON" in done.stdout
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {*files} == {"config.yaml", "table.sql"}
    places = {**files, "out": done.stdout.encode(), "err": done.stderr.encode()}
    assert search(places.items(), CANARY) == set()
    again = draft(place, tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "config.yaml' exists already" in again.stderr
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert place.counts() == (9, 0)
    assert {count for _, count in place.received()} == {2}


@pytest.mark.parametrize(
    ("maximum", "bodies", "message"),
    [(3, [event()] * 6, "maxReceiveCount is 3"), (5, [], "no draft: the queue is empty"),
     (5, [event()] * 4, "; found: 4;")],
)  # fmt: skip
def test_where_there_is_nothing_to_draft_from_no_file_is_written(
    sqs: EmbeddedSqs, tmp_path: Path, maximum: int, bodies: list[str], message: str
) -> None:
    """And what was received is given back."""
    place = Place(sqs, max_receive_count=maximum)
    place.send(*bodies)
    done = draft(place, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert place.counts() == (len(bodies), 0)


@pytest.mark.long
def test_a_draft_that_leaves_few_receives_says_so(sqs: EmbeddedSqs, tmp_path: Path) -> None:
    """The files are there, since the receives are used already."""
    place = Place(sqs, max_receive_count=4)
    place.send(*[event()] * 6)
    for number in (1, 2, 3):
        done = draft(place, tmp_path / f"{number}")
        assert done.returncode == (1 if number == 3 else 0), done.stderr
    assert "this look was receive 3; load the messages before you look again" in done.stderr
    assert (tmp_path / "3" / "config.yaml").exists()


def test_a_first_draft_needs_no_configuration(
    sqs: EmbeddedSqs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder without a config.yaml, the environment says which queue."""
    place = Place(sqs)
    place.send(*[event()] * 5)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["draft"], env=place.environment)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "config.yaml").exists()
    named = CliRunner().invoke(main, ["draft", "--config", "none.yaml"], env=place.environment)
    assert isinstance(named.exception, SettingsError)
