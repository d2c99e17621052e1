"""The kinds of masks: what each of them stores, and which configurations would leak."""

from __future__ import annotations

import base64
import hmac
import json
import re
from typing import Any

import pandas as pd
import pytest
from Crypto.Hash import SHA512
from Crypto.Protocol.KDF import HKDF
from pydantic import ValidationError

from etl import mask
from etl.batch import prepare
from etl.checks.configured import check_columns
from etl.config import Column, Settings, Table
from etl.crypto.keyring import Keyring
from etl.crypto.tokens import ONE_WAY_TOKEN, TOKEN, longest_value
from etl.errors import KeyringError, SettingsError, UnmaskError, UsageError
from etl.operations.body_search import BodySearch
from etl.operations.forget import Search
from etl.operations.lookup import tokens_of, tokens_of_spellings
from etl.operations.masked_before import check_masking
from etl.postgres import contexts
from etl.postgres.contexts import FirstLoad
from etl.reading.partial import shown_part
from etl.schema import column_checks, sql_type
from etl.validate import frame_schema
from tests.unit.builders import message
from tests.unit.test_contexts import NOW

KEYRING = Keyring.new("k1")
ROTATED = KEYRING.with_new("k2")


def column(**changes: Any) -> Column:
    """A masked column."""
    return Column.model_validate({"name": "a", "field": "x", "type": "text", **changes})


def settings(*columns: dict[str, Any], **sections: Any) -> Settings:
    """Settings with these columns, by default of type text."""
    listed = [{"type": "text", "nullable": True, "required": False, **c} for c in columns]
    return Settings.model_validate({"table": {"columns": listed}, **sections})


def loaded(wanted: Settings, *events: Any, keyring: Keyring = KEYRING) -> Any:
    """The masked frame of these events, and the rejects."""
    check_columns(wanted.table.columns)
    messages = [message(json.dumps(event), number) for number, event in enumerate(events)]
    schema = frame_schema(wanted.table.columns)
    return prepare(messages, wanted, schema, keyring, "run")


HMAC = {"name": "a", "field": "x", "mask": "hmac"}


def test_a_batch_of_nulls_has_no_one_way_token() -> None:
    """Each null stays null."""
    found = loaded(settings({**HMAC, "nullable": True}), {"x": None}, {"x": None})
    assert found.masked["a"].tolist() == [None, None]


def test_a_one_way_token_is_an_hmac_that_anybody_with_the_key_can_make_again() -> None:
    """Under a key that HKDF derives for the context."""
    (token,) = loaded(settings(HMAC), {"x": "ö-1"}).masked["a"]
    derived = HKDF(KEYRING.key("k1"), 64, b"", SHA512, context=b"etl:v1:k1:hmac:x")
    mac = hmac.digest(derived, "ö-1".encode(), "sha256")
    assert token == "k1:" + base64.urlsafe_b64encode(mac).decode().rstrip("=")
    assert re.fullmatch(ONE_WAY_TOKEN, token)
    assert re.fullmatch(TOKEN, token)


def test_equal_values_have_equal_one_way_tokens_after_a_rotation() -> None:
    """And null stays null; the other kind has the new primary key."""
    wanted = settings(HMAC, {"name": "b", "field": "x", "mask": "siv"})
    before = loaded(wanted, {"x": "one"}, {"x": None}, {"x": "two"}).masked
    after = loaded(wanted, {"x": "one"}, keyring=ROTATED).masked
    assert before["a"][0] == after["a"][0] != before["a"][2]
    assert before["a"][1] is None
    assert (before["b"][0][:3], after["b"][0][:3]) == ("k1.", "k2.")


def test_a_member_of_the_keyring_names_the_key_of_one_way_tokens() -> None:
    """By default it is the first one. The member stays in every keyring made of this one."""
    named = Keyring.parse(ROTATED.dump().replace("{", '{"hmac": "k2", ', 1), source="here")
    kept = Keyring.parse(named.with_new("k3").with_primary("k1").dump(), source="here")
    assert [ring.one_way for ring in (KEYRING, ROTATED, named, kept)] == ["k1", "k1", "k2", "k2"]
    assert "hmac" not in json.loads(ROTATED.dump())


