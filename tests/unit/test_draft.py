"""A draft loads every event that it was made from, masks what looks personal, and has no value."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl import config
from etl.batch import prepare
from etl.cli import main
from etl.config import Column, Settings
from etl.crypto.keyring import Keyring
from etl.errors import UsageError
from etl.operations.draft import Draft, draft
from etl.operations.draft_names import written
from etl.operations.draft_personal import doubt, kind_by_name
from etl.operations.draft_reading import reading_of
from etl.operations.draft_text import config_text, table_text
from etl.operations.draft_types import typed
from etl.operations.draft_values import (
    BIRTH,
    DEVICE,
    EMAIL,
    NAME,
    NETWORK,
    OFFICIAL,
    PHONE,
    POSTAL,
    kind_by_shape,
)
from etl.operations.draft_words import words_of
from etl.sqs.message import Message
from etl.validate import frame_schema
from tests.unit.builders import EVENT, message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deviceId", ["device", "id"]),
        ("HTTPRemoteAddr", ["http", "remote", "addr"]),
        ("first-name", ["first", "name"]),
        ("Prénom", ["prenom"]),
        ("Straße", ["straße"]),
        ("電話", ["電話"]),
        ("이메일", ["이메일"]),
        ("__", []),
    ],
)
def test_the_words_of_a_name(name: str, words: list[str]) -> None:
    """However a producer joins them."""
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("email", EMAIL), ("customer.eMail", EMAIL), ("customeremail", EMAIL), ("courriel", EMAIL),
        ("correo_electronico", EMAIL), ("почта", EMAIL), ("メール", EMAIL), ("e_mail", EMAIL),
        ("phoneNumber", PHONE), ("Telefonnummer", PHONE), ("tel", PHONE), ("número_móvil", PHONE),
        ("手机", PHONE), ("phone.number", PHONE), ("이메일", EMAIL),
        ("ip", NETWORK), ("client_ip", NETWORK), ("remoteAddr", NETWORK),
        ("x-forwarded-for", NETWORK),
        ("mac_address", NETWORK), ("ipAddress", NETWORK),
        ("shipping.address.line1", POSTAL), ("Anschrift", POSTAL), ("dirección", POSTAL),
        ("zip_code", POSTAL), ("codigo_postal", POSTAL),
        ("device_id", DEVICE), ("deviceId", DEVICE), ("device.id", DEVICE), ("IDFA", DEVICE),
        ("session.device.uuid", DEVICE), ("imei", DEVICE), ("advertising_id", DEVICE),
        ("first_name", NAME), ("Vorname", NAME), ("prénom", NAME), ("user.name", NAME),
        ("customerName", NAME), ("apellidos", NAME), ("姓名", NAME), ("nom_utilisateur", NAME),
        ("ssn", OFFICIAL), ("passport_no", OFFICIAL), ("iban", OFFICIAL), ("birthday", BIRTH),
        ("Geburtsdatum", BIRTH),
        ("product.name", None), ("event_name", None), ("device_type", None),
        ("email_verified", None),
        ("address.country", None), ("order_id", None), ("user_id", None), ("description", None),
        ("shipping", None), ("zipped", None), ("recipe", None), ("", None), ("amount", None),
    ],
)  # fmt: skip
def test_names_say_what_is_personal(path: str, kind: str | None) -> None:
    """In several languages and ways of writing; what is said about a value is not the value."""
    assert kind_by_name(path.split(".")) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ann@example.org", EMAIL), ("Ann <ann.b+c@mail.example.co.uk>", EMAIL), ("ö@ü.рф", EMAIL),
        ("203.0.113.7", NETWORK), ("2001:db8::1", NETWORK), ("[2001:db8::1]:443", NETWORK),
        ("203.0.113.7, 10.0.0.1", NETWORK), ("GET / from 203.0.113.7:80", NETWORK),
        ("00:1B:44:11:3a:b7", NETWORK), ("fe80::1%eth0", NETWORK), ("2001:db8::/32", NETWORK),
        ("+49 151 23456789", PHONE), ("+4915123456789", PHONE), ("(030) 123-4567", PHONE),
        ("593-47-5928", PHONE),
        ("4111 1111 1111 1111", OFFICIAL), ("490154203237518", OFFICIAL),
        ("DE89370400440532013000", OFFICIAL), ("GB29 NWBK 6016 1331 9268 19", OFFICIAL),
        ("2026-11-28", None), ("28.11.2026", None), ("2026-11-28T10:00:00.123Z", None),
        ("2.3.0", None), ("10:15:30", None), ("424cdd21-063a-43a7-b91b-7ca1a833afae", None),
        ("1234567890", None), ("3.14", None), ("a@b", None), ("@handle", None), ("Foo::Bar", None),
        ("1.2.3", None), ("01.23.45.67.89", PHONE), ("4111111111111112", None),
        ("DE89370400440532013001", None),
        ("", None), ("EUR", None),
    ],
)  # fmt: skip
def test_shapes_say_what_is_personal(text: str, kind: str | None) -> None:
    """Whatever the field is called; a date, a version and a uuid alone say nothing of a person."""
    assert kind_by_shape(["", text]) == kind


def test_what_may_be_personal_is_doubted() -> None:
    """A person decides."""
    assert "identify" in str(doubt(["user_id"], []))
    assert "identify" in str(doubt(["customer", "id"], []))
    assert "place" in str(doubt(["geo", "lat"], []))
    assert "name" in str(doubt(["product", "name"], []))
    assert "free text" in str(doubt(["comment"], ["please leave it at the door"]))
    assert doubt(["order_id"], ["a b"]) is None


# Values, whether they are personal, the type, and what it is while a column has no such type.
UUIDS = ["424cdd21-063a-43a7-b91b-7ca1a833afae"] * 2
EPOCH, DECIMAL = {"type": "timestamp"}, {"type": "decimal"}
TYPES = [
    ("id", UUIDS, False, {"type": "uuid"}, {"type": "text", "max_length": 128}),
    ("a", ["EUR", "x" * 20], False, {"type": "text", "max_length": 64}, None),
    ("a", [""], False, {"type": "text", "max_length": 32}, None),
    ("a", ["x" * 3000], False, {"type": "text"}, None),
    ("a", ["2026-11-28", "2026-02-28"], False, {"type": "date"}, None),
    ("a", ["2026-11-28", "2026-02-30"], False, {"type": "text", "max_length": 32}, None),
    ("a", ["2026-11-28T10:00:00Z"] * 2, False, {"type": "timestamp"}, None),
    ("a", ["2026-11-28T10:00:00"], False, {"type": "datetime"}, {"type": "text", "max_length": 64}),
    ("a", ["10:00:00"], False, {"type": "time"}, {"type": "text", "max_length": 32}),
    ("app_version", ["2.3.0", "2.10"], False, {"type": "version"}, None),
    ("a", ["2.3.0"], False, {"type": "text", "max_length": 32}, None),
    ("a", [True, False], False, {"type": "boolean"}, None),
    ("a", [1, -5], False, {"type": "integer"}, None),
    ("order_id", [1, 5], False, {"type": "bigint"}, None),
    ("a", [1, 2**31], False, {"type": "bigint"}, None),
    ("a", [2**63], False, {"type": "decimal"}, None),
    ("a", [1.5, 2], False, {"type": "number"}, None),
    ("ts", [1_764_324_000], False, EPOCH | {"format": "seconds"}, {"type": "bigint"}),
    ("ts", [1_764_324_000_000], False, EPOCH | {"format": "milliseconds"}, {"type": "bigint"}),
    ("count", [1_764_324_000], False, {"type": "bigint"}, None),
    ("price", [12.5, 3], False, DECIMAL | {"precision": 17, "scale": 2}, {"type": "number"}),
    ("a", ["a", 1], False, {"type": "json"}, None),
    ("a", [["a"], []], False, {"type": "text", "max_length": 32, "array": True}, None),
    ("a", [[{"b": 1}]], False, {"type": "json"}, None),
    ("ip", ["203.0.113.7", "::1"], True, {"type": "ip", "max_length": 256, "mask": True}, None),
    ("ip", ["203.0.113.7:80"], True, {"type": "text", "max_length": 256, "mask": True}, None),
    ("a", ["x" * 90], True, {"type": "text", "max_length": 512, "mask": True}, None),
    ("a", ["x" * 5000], True, {"type": "text", "mask": True}, None),
    ("a", [True], True, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "is_personal", "newest", "before"), TYPES)
def test_a_type_is_the_first_that_takes_every_value(
    name: str,
    values: list[Any],
    is_personal: bool,
    newest: dict[str, Any] | None,
    before: dict[str, Any] | None,
) -> None:
    """With room for longer values; of the newer types those that a column can have."""
    base = {"name": "x", "field": name}
    expected = newest
    try:
        Column.model_validate({**base, **(newest or {"type": "text"})})
    except ValidationError:
        expected = before
    found = typed(base, [name], values, is_personal=is_personal)
    assert found == (expected and {**base, **expected})


def drafted(*events: Any, **options: Any) -> Draft:
    """A draft from events, each in a message."""
    messages = [message(json.dumps(each), number) for number, each in enumerate(events)]
    return draft(messages, "events", **options)


def loaded(text: str) -> Settings:
    """The settings of a drafted file, read as a run reads them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(text)
        return config.load(file, {})


