"""What a run stores of values that are read leniently, and that a search by a value finds them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import yaml

from etl.config import Settings
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError
from etl.mask import unmask
from etl.operations.forget import Search, find_value
from etl.postgres import first_use
from etl.postgres.creation import create_tables
from etl.postgres.engine import transaction
from etl.schema import masked_column
from tests.conftest import KEYRING, Job
from tests.unit.builders import some_long

COLUMNS = """
- {name: masked_device, field: device, type: text, mask: true, clean: [strip, nfc, lower],
   null_values: [unknown], nullable: true}
- {name: masked_ip, field: xff, type: ip, mask: true, pick: last, accept: [port], clean: [strip]}
- {name: net, field: xff, type: ip, pick: last, accept: [port], clean: [strip], network: 24}
- {name: net_text, field: xff, type: ip, pick: last, accept: [port], clean: [strip], network: 24,
   max_length: 43}
- {name: count, field: count, type: integer, accept: [text, whole_float]}
"""
EVENTS = [
    {"device": "Ä-1", "xff": "10.0.0.1, 198.51.100.7:443", "count": "5"},
    {"device": "a\u0308-1 ", "xff": ["::1", "198.51.100.7"], "count": 5.0},
    {"device": "UNKNOWN", "xff": " 2001:DB8:1:2::3", "count": 5},
    {"device": "ä-1", "xff": "x", "count": 1},
]


@pytest.mark.parametrize("method", some_long(["multi", "copy"]))
def test_a_run_cleans_what_it_stores_and_counts_it(
    method: str, job: Job, settings: Callable[..., Settings]
) -> None:
    """Equal values have one token, and any of their spellings finds the rows and the messages."""
    job.send(*map(json.dumps, EVENTS))
    summary = job.run(ETL_TABLE__COLUMNS=COLUMNS, ETL_LOAD__METHOD=method)
    assert (summary["loaded"], summary["quarantined"]) == (3, 1)
    assert summary["notes"] == {
        "device: changed: strip": 1,
        "device: changed: nfc": 1,
        "device: changed: lower": 2,
        "device: changed: null_values": 1,
        "xff: changed: pick": 2,
        "xff: changed: strip": 1,
        "xff: changed: port": 1,
        "count: changed: text": 1,
        "count: changed: whole_float": 1,
    }
    rows = job.rows("select *, pg_typeof(net)::text from user_logins order by net")
    assert [row[2:] for row in rows] == [
        ("198.51.100.0/24", "198.51.100.0/24", 5, "inet"),
        ("198.51.100.0/24", "198.51.100.0/24", 5, "inet"),
        ("2001:db8:1::/48", "2001:db8:1::/48", 5, "inet"),
    ]
    assert rows[0][:2] == rows[1][:2]
    assert rows[2][0] is None
    assert unmask(rows[0][0], KEYRING, "device") == "ä-1"
    assert [unmask(row[1], KEYRING, "xff") for row in rows] == [
        "198.51.100.7",
        "198.51.100.7",
        "2001:db8:1:2::3",
    ]
    loaded = settings(table__columns=yaml.safe_load(COLUMNS))
    column = masked_column(loaded.table, "device")
    for spelling in ("ä-1", " Ä-1", "A\u0308-1"):
        found = find_value(Search(job.engine, loaded, KEYRING, column, spelling))
        assert (found.rows, len(found.entries)) == (2, 1), spelling


def with_cleaning(settings: Callable[..., Settings], *steps: str) -> Settings:
    """A job with one masked column, which takes these steps."""
    column = {"name": "masked_device", "field": "device", "type": "text", "mask": True}
    return settings(table__columns=[{**column, "clean": list(steps)}])


def test_cleaning_in_another_way_is_refused_once_a_run_has_begun(
    engine: sa.Engine, settings: Callable[..., Settings], keyring: Keyring
) -> None:
    """Equal values would get other tokens; the error has the line to write."""
    create_tables(engine, with_cleaning(settings).table)
    with transaction(engine) as connection:
        first_use.record(connection, with_cleaning(settings, "strip", "lower"), keyring)
    first_use.check(engine, with_cleaning(settings, "strip", "lower"), keyring)
    for steps in ((), ("strip",), ("lower", "strip")):
        with pytest.raises(SettingsError) as caught:
            first_use.check(engine, with_cleaning(settings, *steps), keyring)
        assert "before they were masked by strip, lower, and now by" in str(caught.value)
        (line,) = yaml.safe_load("\n".join(str(caught.value).splitlines()[1:]))
        assert line["clean"] == ["strip", "lower"]


def test_a_database_of_an_earlier_version_remembers_that_nothing_was_cleaned(
    engine: sa.Engine, settings: Callable[..., Settings], keyring: Keyring
) -> None:
    """A command that only looks needs no new column there."""
    plain, cleaned = with_cleaning(settings), with_cleaning(settings, "strip")
    create_tables(engine, plain.table)
    with transaction(engine) as connection:
        first_use.record(connection, plain, keyring)
        connection.exec_driver_sql("alter table etl.masked_columns drop column cleaning")
    for _ in ("earlier", "updated"):
        first_use.check(engine, plain, keyring)
        with pytest.raises(SettingsError, match="masked by nothing, and now by strip"):
            first_use.check(engine, cleaned, keyring)
        create_tables(engine, plain.table)