@pytest.mark.parametrize("member", ['"k9"', "7", '["k1"]'])
def test_a_keyring_without_the_named_key_is_refused(member: str) -> None:
    """As with a primary key that is not there."""
    with pytest.raises(KeyringError, match="hmac"):
        Keyring.parse(KEYRING.dump().replace("{", f'{{"hmac": {member}, ', 1), source="here")


def test_a_one_way_token_is_never_opened() -> None:
    """Neither as one nor in a column, whatever the key."""
    (token,) = loaded(settings(HMAC), {"x": "one"}).masked["a"]
    with pytest.raises(UnmaskError):
        mask.unmask(token, KEYRING, "x")
    assert mask.remask([token], ROTATED, "x").tolist() == [None]


def test_a_one_way_token_has_one_length_so_only_its_column_is_checked() -> None:
    """A column that is too narrow is refused at the start."""
    with pytest.raises(SettingsError, match="at least 60"):
        check_columns((column(mask="hmac", max_length=59),))
    long = loaded(settings({**HMAC, "max_length": 60}), {"x": "x" * 10_000}).masked
    assert len(long["a"][0]) == 46


NUMBERS = {
    "smallint": [(5, "5"), (-5, "-5")],
    "integer": [(0, "0"), (2**31 - 1, "2147483647")],
    "bigint": [(-(2**63), str(-(2**63)))],
    "decimal": [(1.5, "1.5"), (5, "5"), (0.10, "0.1")],
    "date": [("1990-05-17", "1990-05-17")],
    "uuid": [("424CDD21-063a-43a7-b91b-7ca1a833afae", "424cdd21-063a-43a7-b91b-7ca1a833afae")],
}