def specs(result: Draft) -> dict[str, dict[str, Any]]:
    """The columns by field."""
    return {str(c.spec.get("field")): c.spec for c in result.columns}


def test_the_default_events_get_the_default_masks() -> None:
    """What the default configuration masks, a draft masks too."""
    found = specs(drafted(*[EVENT] * 6))
    assert [field for field, spec in found.items() if spec.get("mask")] == ["ip", "device_id"]
    assert found["ip"]["type"] == "ip"
    assert found["app_version"]["type"] == "version"


def test_what_is_missing_or_null_may_be_so() -> None:
    """And what never was, may not."""
    events = [{"a": 1, "b": None, "c": {"d": 1}}, {"a": 2, "b": 1, "c": None}, {"a": 3, "b": 1}]
    found = specs(drafted(*events, all_names=True))
    assert found["a"] == {"name": "a", "field": "a", "type": "integer"}
    assert found["b"] == {"name": "b", "field": "b", "type": "integer", "nullable": True}
    assert found["c.d"] == {
        "name": "c_d", "field": "c.d", "type": "integer", "nullable": True, "required": False,
    }  # fmt: skip


def test_names_of_columns_are_distinct_and_never_another_field() -> None:
    """Also where fields differ only in how they are written, or are named like a masked column."""
    event = {
        "userId": 1, "user_id": 2, "user": {"id": 3}, "ip": "203.0.113.7", "masked_ip": "::1",
        "masked_x": 1, "message_id": "m", "SentTimestamp": 1, "xmin": 1,
        "a" * 70: 1, "-": 1, "ß": 1,
    }  # fmt: skip
    result = drafted(event, all_names=True)
    settings = loaded(config_text(result))
    assert len({column.name for column in settings.table.columns}) == len(event) + 1
    assert {c.name for c in settings.table.columns} >= {"user_id", "user_id_2", "user_id_3"}


