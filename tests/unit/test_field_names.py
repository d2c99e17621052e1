"""A field may have several names, while producers send events of the old and of the new kind."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from etl import config, extract
from etl.batch import Batch, prepare
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.errors import SettingsError, UsageError
from etl.frames import ABSENT
from etl.mask import unmask
from etl.operations.csv_table import token_columns
from etl.schema import masked_column
from etl.validate import frame_schema
from tests.unit.builders import EVENT, ROOT, message

KEYRING = Keyring.new("k1")
COLUMNS = yaml.safe_load((ROOT / "config.yaml").read_text())["table"]["columns"]


def load(columns: list[dict[str, Any]], **variables: str) -> Settings:
    """Load config.yaml with these columns, and variables of the environment."""
    environment = {"ETL_TABLE__COLUMNS": yaml.safe_dump(columns), **variables}
    return config.load(ROOT / "config.yaml", environment)


def with_names(**names: Any) -> list[dict[str, Any]]:
    """The columns of config.yaml, with other names of some fields, by column."""
    return [{**c, "field": names[c["name"]]} if c["name"] in names else c for c in COLUMNS]


SEVERAL = with_names(
    masked_ip=["ip", "ip_address", "addr"], user_id=["user_id", "uid"], locale=["locale", "lang"]
)


def read(event: dict[str, Any], settings: Settings | None = None) -> tuple[Any, Any]:
    """Read one event; return the row and the rejects."""
    settings = settings or load(SEVERAL)
    raw, rejects = extract.read(
        [message(json.dumps(event))],
        settings.event_fields,
        other_names=settings.other_names,
        unknown_fields=settings.event.unknown_fields,
    )
    reasons = list(rejects[["column", "check"]].itertuples(index=False, name=None))
    return (raw.iloc[0].to_dict() if len(raw) else None), reasons


def renamed(event: dict[str, Any], **names: str) -> dict[str, Any]:
    """An event with other names of its fields."""
    return {names.get(name, name): value for name, value in event.items()}


@pytest.mark.parametrize("name", ["ip", "ip_address", "addr"])
def test_the_name_that_is_present_is_read(name: str) -> None:
    """The raw frame has the value under the first name."""
    row, reasons = read(renamed(EVENT, ip=name))
    assert (row["ip"], reasons) == (EVENT["ip"], [])
    assert not {"ip_address", "addr"} & set(row)


def test_none_of_the_names_is_absent() -> None:
    """The check for a missing field then finds it."""
    row, _ = read({name: value for name, value in EVENT.items() if name != "ip"})
    assert row["ip"] is ABSENT


VALUES: list[tuple[list[Any], Any]] = [
    (["a", "a", "a"], "a"),
    (["a", None, "a"], "a"),
    ([None, "a", None], "a"),
    ([None, None, None], None),
    ([[1, {"b": 2, "c": 3}]] * 3, [1, {"b": 2, "c": 3}]),
    ([1, 1, 1], 1),
]


@pytest.mark.parametrize(("values", "expected"), VALUES, ids=str)
def test_equal_values_and_nulls_are_one_value(values: list[Any], expected: Any) -> None:
    """Whatever their order; a null beside a value counts as absent."""
    for order in itertools.permutations(values):
        names = ("ip", "ip_address", "addr")
        row, reasons = read({**EVENT, **dict(zip(names, order, strict=True))})
        assert (row["ip"], reasons) == (expected, [])


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "b"), ("a", "A"), ("a", ""), (1, "1"), (1, True), (1, 1.0), (0, False), ([], {})],
)
def test_different_values_are_a_reject(first: Any, second: Any) -> None:
    """The check is named after what is wrong, and the column after the field's first name."""
    assert read({**EVENT, "ip": first, "ip_address": second}) == (None, [("ip", "two values")])
    event = renamed(EVENT, ip="x")
    assert read({**event, "addr": first, "ip_address": second}) == (None, [("ip", "two values")])


def test_every_name_is_a_known_field() -> None:
    """Only other fields are rejected, if the settings say so."""
    strict = load(SEVERAL, ETL_EVENT__UNKNOWN_FIELDS="reject")
    assert read({**renamed(EVENT, ip="addr", locale="lang"), "uid": EVENT["user_id"]}, strict)[0]
    assert read({**EVENT, "address": 1}, strict) == (None, [("message", "unknown field")])


def prepared(event: dict[str, Any], settings: Settings) -> Batch:
    """The batch of one event, masked."""
    schema = frame_schema(settings.table.columns)
    return prepare([message(json.dumps(event))], settings, schema, KEYRING, "run")


