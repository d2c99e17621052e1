"""Several events in one message: each has its own text, its own id, and its message's time."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.batch import prepare
from etl.config import Settings
from etl.reading.events import Events
from etl.validate import frame_schema
from tests.conftest import KEYRING
from tests.unit.builders import SENT_MS, message, reader
from tests.unit.test_envelopes import check_failed, sns, texts

RECORD = {
    "eventVersion": "2.1",
    "eventSource": "aws:s3",
    "awsRegion": "eu-central-1",
    "eventTime": "2024-02-29T12:45:07.000Z",
    "eventName": "ObjectCreated:Put",
    "requestParameters": {"sourceIPAddress": "192.0.2.7"},
    "s3": {"bucket": {"name": "example-uploads"}, "object": {"key": "a/b.csv", "size": 1024}},
}
TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2024-02-29T12:45:07.000Z",
    "Bucket": "example-uploads",
}
READINGS = (
    '{"device": {"id": "pump-7"}, "site": "north", "data": {"readings": ['
    '{"t": 1709210707, "v": 0.10000000000000000555}, {"t": 1709210708, "v": 2e0}]}}'
)


@pytest.mark.parametrize(
    ("split", "body", "events"),
    [
        ("array", '[{"a": 1.50}, {"a": 2}]', ['{"a": 1.50}', '{"a": 2}']),
        ("array", "\ufeff [ ] \n", []),
        ("array", '[1, "x", null, [{}], NaN]', ["1", '"x"', "null", "[{}]", "NaN"]),
        ("array", '[{"a": 1, "a": 2},{"b":NaN}]', ['{"a": 1, "a": 2}', '{"b":NaN}']),
        ("array", "[{}, {}]", ["{}", "{}"]),
        ("lines", "{}\n{}", ["{}", "{}"]),
        ("lines", '{"a": 1}\n{"a": 2}\n', ['{"a": 1}', '{"a": 2}']),
        ("lines", '\ufeff{"a": 1}\r\n\r\n  \n {"a": "\u2028"}', ['{"a": 1}', '{"a": "\u2028"}']),
        ("lines", '{"a":\n1}', ['{"a":', "1}"]),
        ("lines", " \n ", []),
        ({"path": "data.readings"}, READINGS,
         ['{"t": 1709210707, "v": 0.10000000000000000555}', '{"t": 1709210708, "v": 2e0}']),
        ({"path": "data.readings", "keep": ["device", "site", "none"]}, READINGS,
         [('{"device": {"id": "pump-7"}, "site": "north", '
           '"t": 1709210707, "v": 0.10000000000000000555}'),
          '{"device": {"id": "pump-7"}, "site": "north", "t": 1709210708, "v": 2e0}']),
        ({"path": "a", "keep": ["b"]}, '{"a": [{ }, 7, {"b": 2}], "b": 1}',
         ['{"b": 1}', "7", '{"b": 1, "b": 2}']),
        ({"path": "a", "keep": ["c"]}, '{"a": [{}], "b": 1}', ["{}"]),
        ({"path": "a[1].b"}, '{"a": [0, {"b": [{}]}]}', ["{}"]),
    ],
)  # fmt: skip
def test_each_event_keeps_its_own_text(split: Any, body: str, events: list[str]) -> None:
    """What is wrong with one of them is found when that one is read."""
    assert texts(body, "none", split) == events


@pytest.mark.parametrize(
    ("split", "body", "check"),
    [
        ("array", '{"a": 1}', "list of events"),
        ("array", "[{}", "JSON"),
        ("array", "[{}] []", "JSON"),
        ("array", "[" * 101 + "]" * 101, "nesting"),
        ("array", "[1, 2, 3, 4]", "number of events"),
        ("lines", "1\n2\n3\n4", "number of events"),
        ("lines", '{"message attribute a": 1}\0{}', "JSON"),
        ({"path": "a"}, "[]", "list of events"),
        ({"path": "a"}, '{"a": {}}', "list of events"),
        ({"path": "a"}, '{"a": "[]"}', "list of events"),
        ({"path": "a"}, '{"b": []}', "list of events"),
        ({"path": "a"}, '{"a": [], "a": []}', "duplicate key"),
        ({"path": "a"}, '{"a": [1, 2, 3, 4]}', "number of events"),
    ],
)
def test_a_message_that_cannot_be_split_has_a_reason(split: Any, body: str, check: str) -> None:
    """It is one reject, under its own id."""
    assert check_failed(body, "none", split, max_events=3) == check
    found = reader("none", split, max_events=3).events([message(body, 4)])
    assert (found.rejects, list(found.by_id)) == ([("m4", "message", check)], ["m4"])
    assert found.claims == ["m4"]


def test_kept_fields_are_bounded() -> None:
    """A large field beside a long list would fill the memory."""
    body = json.dumps({"a": [{}] * 1000, "b": "x" * 5000})
    split = {"path": "a", "keep": ["b"]}
    assert check_failed(body, "none", split, max_bytes=1_000_000) == "unpacked size"
    assert len(texts(body, "none", split)) == 1000


def test_the_records_of_s3_are_events() -> None:
    """Also when they come over SNS."""
    body = json.dumps({"Records": [RECORD, {**RECORD, "eventName": "ObjectRemoved:Delete"}]})
    for envelope, text in (("s3", body), (["sns", "s3"], sns(body))):
        first, second = map(json.loads, texts(text, envelope))
        assert first == RECORD
        assert second["eventName"] == "ObjectRemoved:Delete"


def test_the_test_of_s3_has_no_event() -> None:
    """S3 sends it when a notification is set up; it is no mistake."""
    assert texts(json.dumps(TEST_EVENT), "s3") == []


@pytest.mark.parametrize(
    "body", ["{}", "[]", '{"Records": {}}', '{"Event": "s3:Other"}', '{"Event": ["s3:TestEvent"]}']
)
def test_what_is_no_notification_of_s3_is_refused(body: str) -> None:
    """With a reason of its own."""
    assert check_failed(body, "s3") == "S3 notification"


def test_an_event_has_the_id_and_the_time_of_its_message() -> None:
    """The events of all messages come in order, and their messages are claimed with them."""
    messages = [message("[{}, 1]", 1), message("[]", 2), message("x", 3), message("[2]", 4)]
    found = reader("none", "array").events(messages)
    assert [(e.message_id, e.body, e.sent_ms) for e in found.readable] == [
        ("m1#1", "{}", SENT_MS), ("m1#2", "1", SENT_MS), ("m4#1", "2", SENT_MS),
    ]  # fmt: skip
    assert found.rejects == [("m3", "message", "JSON")]
    assert found.empty == ["m2"]
    assert sorted(found.claims) == ["m1", "m1#1", "m1#2", "m2", "m3", "m4", "m4#1"]
    assert found.messages_of(["m1#2", "m3", "m4#1"]) == {"m1", "m3", "m4"}
    assert found.of_new_messages({"m1", "m1#1", "m4#1", "m3"}) == {"m1", "m1#1", "m3"}


def ids(*parts: Events) -> list[list[str]]:
    """The ids of the events of each part."""
    return [[event.message_id for event in part.readable] for part in parts]


def test_events_are_taken_out_as_many_at_a_time_as_may_be_in_memory() -> None:
    """No message is in two parts, so it is committed as a whole."""
    bodies = ["[1, 2]", "[3]", "[]", "x", "[4, 5, 6]", "[7]"]
    messages = [message(body, number) for number, body in enumerate(bodies)]
    split = reader("none", "array")
    by_number = list(split.parts(messages, 3, math.inf))
    assert ids(*by_number) == [["m0#1", "m0#2", "m1#1"], ["m4#1", "m4#2", "m4#3"], ["m5#1"]]
    assert [len(part.messages) for part in by_number] == [2, 3, 1]
    assert (by_number[1].empty, by_number[1].rejects) == (["m2"], [("m3", "message", "JSON")])
    by_length = list(split.parts(messages, math.inf, 4))
    assert [len(part.messages) for part in by_length] == [5, 1]
    assert [len(part.messages) for part in split.parts(messages, math.inf, math.inf)] == [6]
    assert list(split.parts([], 1, 1)) == []
    (whole,) = reader().parts(messages, 1, 1)
    assert whole.readable == messages


def test_messages_that_must_wait_are_taken_out_with_all_that_they_have() -> None:
    """Of the others, everything stays."""
    bodies = ["[1, 2]", "[3]", "[]", "x", "[]", "y"]
    found = reader("none", "array").events([message(b, n) for n, b in enumerate(bodies)])
    left = found.without({"m1", "m2", "m3"})
    assert [m.message_id for m in left.messages] == ["m0", "m4", "m5"]
    assert ids(left) == [["m0#1", "m0#2"]]
    assert (left.empty, [reject[0] for reject in left.rejects]) == (["m4"], ["m5"])
    assert sorted(left.claims) == ["m0", "m0#1", "m0#2", "m4", "m5"]
    whole = reader().events([message("{}", 1), message("{}", 2)]).without({"m1"})
    assert (ids(whole), whole.claims) == ([["m2"]], ["m2"])


def test_an_event_that_is_alone_in_the_quarantine_is_not_split_again() -> None:
    """Its text is the event, with nothing around it, whatever the configuration says."""
    alone = message("[{}]", message_id="m1#2")
    with_message = [message("[5, 6, 7]", 1), alone]
    found = reader("none", "array").events([alone])
    assert [(e.message_id, e.body) for e in found.readable] == [("m1#2", "[{}]")]
    unwrap = reader(["sns", "base64"]).unwrap
    assert unwrap is not None
    assert unwrap(alone) == "[{}]"
    # Beside its message, it counts once.
    ((*found_ids,),) = ids(reader("none", "array").events(with_message))
    assert sorted(found_ids) == ["m1#1", "m1#2", "m1#3"]


def test_a_damaged_message_is_not_split() -> None:
    """Its events may be the damaged part."""
    found = reader("none", "lines").events(
        [message("{}", 1, md5="0" * 32), message("", 2, md5=None)]
    )
    assert found.rejects == [
        ("m1", "message", "MD5 of body"), ("m2", "message", "empty body"),
    ]  # fmt: skip


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES), max_size=5), st.text(), VALUES)
def test_what_is_split_can_be_put_together_again(
    events: list[dict[str, Any]], kept: str, value: Any
) -> None:
    """All three ways give the events that were put in."""
    assert list(map(json.loads, texts(json.dumps(events), "none", "array"))) == events
    lines = "\n".join(map(json.dumps, events)) + "\n"
    assert list(map(json.loads, texts(lines, "none", "lines"))) == events
    body = json.dumps({kept: value, "events": events}) if kept != "events" else ""
    if body:
        split = {"path": "events", "keep": [kept]}
        found = [json.loads(text) for text in texts(body, "none", split)]
        assert found == [{kept: value, **event} for event in events]


def test_a_name_in_many_events_of_one_message_is_in_one_message() -> None:
    """They may all be of one person, so the name of their field may be the person's."""
    events = [{"n": number, "anna": 1} for number in range(20)]
    wanted = Settings.model_validate(
        {
            "event": {"split": "array"},
            "table": {"columns": [{"name": "n", "field": "n", "type": "integer"}]},
        }
    )
    schema = frame_schema(wanted.table.columns)
    one = message(json.dumps(events))
    assert prepare([one], wanted, schema, KEYRING, "r").unknown_fields == {None: 1}
    many = [message(json.dumps(events), number) for number in range(5)]
    assert prepare(many, wanted, schema, KEYRING, "r").unknown_fields == {"anna": 5}