def test_names_that_may_be_personal_are_not_in_a_draft() -> None:
    """Those of few events, and those that look like data; only their number is there."""
    events = [
        {"a": 1, "by_user": {f"quixotella{n}": 1}, f"vortigern@{n}.org": 1, "rare" * (n == 3): 1}
        for n in range(20)
    ]
    result = drafted(*events)
    text = config_text(result) + table_text(result)
    assert "quixotella" not in text
    assert "vortigern" not in text
    assert "rare" not in text.replace("too rare", "")
    assert "by_user: 20 names that are not shown" in text
    assert [*specs(result)] == ["a", "None"]


def test_a_wide_event_keeps_its_names() -> None:
    """All of its messages have them."""
    wide = {f"column_{chr(97 + n // 26)}{chr(97 + n % 26)}": n for n in range(150)}
    assert len(drafted(*[wide] * 5).columns) == 151


def test_few_messages_need_consent() -> None:
    """In one message, a name of a field and a name that is data look alike."""
    with pytest.raises(UsageError, match=r"from 5 messages.* found: 4; .* add --all-names"):
        drafted(*[EVENT] * 4)
    assert len(drafted(EVENT, all_names=True).columns) == len(EVENT) + 1
    with pytest.raises(UsageError, match="found: 1;"):
        draft([message(json.dumps([EVENT] * 9))], "events")


