"""Messages -> raw frame and unreadable messages."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import extract
from etl.frames import ABSENT
from etl.postgres.findings import MAX_NAMES, without_personal_names
from tests.unit.builders import EVENT, FIELDS, ROOT, SENT_MS, event, message, reader


def reason(body: str, **changes: object) -> str:
    """Return the check that an unreadable body breaks."""
    raw, unreadable = extract.read([message(body, **changes)], FIELDS)
    assert raw.empty
    assert unreadable["column"].tolist() == ["message"]
    _, without_numbers = extract.read([message(body, **changes)], FIELDS, exact_numbers=False)
    assert without_numbers.equals(unreadable)
    return str(unreadable["check"].item())


SCALARS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["a,b", '"', '":', ":", " :", "{", "[", "\ud800", "\0", "\t:", "::1"]),
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 2**64 - 1, 2**64, 10**308, -(10**400), 10**1000, 0]),
    st.floats(),
    st.sampled_from([1e16, -0.0, 5e-324]),
    st.booleans(),
    st.none(),
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=3,
)
NAMES = st.sampled_from(["a", "b", "c", "", ",", '"', ":", "\u00e9", "\ud800"])
GAPS = st.sampled_from(["", " ", "\t", "\n", "\r", "\u00a0", "\x0c"])
RAW = st.sampled_from(
    ["-0", "1E400", "01", "1.", "-", "NaN", "Infinity", '"\x01"', "1e2", "nul", ""]
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A text that is nearly an event: repeated names, odd numbers, gaps, cut off, or with more."""
    usual = draw(st.booleans())
    value = st.builds(json.dumps, SCALARS if usual else NESTED, ensure_ascii=st.booleans())
    gap = st.just("") if usual else GAPS
    members = [
        f"{draw(gap)}{json.dumps(draw(NAMES))}{draw(gap)}:{draw(gap)}{draw(value | RAW)}{draw(gap)}"
        for _ in range(draw(st.integers(0, 4)))
    ]
    text = f"{draw(gap)}{{{','.join(members)}}}{draw(gap)}"
    return draw(st.sampled_from([text, text, text, text[:-1], text + "}", f"[{text}]", text * 2]))


@settings(max_examples=400)
@given(texts())
def test_the_fast_way_to_read_a_body_agrees_with_the_strict_one(text: str) -> None:
    """Whatever it reads is what the strict way reads, value by value and type by type."""
    check_both_ways(text)


@pytest.mark.long
@settings(max_examples=2000)
@given(texts())
def test_the_fast_way_agrees_about_more_texts(text: str) -> None:
    """As above."""
    check_both_ways(text)


def check_both_ways(text: str) -> None:
    """Compare what the two ways read, if the fast one reads the text at all."""
    fast = extract._usual_event(text)
    if fast is None:
        return
    strict = extract._decode(text, extract._FAST_DECODER)
    assert list(map(repr, fast.items())) == list(map(repr, strict.items()))


@pytest.mark.parametrize(
    "body",
    [
        event(),
        json.dumps(EVENT, separators=(",", ":")),
        json.dumps(EVENT, indent=2),
        event(user_agent="Mozilla/5.0 (X11, like Gecko) rv:109", at="2024-02-29T23:00:00Z"),
        event(ip="2001:db8::1", n=2**64 - 1, yes=True, no=None),
    ],
)
def test_the_usual_event_is_read_the_fast_way(body: str) -> None:
    """Otherwise nothing would be gained."""
    assert extract._usual_event(body) == json.loads(body)


def test_every_check_of_a_message_is_listed() -> None:
    """Commands recognise their names."""
    files = [Path(extract.__file__), *(ROOT / "etl/reading").glob("*.py")]
    raised = {
        node.args[0].value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Unreadable"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.Constant)
    }
    assert sorted(extract.CHECKS) == sorted(raised)