@pytest.mark.parametrize("kind", ["siv", "hmac"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_masked_by_its_text(name: str, kind: str) -> None:
    """The value that a person gives is text, and is found by the same token."""
    wanted = settings({"name": "a", "field": "x", "type": name, "mask": kind})
    for value, text in NUMBERS[name]:
        batch = loaded(wanted, {"x": value})
        assert batch.rejects.empty
        (token,) = batch.masked["a"]
        assert [*tokens_of(text, wanted.table.columns[0], KEYRING).values()] == [token]
        if kind == "siv":
            assert mask.unmask(token, KEYRING, "x") == text


def test_equal_decimals_have_one_token() -> None:
    """However many zeros they are written with, and whether with an exponent."""
    wanted = settings({"name": "a", "field": "x", "type": "decimal", "mask": True})
    schema = frame_schema(wanted.table.columns)
    written = [message(f'{{"x": {text}}}', n) for n, text in enumerate(["1.5", "1.50", "15e-1"])]
    assert prepare(written, wanted, schema, KEYRING, "run").masked["a"].nunique() == 1


@pytest.mark.parametrize("value", ["05", "5.0", "five", "True", "2147483648", "NaN", "[5]", ""])
def test_a_value_that_the_type_cannot_hold_is_refused(value: str) -> None:
    """So a search never answers that nothing was found."""
    with pytest.raises(UsageError, match="fails the check"):
        tokens_of(value, column(type="integer", mask=True), KEYRING)


def test_a_number_is_found_among_the_usual_wrappings() -> None:
    """Quotes and spaces around it come from a shell or a spreadsheet."""
    found = tokens_of_spellings(' "5" ', column(type="integer", mask=True), KEYRING)
    assert [text for _, text in found] == ["5"]
    assert BodySearch(column(type="integer", mask=True), ["5"]).finds('{"x": 5}')


UUID = "424cdd21-063a-43a7-b91b-7ca1a833afae"


@pytest.mark.parametrize(
    ("kind", "value", "written", "expected"),
    [
        ("bigint", "4111111111111234", "4111111111111234.0", True),
        ("bigint", "4111111111111234", "4.111111111111234e15", True),
        ("bigint", "4111111111111234", "4111111111111234.5", False),
        ("decimal", "-1.5", "-1.50", True),
        ("uuid", UUID, UUID.title(), True),
        ("text", "4711", "4711.0", False),
    ],
)  # fmt: skip
def test_a_value_in_a_text_is_found_in_each_form_that_is_loaded_as_it(
    kind: str, value: str, written: str, expected: bool
) -> None:
    """`accept: [text]` takes a number as text, and a UUID is the same in any letters."""
    body = json.dumps({"x": written, "y": "bad"})
    assert BodySearch(column(type=kind, mask=True), [value]).finds(body) == expected


def test_a_uuid_is_looked_for_in_both_cases() -> None:
    """A body has it as it was sent."""
    wanted = settings({"name": "a", "field": "x", "type": "uuid", "mask": True})
    given = "424CDD21-063a-43a7-b91b-7ca1a833afae"
    engine: Any = None
    search = Search(engine, wanted, KEYRING, wanted.table.columns[0], given)
    assert search.spellings == [given, given.lower(), given.upper()]


def test_the_token_of_a_number_fits_into_its_column() -> None:
    """The length of what is masked is that of its text; a bad value fails its own check only."""
    narrow = column(type="decimal", mask=True, max_length=60)
    ((_, length),) = [check for check in column_checks(narrow) if check[0] == "length"]
    digits = longest_value(60, 16)
    assert length([10**digits, 10 ** (digits - 1), None, 2.5]) == [0]
    assert str(sql_type(narrow)) == "VARCHAR(60)"


@pytest.mark.parametrize(
    ("changes", "value", "stored"),
    [
        ({"keep_last": 4}, "4111111111111234", "****1234"),
        ({"keep_last": 4}, "12345678", "****5678"),
        ({"keep_last": 4}, "1234567", "****"),
        ({"keep_last": 1}, "12345", "****5"),
        ({"keep_last": 1}, "1234", "****"),
        ({"keep_last": 8}, "1" * 15, "****"),
        ({"keep_last": 4}, "", "****"),
        ({"keep_domain": True}, "anna.b@Example.COM", "****@example.com"),
        ({"keep_domain": True}, '"a@b"@mail.example.org', "****@mail.example.org"),
        ({"keep_domain": True}, "anna@bücher.example", "****@bücher.example"),
        ({"keep_domain": True}, "anna@xn--bcher-kva.xn--p1ai", "****@xn--bcher-kva.xn--p1ai"),
        ({"keep_domain": True}, "anna@localhost", "****"),
        ({"keep_domain": True}, "anna@192.0.2.1", "****"),
        ({"keep_domain": True}, "anna@[192.0.2.1]", "****"),
        ({"keep_domain": True}, "@example.com", "****"),
        ({"keep_domain": True}, "anna@", "****"),
        ({"keep_domain": True}, "anna@home, 7 High St.", "****"),
        ({"keep_domain": True}, "call 0151 23", "****"),
    ],
)
def test_a_part_is_shown_of_a_value_that_hides_more(
    changes: dict[str, Any], value: str, stored: str
) -> None:
    """The number of asterisks is always the same."""
    assert shown_part(column(mask="partial", **changes))(value) == stored
    wanted = settings({"name": "a", "field": "x", "mask": "partial", **changes})
    assert loaded(wanted, {"x": value}, {"x": None}).masked["a"].tolist() == [stored, None]


def test_the_last_digits_of_a_number_are_shown() -> None:
    """They are those of its text."""
    wanted = settings({**HMAC, "type": "bigint", "mask": "partial", "keep_last": 4})
    assert loaded(wanted, {"x": 4111111111111234}).masked["a"].tolist() == ["****1234"]


def test_what_is_shown_fits_into_its_column() -> None:
    """A longer domain is a reject."""
    wanted = settings({**HMAC, "mask": "partial", "keep_domain": True, "max_length": 10})
    rejects = loaded(wanted, {"x": "a@long.example"}, {"x": "anna.bell@b.de"}).rejects
    assert rejects.to_numpy().tolist() == [["m0", "x", "length"]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mask": "sha1"}, "true, false, siv, hmac or partial"),
        ({"mask": "partial"}, "needs 'keep_last'"),
        ({"mask": "partial", "keep_last": 4, "keep_domain": True}, "needs 'keep_last'"),
        ({"mask": "partial", "keep_last": 4, "context": "c"}, "'context'"),
        ({"mask": "partial", "keep_last": 4, "type": "ip"}, "too much"),
        ({"mask": "partial", "keep_domain": True, "type": "uuid"}, "type 'text'"),
        ({"mask": "partial", "keep_last": 4, "max_length": 7}, "needs 8"),
        ({"mask": True, "keep_last": 4}, "only 'mask: partial'"),
        ({"keep_domain": True}, "only 'mask: partial'"),
        ({"mask": "hmac", "type": "boolean"}, "can be masked"),
        ({"mask": True, "type": "json"}, "can be masked"),
    ],
)
def test_a_mask_that_hides_nothing_is_refused(changes: dict[str, Any], words: str) -> None:
    """With a sentence that says what can be written."""
    with pytest.raises(ValidationError, match=words):
        column(**changes)


PLAIN = {"name": "p", "field": "x"}
NESTED = {"name": "a", "field": "c.email", "mask": "hmac"}
LISTED = {"name": "a", "field": "items[0].sku", "mask": True}


@pytest.mark.parametrize(
    ("columns", "drop"),
    [
        ([HMAC, PLAIN], []),
        ([{**HMAC, "mask": "partial", "keep_last": 4}, PLAIN], []),
        ([{**HMAC, "field": ["y", "x"]}, PLAIN], []),
        ([NESTED, {**PLAIN, "field": "c.email.domain"}], []),
        ([NESTED, {**PLAIN, "field": "c"}], []),
        ([NESTED, {**PLAIN, "field": "c", "array": True}], []),
        ([NESTED, {**PLAIN, "field": "c.email", "type": "json"}], []),
        ([NESTED, {**PLAIN, "field": ["d", "c.email"]}], []),
        ([LISTED, {**PLAIN, "field": "items[1].sku"}], []),
        ([{**attribute, "field": None, "message_attribute": "m"} for attribute in (HMAC, PLAIN)],
         []),
        ([{**attribute, "field": None, "attribute": "SenderId"} for attribute in (HMAC, PLAIN)],
         []),
        ([PLAIN], ["x"]),
        ([HMAC], ["x"]),
        ([{**PLAIN, "field": "x.y"}], ["x"]),
        ([{**PLAIN, "field": "x"}], ["x.y"]),
    ],
)  # fmt: skip
def test_a_configuration_that_would_store_what_is_hidden_is_refused(
    columns: list[Any], drop: list[str]
) -> None:
    """A field, a part of it, or what is around it; under each of its names."""
    with pytest.raises(ValidationError, match=r"and column '[pa]'|different lists"):
        settings(*columns, event={"drop": drop})


def test_a_part_of_a_value_does_not_identify_a_row() -> None:
    """Two people may have the same last digits; their tokens tell them apart."""
    key = {"on_conflict": "skip", "key": ["a"]}
    columns = [{"name": "a", "field": "x", "type": "text", "mask": "hmac"}]
    assert Table.model_validate({"columns": columns, **key}).key == ("a",)
    columns[0] |= {"mask": "partial", "keep_domain": "true"}
    with pytest.raises(ValidationError, match="shows a part of its value only"):
        Table.model_validate({"columns": columns, **key})


def test_one_field_may_be_shown_in_part_beside_its_token() -> None:
    """Two kinds of masks hide the same value."""
    last = {"name": "b", "field": "x", "mask": "partial", "keep_last": 4}
    masked = loaded(settings(HMAC, last), {"x": "593-47-5928"}).masked
    assert masked["a"][0].startswith("k1:")
    assert masked["b"][0] == "****5928"


EVENT = {
    "c": {"email": "a@b.de", "name": "A", "phones": [{"no": 1, "kind": "m"}]},
    "items": [{"sku": "s1", "n": 1}, {"sku": "s2", "n": 2}],
    "old": {"email": "a@b.de"},
    "n": 1.5,
}


def test_a_json_column_is_stored_without_what_is_hidden() -> None:
    """Masked or dropped, in every item of a list, under every name; the columns still have it."""
    wanted = settings(
        {"name": "a", "field": ["c.email", "old.email"], "mask": True},
        LISTED | {"name": "b"},
        {"name": "whole", "field": "$", "type": "json"},
        {"name": "customer", "field": ["old", "c"], "type": "json"},
        {"name": "n", "field": "n", "type": "decimal"},
        event={"drop": ["c.phones[0].no", "ip"], "unknown_fields": "reject"},
    )
    without_old = {name: value for name, value in EVENT.items() if name != "old"}
    batch = loaded(wanted, {**without_old, "ip": "192.0.2.1"})
    assert batch.rejects.empty
    (row,) = batch.masked.to_dict(orient="records")
    assert json.loads(str(row["whole"])) == {
        "c": {"name": "A", "phones": [{"kind": "m"}]},
        "items": [{"n": 1}, {"n": 2}],
        "n": 1.5,
    }
    assert json.loads(str(row["customer"])) == {"name": "A", "phones": [{"kind": "m"}]}
    assert mask.unmask(row["a"], KEYRING, "c.email") == "a@b.de"
    assert mask.unmask(row["b"], KEYRING, "items[0].sku") == "s1"


def test_a_dropped_field_is_known() -> None:
    """It is no unknown field; its neighbours are."""
    drop = {"drop": ["x", "c.email"], "unknown_fields": "reject"}
    wanted = settings({"name": "p", "field": "y"}, event=drop)
    known = {"y": "1", "x": 2, "c": {"email": 1}}
    batch = loaded(wanted, known, {**known, "c": {"email": 1, "name": 2}})
    assert batch.rejects["message_id"].tolist() == ["m1"]
    assert wanted.masked_fields == {"x", "c.email"}


def entries(wanted: Settings, *masked: str) -> None:
    """Check what a replay would store of an entry."""
    check_masking(wanted, {masked: 1}, ())


@pytest.mark.parametrize(
    ("field", "kind"),
    [("c.email", "text"), ("c.email.domain", "text"), ("c", "json"), ("$", "json")],
)
def test_a_replay_stores_nothing_that_was_hidden_when_it_was_quarantined(
    field: str, kind: str
) -> None:
    """The field, a part of it, or what is around it; unless it is hidden now, too."""
    plain = settings({"name": "p", "field": field, "type": kind})
    with pytest.raises(UsageError, match="of 1 entry was masked"):
        entries(plain, "c.email")
    sns = {"queue": {"envelope": "sns"}}
    entries(settings({"name": "p", "field": field, "type": kind}, **sns), "sns:Message")
    if field != "$":
        entries(plain, "other")
    if kind == "json":
        entries(settings({"name": "p", "field": field, "type": kind}, NESTED), "c.email")
        drop = {"drop": ["c.email"]}
        entries(settings({"name": "p", "field": field, "type": kind}, event=drop), "c.email")


def test_a_name_of_an_earlier_version_with_a_dot_is_not_taken_for_a_path() -> None:
    """It was one name, which is quoted now."""
    with pytest.raises(UsageError):
        entries(settings({"name": "p", "field": '"a.b"'}), "a.b")
    entries(settings({"name": "p", "field": "b"}), "a.[b")


def first_load(of: Column, key_id: str | None = None) -> list[FirstLoad]:
    """What the first run of a column remembers."""
    canonical = contexts.is_canonical(of)
    facts = (of.name, of.masking_context, canonical, list(of.fields), "job", NOW)
    return [FirstLoad(*facts, kind=of.mask_kind, key_id=key_id)]


KINDS: list[dict[str, Any]] = [
    {"mask": True},
    {"mask": "hmac"},
    {"mask": "partial", "keep_last": 4},
]


@pytest.mark.parametrize("then", KINDS)
@pytest.mark.parametrize("now", [*KINDS, {"mask": False}])
def test_another_kind_of_mask_is_refused(then: dict[str, Any], now: dict[str, Any]) -> None:
    """The line that is shown can be written, and means what it was."""
    known = first_load(column(**then))
    table = Table(columns=(column(**now),))
    if then == now:
        contexts.check(table, known)
        return
    with pytest.raises(SettingsError, match="was masked") as error:
        contexts.check(table, known)
    line = str(error.value).partition("    - ")[2]
    import yaml

    again = Column.model_validate(yaml.safe_load(line))
    assert again.mask == then["mask"]
    contexts.check(Table(columns=(again,)), known)


def test_a_uuid_in_place_of_text_is_refused() -> None:
    """Its letters are masked in lower case, and those of a text were not."""
    with pytest.raises(SettingsError, match="in canonical form"):
        table = Table(columns=(column(type="uuid", mask=True),))
        contexts.check(table, first_load(column(mask=True)))


@pytest.mark.parametrize(
    ("keyring", "words"),
    [(ROTATED, 'write "hmac": "k2"'), (Keyring.new("k3"), "that has key 'k2'")],
)
def test_another_key_of_one_way_tokens_is_refused(keyring: Keyring, words: str) -> None:
    """It would make equal values different for ever."""
    table = Table(columns=(column(mask="hmac"),))
    with pytest.raises(KeyringError, match=words):
        contexts.check_one_way_key(table, first_load(column(mask="hmac"), "k2"), keyring)
    named = Keyring("k1", {key: ROTATED.key(key) for key in ROTATED.key_ids}, "k2")
    contexts.check_one_way_key(table, first_load(column(mask="hmac"), "k2"), named)


def test_masking_keeps_rows_and_their_order() -> None:
    """Of every kind, also over several chunks."""
    texts = [None if n % 7 == 0 else f"value {n % 5000}" for n in range(20_000)]
    frame = pd.DataFrame({"a": texts, "b": texts}, dtype=object)
    shown = shown_part(column(mask="partial", keep_last=4))
    plan = [
        mask.MaskedColumn("a", "x", "c", is_one_way=True),
        mask.MaskedColumn("b", "y", "", False, shown),
    ]
    masked = mask.columns(frame, KEYRING, plan)
    one_way = mask.tokens_of_column(texts, KEYRING, column(mask="hmac", context="c")).tolist()
    assert masked["x"].tolist() == one_way
    assert masked["y"].tolist() == [None if text is None else shown(text) for text in texts]


LAST4 = {"name": "a", "field": "x", "mask": "partial", "keep_last": 4}
NET = {"name": "a", "field": "x", "type": "ip", "network": 24}


@pytest.mark.parametrize(
    ("first", "changes", "is_refused"),
    [
        (LAST4, {"keep_last": None, "keep_domain": True}, True),
        (LAST4, {"keep_last": 2}, True),
        (LAST4, {"clean": ["digits"]}, True),
        (LAST4, {}, False),
        (LAST4, {"field": "y", "keep_last": 2}, False),
        (NET, {"type": "text", "network": None, "mask": "partial", "keep_last": 4}, True),
        (NET, {"network": 16}, False),
    ],
)
def test_no_two_columns_show_different_parts_of_one_value(
    first: dict[str, Any], changes: dict[str, Any], is_refused: bool
) -> None:
    """Together they would show more than each alone; in either order."""
    second = {**first, "name": "b", **changes}
    for columns in ((first, second), (second, first)):
        if not is_refused:
            settings(*columns)
            continue
        with pytest.raises(ValidationError, match="show different parts of 'x', and so more"):
            settings(*columns)


TOKEN_COLUMN = {"name": "a", "field": "x", "mask": True, "context": "c"}


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"clean": ["lower"]}, "clean"),
        ({"null_values": ["unknown"]}, "null_values"),
        ({"type": "bigint"}, "type"),
        ({"type": "ip"}, "type"),
        ({"clean": ["lower"], "context": "other"}, ""),
        ({"clean": ["lower"], "mask": "hmac"}, ""),
        ({"clean": ["lower"], "mask": "partial", "keep_last": 4, "context": None}, ""),
        ({"pick": "first"}, ""),
        ({"max_length": 9}, ""),
    ],
)
def test_columns_that_share_a_context_give_equal_values_equal_tokens(
    changes: dict[str, Any], differing: str
) -> None:
    """Whatever changes a text before it is masked must be the same in both."""
    second = {**TOKEN_COLUMN, "name": "b", "field": "y", **changes}
    if not differing:
        settings(TOKEN_COLUMN, second)
        return
    words = f"'a' and 'b' share the context 'c' and differ in '{differing}'.* 'context: b'"
    with pytest.raises(ValidationError, match=words):
        settings(TOKEN_COLUMN, second)


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        ({"type": "ip"}, {"type": "ip", "canonical": False}, True),
        ({"type": "ip"}, {"type": "ip", "clean": ["strip"], "accept": ["port"]}, False),
        ({"type": "bigint"}, {"type": "decimal"}, False),
        ({"type": "bigint"}, {"type": "smallint", "accept": ["text", "whole_float"]}, False),
    ],
)
def test_a_field_that_is_read_twice_has_one_token_or_two_contexts(
    one: dict[str, Any], other: dict[str, Any], is_refused: bool
) -> None:
    """Its columns share the context that they have by default."""
    columns = {"name": "a", "field": "x", "mask": True}, {"name": "b", "field": "x", "mask": True}
    if is_refused:
        with pytest.raises(ValidationError, match="share the context 'x' and differ in"):
            settings({**columns[0], **one}, {**columns[1], **other})
        return
    wanted = settings({**columns[0], **one}, {**columns[1], **other})
    value = "192.0.2.7" if one["type"] == "ip" else 100
    (row,) = loaded(wanted, {"x": value}).masked[["a", "b"]].to_numpy().tolist()
    assert row[0] == row[1]