def test_a_name_counts_once_in_a_message() -> None:
    """However many of its events have it, as in a map by user that each of them repeats."""
    events = [[{"a": 1, "of": {"quixotella": 1, "sum": 1}}] * 6] * 3 + [
        [{"a": 1, "of": {"sum": 1}}]
    ] * 6
    messages = [message(json.dumps(each), number) for number, each in enumerate(events)]
    result = draft(messages, "events")
    assert [*specs(result)] == ["a", "of.sum", "None"]
    assert "quixotella" not in config_text(result) + table_text(result)


def test_a_name_may_hold_any_character_that_is_seen() -> None:
    """The file quotes it; what no screen shows is left out."""
    names = [
        "a.b",
        "order id",
        '"',
        "größe",
        "a\\b",
        "$",
        "a: b",
        "#",
        "{",
        "yes",
        "1",
        "x\u202e",
        "",
    ]
    result = drafted(dict.fromkeys(names, 1), all_names=True)
    fields = [column.fields for column in loaded(config_text(result)).table.columns]
    values = at_paths(names[:-2])
    assert fields == [*values, ()]
    assert "$: 2 names that are not shown" in config_text(result)


def at_paths(names: list[str]) -> list[tuple[str]]:
    """Each name as the only path of a field."""
    return [(written((name,)),) for name in names]


def test_messages_that_are_no_events_are_counted() -> None:
    """No column is made of them."""
    messages = [message(json.dumps(EVENT), n) for n in range(5)] + [message("{canary", 9)]
    result = draft(messages, "events")
    assert "1 of 6 messages failed message: JSON" in config_text(result)
    with pytest.raises(
        UsageError, match=r"none of 1 messages is an event: 1 failed message: JSON$"
    ):
        draft(messages[5:], "events")
    with pytest.raises(UsageError, match="no field that a column could load"):
        drafted(*[{"a": None}] * 5)


def test_sns_notifications_are_recognised() -> None:
    """The event inside is what the columns are made of."""
    body = json.dumps({"Type": "Notification", "Message": json.dumps(EVENT)})
    result = draft([message(body, number) for number in range(5)], "events")
    settings = loaded(config_text(result))
    assert settings.queue.envelope == "sns"
    assert "user_id" in specs(result)