@pytest.mark.parametrize(
    ("body", "check"),
    [
        ("", "empty body"),
        ("{", "JSON"),
        ("plain text", "JSON"),
        ('{"a": 1} {"b": 2}', "JSON"),
        ("{}\ufeff", "JSON"),
        ("null", "JSON object"),
        ("[]", "JSON object"),
        ('"text"', "JSON object"),
        ("17", "JSON object"),
        ('{"a": NaN}', "NaN or Infinity"),
        ('{"a": -Infinity}', "NaN or Infinity"),
        ('{"a": 1, "a": 1}', "duplicate key"),
        ('{"deep": {"a": 1, "a": 2}}', "duplicate key"),
        ('{"a": ' + "9" * 5000 + "}", "integer length"),
        ('{"a": -' + "9" * 1001 + "}", "integer length"),
        ('{"a": ' + "[" * 100_000, "nesting"),
        ('{"a": ' + "[" * 101 + "]" * 101 + "}", "nesting"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nesting"),
    ],
)
def test_a_body_that_is_no_event_is_unreadable_with_a_reason_of_its_own(
    body: str, check: str
) -> None:
    """Each way of not being an event has a name."""
    assert reason(body) == check


@pytest.mark.parametrize("exact_numbers", [True, False])
def test_a_byte_order_mark_says_nothing(exact_numbers: bool) -> None:
    """The text is decoded already; some programs write one before it all the same."""
    body = message(f"\ufeff {event()}")
    raw, _ = extract.read([body], FIELDS, exact_numbers=exact_numbers)
    assert raw[FIELDS].iloc[0].to_dict() == EVENT


def test_a_body_that_does_not_match_its_md5_is_unreadable() -> None:
    """Botocore does not check MD5OfBody, so the reader does."""
    assert reason(event(), md5="0" * 32) == "MD5 of body"


def test_brackets_in_text_are_not_nesting() -> None:
    """Brackets inside strings do not count as nesting."""
    raw, _ = extract.read([message(event(device_id="[{" * 500 + '\\"'))], FIELDS)
    assert len(raw) == 1


def test_a_readable_message_keeps_its_python_values() -> None:
    """Nothing is coerced: the frame holds the values that json decoded."""
    values = {"user_id": 7, "app_version": 2.5, "device_type": True, "ip": None, "locale": [1, 2]}
    raw, _ = extract.read([message(json.dumps(values))], FIELDS)
    got = raw.drop(columns="message_id").iloc[0].to_dict()
    assert got == {**values, "device_id": ABSENT}
    assert type(got["device_type"]) is bool


def test_the_frame_has_the_id_first_and_what_is_not_in_the_event_last() -> None:
    """The raw frame has these columns, all of dtype object."""
    raw, _ = extract.read([message(event(), 4)], FIELDS, of_messages={"sent": lambda m: m.sent_ms})
    assert list(raw.columns) == ["message_id", *FIELDS, "sent"]
    assert (raw["message_id"].item(), raw["sent"].item()) == ("m4", SENT_MS)
    assert set(raw.dtypes.astype(str)) == {"object"}


def test_order_is_kept_among_readable_and_unreadable() -> None:
    """A stage may drop rows but never reorders them."""
    bodies = ["{", event(), "[]", event(), "7"]
    raw, unreadable = extract.read([message(b, i) for i, b in enumerate(bodies)], FIELDS)
    assert raw["message_id"].tolist() == ["m1", "m3"]
    assert unreadable["message_id"].tolist() == ["m0", "m2", "m4"]


def test_unknown_fields_are_ignored_by_default() -> None:
    """A producer may add fields without breaking the job."""
    raw, unreadable = extract.read([message(event(new="x"))], FIELDS)
    assert (len(raw), len(unreadable)) == (1, 0)


def test_unknown_fields_are_rejected_by_setting_without_their_name() -> None:
    """The name of an unknown field comes from outside and could be personal."""
    body = event(**{"secret-name": 1})
    raw, unreadable = extract.read([message(body)], FIELDS, unknown_fields="reject")
    assert raw.empty
    assert unreadable.iloc[0].tolist() == ["m0", "message", "unknown field"]


def test_an_sns_notification_is_unwrapped_by_setting() -> None:
    """The event is the text in the Message field."""
    body = json.dumps({"Type": "Notification", "Message": event()})
    raw, _ = extract.read([message(body)], FIELDS, unwrap=reader("sns").unwrap)
    assert raw[FIELDS].iloc[0].to_dict() == EVENT


@pytest.mark.parametrize("body", [event(), '{"Type": "Notification", "Message": {}}'])
def test_a_body_that_is_no_notification_is_unreadable_when_one_is_expected(body: str) -> None:
    """With ``envelope: sns`` every message must be a notification."""
    raw, unreadable = extract.read([message(body)], FIELDS, unwrap=reader("sns").unwrap)
    assert raw.empty
    assert unreadable["check"].tolist() == ["SNS notification"]


def test_no_messages_give_empty_frames_with_their_columns() -> None:
    """An empty batch gives empty frames, so later stages need no special case."""
    raw, unreadable = extract.read([], FIELDS, of_messages={"sent": lambda m: m.sent_ms})
    assert list(raw.columns) == ["message_id", *FIELDS, "sent"]
    assert list(unreadable.columns) == ["message_id", "column", "check"]


def kept_names(unknown: dict[str, int], messages: int) -> dict[str | None, int]:
    """The names of unknown fields that are kept, with their messages."""
    return dict(without_personal_names(Counter(unknown), messages))


@pytest.mark.parametrize("rule", ["ignore", "reject"])
def test_fields_that_no_column_reads_are_counted(rule: Literal["ignore", "reject"]) -> None:
    """Also in messages that are refused for them. Other names of a field are not unknown."""
    bodies = [event(b=1, a=2), event(a=2), event(), "{", event(old_ip="x")]
    messages = [message(body, number) for number, body in enumerate(bodies)]
    unknown = Counter[str]()
    names = {"ip": ["old_ip"]}
    extract.read(messages, FIELDS, other_names=names, unknown_fields=rule, unknown=unknown)
    assert unknown == {"a": 2, "b": 1}


@pytest.mark.parametrize(
    "name",
    [
        "a@example.com",
        "593-47-5928",
        "1.2.3.4",
        "",
        "a b",
        "é",
        "x" * 64,
        "u2026",
        "a\n",
        "t49-170-123-456",
    ],
)
def test_a_name_that_may_be_personal_is_not_kept(name: str) -> None:
    """However often it comes."""
    assert kept_names({name: 100}, 100) == {None: 100}


def test_only_names_that_many_messages_have_are_kept() -> None:
    """The others may be users, in a map by user."""
    seen = {"ip_address": 100, "geo.city-v2": 5, "anna": 4}
    assert kept_names(seen, 100) == {"ip_address": 100, "geo.city-v2": 5, None: 4}
    assert kept_names(seen, 1000) == {"ip_address": 100, None: 9}


def test_a_bounded_number_of_names_is_kept() -> None:
    """The most frequent ones."""
    names = [f"f{first}{second}" for first in "abcdef" for second in "abcdefghij"]
    kept = kept_names({name: 100 + number for number, name in enumerate(names)}, 200)
    assert len(kept) == MAX_NAMES + 1
    assert kept[None] == sum(range(100, 110))


def test_the_names_of_a_map_by_user_are_not_kept() -> None:
    """Also in a small batch, of which each of a dozen users sent a good share."""
    users = {f"user_{letter}": 5 for letter in "abcdefghijkl"}
    assert kept_names({**users, "ip_address": 60}, 60) == {"ip_address": 60, None: 60}