def test_a_value_has_one_token_under_every_name() -> None:
    """It is bound to the first name, which is the one from before."""
    one, several = load(COLUMNS), load(SEVERAL)
    (token,) = prepared(EVENT, one).masked["masked_ip"]
    for name in ("ip", "ip_address", "addr"):
        masked = prepared(renamed(EVENT, ip=name), several).masked
        assert list(masked["masked_ip"]) == [token]
        assert list(masked.columns) == list(prepared(EVENT, one).masked.columns)
    assert unmask(token, KEYRING, "ip") == EVENT["ip"]


@pytest.mark.parametrize("key", ["ip", "ip_address", "addr"])
@pytest.mark.parametrize("name", ["ip", "ip_address", "addr"])
def test_the_ledger_key_reads_every_name(key: str, name: str) -> None:
    """The fingerprints are those of each name, whichever name the setting and the event have."""
    settings = load(SEVERAL, ETL_LEDGER__KEY=f"field:{key}")
    several = prepared(renamed(EVENT, ip=name), settings).fingerprints
    one_by_one = []
    for only in ("ip", "ip_address", "addr"):
        alone = load(with_names(masked_ip=only), ETL_LEDGER__KEY=f"field:{only}")
        one_by_one.append(prepared(renamed(EVENT, ip=only), alone).fingerprints)
    assert several == {
        message_id: tuple(made[message_id][0] for made in one_by_one) for message_id in several
    }
    assert len(several) == 1
    assert settings.event_fields == load(SEVERAL).event_fields


def test_a_ledger_key_of_its_own_stays() -> None:
    """A field that no column reads has one name."""
    settings = load(SEVERAL, ETL_LEDGER__KEY="field:order_id")
    assert settings.ledger.key == "field:order_id"
    assert settings.event_fields[-1] == "order_id"


@pytest.mark.parametrize("name", ["ip", "ip_address", "addr", "masked_ip"])
def test_a_column_is_found_by_every_name(name: str) -> None:
    """In a command's option, and as the head of a CSV file."""
    table = load(SEVERAL).table
    column = masked_column(table, name)
    assert column.name == "masked_ip"
    assert token_columns([name, "x"], [column]) == {name: column}


def test_an_unknown_name_is_answered_with_all_that_are_known() -> None:
    """The user sees every name that can be typed."""
    with pytest.raises(UsageError, match="masked are ip, ip_address, addr, device_id"):
        masked_column(load(SEVERAL).table, "locale")


def test_one_name_in_a_list_is_one_name() -> None:
    """The settings are the same, and so is their hash."""
    one = load(with_names(masked_ip=["ip"]))
    assert one.table.columns[2].field == "ip"
    assert (one.config_hash, one.other_names) == (load(COLUMNS).config_hash, {})


def test_the_first_name_is_the_source_and_the_context() -> None:
    """Unless the context is configured."""
    column = Column(name="c", field=("a", "b"), type="text", mask=True)
    assert (column.fields, column.source, column.masking_context) == (("a", "b"), "a", "a")
    assert column.model_copy(update={"context": "x"}).masking_context == "x"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"masked_ip": []}, "column 'masked_ip': 'field' must be a name, or a list of names"),
    ({"masked_ip": ""}, "must be a name, or a list of names"),
    ({"masked_ip": ["ip", ""]}, "must be a name, or a list of names"),
    ({"masked_ip": ["ip", None]}, "must be a name, or a list of names"),
    ({"masked_ip": {"ip": 1}}, "must be a name, or a list of names"),
    ({"masked_ip": [["ip"]]}, "must be a name, or a list of names"),
    ({"masked_ip": ["ip", "ip"]}, "name 'ip' is listed twice"),
    ({"masked_ip": ["ip", "device_id"]}, "'device_id' is read by two columns"),
    ({"masked_ip": ["ip", "a"], "locale": ["b", "a"]}, "'a' is read by two columns"),
    (
        {"masked_ip": ["ip", "masked_device_id"]},
        "masked column 'masked_device_id' has the name of a field of 'masked_ip'",
    ),
]


@pytest.mark.parametrize(("names", "problem"), REFUSED, ids=lambda value: str(value)[:40])
def test_names_that_cannot_be_told_apart_are_refused(names: dict[str, Any], problem: str) -> None:
    """At the start, with the name."""
    with pytest.raises(SettingsError) as caught:
        load(with_names(**names))
    assert problem in str(caught.value)
    assert ";" not in str(caught.value)


def test_a_column_may_be_called_like_one_of_its_own_names(tmp_path: Path) -> None:
    """It is the same value then."""
    settings = load([{"name": "ip_address", "field": ["ip", "ip_address"], "type": "ip"}])
    batch = prepared({"ip_address": "198.51.100.7"}, settings)
    assert list(batch.masked["ip_address"]) == ["198.51.100.7"]
    assert batch.rejects.empty