def test_a_column_that_refuses_its_own_events_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever let it through, the draft is tried before it is written."""
    wrong = {"name": "a", "field": "a", "type": "date"}
    right = {"name": "b", "field": "b", "type": "integer"}
    monkeypatch.setattr(
        "etl.operations.draft.typed", lambda base, *_, **__: {"a": wrong}.get(base["field"], right)
    )
    result = drafted(*[{"a": "canary", "b": 1}] * 5)
    assert [*specs(result)] == ["b", "None"]
    reason = "seen in 5 of 5 events; 1 distinct shape; a value fails 'date' of type 'date'"
    assert result.left_out == [("a", reason)]


def test_what_makes_two_tokens_of_one_value_is_doubted() -> None:
    """Capitals and blanks, where the column is masked."""
    events = [{"email": value} for value in ("a@b.org", "A@b.org", "c@b.org", "d@b.org", "e@b.org")]
    assert "two tokens" in str(drafted(*events).columns[0].doubt)
    assert drafted(*events[1:], all_names=True).columns[0].doubt is None
    assert "two tokens" in str(drafted({"email": "a@b.org "}, all_names=True).columns[0].doubt)


def test_arrays_of_events_are_recognised() -> None:
    """Each item is an event, also where one of them is none."""
    messages = [message(json.dumps([EVENT] * 3), 0), message(json.dumps([EVENT, EVENT, 5]), 1)]
    result = draft(messages, "events", all_names=True)
    assert (result.events, result.unread) == (5, {"message: JSON object": 1})
    settings = loaded(config_text(result))
    assert settings.event.split == "array"
    assert len(prepared(settings, messages).masked) == 5


def test_a_given_envelope_is_kept() -> None:
    """As the configuration has it, which the draft is to replace."""
    body = json.dumps({"a": {"b": json.dumps({"list": [EVENT] * 5, "id": 1})}})
    reading = {
        "queue": {"envelope": {"path": "a.b"}},
        "event": {"split": {"path": "list", "keep": ["id"]}},
    }
    columns = [{"name": "a", "field": "a", "type": "text"}]
    given = Settings.model_validate({**reading, "table": {"columns": columns}})
    assert reading_of(given) == reading
    result = draft([message(body)], "events", reading_of(given), all_names=True)
    settings = loaded(config_text(result))
    assert (settings.queue, settings.event) == (given.queue, given.event)
    assert len(prepared(settings, [message(body)]).masked) == 5


def test_comments_fit_a_terminal() -> None:
    """Of 80 columns; a column stays on its line."""
    event = {"customer": {"e-mail": " A@b.org"}, "contact": "+1 555 010 9999", "b": ["x" * 99]}
    event |= {f"{'long_' * 12}{n}": None for n in range(3)}
    result = drafted(event, {}, all_names=True)
    result.unread = {f"{'long ' * 30}: type": 1}
    for line in (config_text(result) + table_text(result)).splitlines():
        assert len(line) <= 80 or line.lstrip().startswith("- {"), line


def test_a_table_may_have_any_name() -> None:
    """The file quotes it."""
    result = draft([message(json.dumps(EVENT))], "T\x1b\u202e: 1", all_names=True)
    assert loaded(config_text(result)).table.name == "T\x1b\u202e: 1"


def test_lists_that_hold_something_personal_are_left_out() -> None:
    """Nothing masks a part of a list."""
    events = [{"a": 1, "ips": ["203.0.113.7"], "people": [{"email": "x"}], "b": [{"c": "a@b.org"}]}]
    result = drafted(*events, all_names=True)
    assert {*specs(result)} == {"a", "None"}
    assert [path for path, _ in result.left_out] == ["ips", "people", "b"]


def prepared(result: Settings, messages: list[Message]) -> Any:
    """What a run would do before the database."""
    return prepare(messages, result, frame_schema(result.table.columns), Keyring.new(), "run")


NAMES = st.sampled_from(
    ["a", "userId", "created_at", "ts", "price", "total", "app_version", "masked_a", "id", "x.y",
     "order id", "SentTimestamp", "message_id", "items", "tags", "größe", "e-mail", "name",
     '"', "$"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(0, 100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["2026-11-28", "2026-11-28T10:00:00Z", "2.3.0", *UUIDS, "1", "true", "\0"])
    | st.integers(1_700_000_000, 1_800_000_000)
)
# No two of them are alike, and nothing else looks like them.
PLANTED: dict[str, list[Any]] = {
    "mail": ["qu1xotella@canary.example", "Qu1xotella@canary.example"],
    "contact": ["qu1xotella@canary.example", None],
    "remote": ["203.0.113.77", "2001:db8::ca:4a21"],
    "client_ip": ["203.0.113.77", ""],
    "call": ["+49 151 86753099", None],
    "phone": ["canary86753099", "", 86753099],
    "street": ["canary street 86753099"],
}
CANARIES = ("qu1xotella", "203.0.113.77", "ca:4a21", "86753099")
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
PERSONAL = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in PLANTED.items()}
)
EVENTS = st.builds(
    lambda plain, personal, nested: {**plain, **personal, "nested": nested},
    st.dictionaries(NAMES, VALUES, max_size=6),
    PERSONAL,
    PERSONAL | st.none() | st.dictionaries(NAMES, VALUES, max_size=3),
)


def check_draft(events: list[Any], *, all_names: bool) -> None:
    """A draft of the events loads each of them; what was planted is a token, and in no file."""
    messages = [message(json.dumps(each), number) for number, each in enumerate(events)]
    try:
        result = draft(messages, "events", all_names=all_names or len(events) < 5)
    except UsageError:
        return  # nothing in them but nulls and lists
    text = config_text(result)
    batch = prepared(loaded(text), messages)
    assert batch.rejects.to_dict("records") == []
    assert batch.masked["message_id"].tolist() == [each.message_id for each in messages]
    stored = repr(batch.masked.to_dict("records"))
    for canary in CANARIES:
        assert canary not in text + table_text(result)
        assert canary not in stored


@settings(max_examples=10)
@given(st.lists(EVENTS, min_size=1, max_size=7), st.booleans())
def test_a_draft_loads_every_event_it_was_made_from(events: list[Any], all_names: bool) -> None:
    """Nested, with nulls and mixed types."""
    check_draft(events, all_names=all_names)


@pytest.mark.long
@settings(max_examples=300)
@given(st.lists(EVENTS, min_size=1, max_size=7), st.booleans())
def test_many_drafts_load_every_event(events: list[Any], all_names: bool) -> None:
    """The same for more of them."""
    check_draft(events, all_names=all_names)


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_what_is_planted_is_masked(name: str) -> None:
    """Or left out, where it is a number that no column can mask."""
    for value in filter(None, PLANTED[name]):
        found = specs(drafted(*[{"a": 1, name: value}] * 5))
        is_text = type(value) is str
        assert found.get(name, {"mask": not is_text})["mask"] is True


def command(folder: Path, sample: str, *arguments: str) -> Result:
    """Call the command with a sample on standard input."""
    given = ["draft", "--sample", "-", "--output", str(folder), *arguments]
    return CliRunner().invoke(main, given, input=sample)


def test_the_command_writes_two_new_files(tmp_path: Path) -> None:
    """And check-config finds that every event would load; nothing is replaced."""
    lines = "\n".join([json.dumps(EVENT)] * 5)
    done = command(tmp_path / "new" / "er", lines, "--table", "logins")
    assert done.exit_code == 0, done.output
    file = tmp_path / "new" / "er" / "config.yaml"
    assert f"{file}: 7 columns from 5 events; 2 masked, 1 doubtful, 0 fields left" in done.stdout
    assert loaded(file.read_text()).table.name == "logins"
    for value in EVENT.values():
        for text in (done.output, file.read_text(), file.with_name("table.sql").read_text()):
            assert value not in text or value == "RU"
    check = ["check-config", "--config", str(file), "--sample", "-"]
    assert CliRunner().invoke(main, check, input=lines).exit_code == 0
    before = file.read_bytes()
    again = command(file.parent, lines)
    assert isinstance(again.exception, UsageError)
    file.unlink()
    again = command(file.parent, lines)
    assert "table.sql' exists already" in str(again.exception)
    assert not file.exists()
    assert before


def test_a_table_that_postgres_would_cut_is_refused(tmp_path: Path) -> None:
    """Before anything is received or written."""
    done = command(tmp_path / "new", "{}", "--table", "x" * 64)
    assert "a table cannot be named" in str(done.exception)
    assert not (tmp_path / "new").exists()
