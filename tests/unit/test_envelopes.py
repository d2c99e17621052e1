"""What an event is wrapped in is taken off layer by layer, and nothing is guessed."""

from __future__ import annotations

import base64
import gzip
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from etl import config
from etl.config import EventSettings, QueueSettings
from etl.errors import SettingsError
from etl.reading.unreadable import Unreadable
from tests.unit.builders import ROOT, message, reader

EVENT = '{"user": "u-1", "ip": "192.0.2.7", "price": 0.10000000000000000555}'
SNS = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:eu-central-1:123456789012:clicks",
    "Subject": 'a "subject" with {brackets]',
    "Timestamp": "2024-02-29T12:45:07.000Z",
    "SignatureVersion": "1",
    "MessageAttributes": {"kind": {"Type": "String", "Value": "click"}},
}
EVENTBRIDGE = {
    "version": "0",
    "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
    "detail-type": "Order Placed",
    "source": "com.example.shop",
    "account": "123456789012",
    "time": "2024-02-29T12:45:07Z",
    "region": "eu-central-1",
    "resources": [],
}


def zipped(data: bytes) -> bytes:
    """Compress, without the time: the names of the tests hold it."""
    return gzip.compress(data, mtime=0)


def sns(text: str) -> str:
    """An SNS notification as SQS delivers it."""
    return json.dumps({**SNS, "Message": text})


def eventbridge(event: str) -> str:
    """An event of EventBridge; the text within it stays as it is."""
    return json.dumps(EVENTBRIDGE)[:-1] + f', "detail": {event}}}'


def base64_of(data: bytes) -> str:
    """Base64 of bytes."""
    return base64.b64encode(data).decode()


def texts(body: str, envelope: Any = "none", split: Any = "none", **more: Any) -> list[str]:
    """The texts of the events of a message."""
    return reader(envelope, split, **more).texts(message(body))


def check_failed(body: str, envelope: Any = "none", split: Any = "none", **more: Any) -> str:
    """The check that a message fails."""
    with pytest.raises(Unreadable) as found:
        texts(body, envelope, split, **more)
    return found.value.check


@pytest.mark.parametrize(
    ("envelope", "body"),
    [
        ("none", EVENT),
        ("sns", sns(EVENT)),
        ("eventbridge", eventbridge(EVENT)),
        ({"path": "detail"}, eventbridge(EVENT)),
        ({"path": "Records[1].body"}, f'{{"Records": [1, {{"body": {json.dumps(EVENT)}}}]}}'),
        ({"path": '"a.b".c[0][0]'}, f'{{"a.b": {{"c": [[{EVENT}]]}}}}'),
        (["sns", "eventbridge"], sns(eventbridge(EVENT))),
        (["eventbridge", "sns"], eventbridge(sns(EVENT))),
        ("json", json.dumps(EVENT)),
        (["json", "json"], json.dumps(json.dumps(EVENT))),
        ("base64", base64_of(EVENT.encode())),
        ("base64", base64.encodebytes(EVENT.encode()).decode()),
        (["base64", "gzip"], base64_of(zipped(EVENT.encode()))),
        (["base64", "gzip"],
         base64_of(zipped(EVENT[:9].encode()) + zipped(EVENT[9:].encode()))),
        (["sns", "base64", "gzip", "eventbridge"],
         sns(base64_of(zipped(eventbridge(EVENT).encode())))),
        ("eventbridge", f"\ufeff {eventbridge(EVENT)}\r\n"),
        ("sns", f'{{"n": {"9" * 5000}, "x": NaN, {sns(EVENT)[1:]}'),
    ],
)  # fmt: skip
def test_the_event_keeps_its_own_text(envelope: Any, body: str) -> None:
    """No digit of a number is lost on the way."""
    assert texts(body, envelope) == [EVENT]


@pytest.mark.parametrize(
    ("envelope", "body", "check"),
    [
        ("sns", EVENT, "SNS notification"),
        ("sns", "[]", "SNS notification"),
        ("sns", sns(EVENT).replace("Notification", "SubscriptionConfirmation"), "SNS notification"),
        ("sns", json.dumps({**SNS, "Message": {"user": 1}}), "SNS notification"),
        ("sns", sns(EVENT)[:-1], "JSON"),
        ("sns", sns(EVENT) + "x", "JSON"),
        ("sns", f'{{"Message": "a", {sns(EVENT)[1:]}', "duplicate key"),
        ("sns", "[" * 200 + "]" * 200, "nesting"),
        ("sns", "[" * 100_000, "nesting"),
        ("eventbridge", EVENT, "EventBridge event"),
        ("eventbridge", f'{{"detail": {EVENT}}}', "EventBridge event"),
        ("eventbridge", json.dumps(EVENTBRIDGE), "EventBridge event"),
        ({"path": "a.b"}, EVENT, "envelope"),
        ({"path": "a.b"}, '{"a": [1]}', "envelope"),
        ({"path": "a[1]"}, '{"a": ["x"]}', "envelope"),
        ({"path": "a[1]"}, '{"a": {"1": {}}}', "envelope"),
        ({"path": "a"}, '{"a": 7}', "envelope"),
        ({"path": "a"}, '{"a": null}', "envelope"),
        ("json", EVENT, "JSON text"),
        ("json", '"a', "JSON"),
        ("json", "", "empty body"),
        ("base64", EVENT, "base64"),
        ("base64", base64_of(EVENT.encode()) + "é", "base64"),
        ("base64", base64_of(EVENT.encode() + b"..").rstrip("=")[:-1], "base64"),
        ("base64", "_" + base64_of(EVENT.encode()), "base64"),
        ("base64", base64_of(b"\xff\xfe"), "UTF-8"),
        (["base64", "gzip"], base64_of(EVENT.encode()), "gzip"),
        (["base64", "gzip"], base64_of(zipped(EVENT.encode())[:-1]), "gzip"),
        (["base64", "gzip"], base64_of(zipped(EVENT.encode()) + b"more"), "gzip"),
        (["base64", "gzip"], base64_of(zipped(EVENT.encode())[:-5] + b"12345"), "gzip"),
        (["base64", "gzip"], base64_of(zipped(b"\xff")), "UTF-8"),
    ],
)  # fmt: skip
def test_what_is_not_wrapped_as_configured_is_a_reject_with_a_reason(
    envelope: Any, body: str, check: str
) -> None:
    """Each layer has a check of its own."""
    assert check_failed(body, envelope) == check


def test_a_gzip_bomb_is_not_unpacked() -> None:
    """Not in one piece, nor in many members."""
    bomb = base64_of(zipped(b" " * 50_000_000))
    assert check_failed(bomb, ["base64", "gzip"]) == "unpacked size"
    many = base64_of(zipped(b" " * 1000) * 100)
    assert check_failed(many, ["base64", "gzip"], max_bytes=2000) == "unpacked size"
    exact = base64_of(zipped(b" " * 2000))
    assert texts(exact, ["base64", "gzip"], max_bytes=2000) == [" " * 2000]


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    """The limit holds while it is unpacked, not only afterwards."""
    bomb = base64_of(zipped(b" " * 100_000_000))
    unwrap = reader(["base64", "gzip"], max_bytes=1024 * 1024).texts
    tracemalloc.start()
    with pytest.raises(Unreadable):
        unwrap(message(bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(JSON_VALUES, st.text(max_size=5), st.integers(0, 3), st.sampled_from([None, 1]))
def test_the_text_under_a_path_is_that_of_its_value(
    value: Any, name: str, before: int, indent: int | None
) -> None:
    """Whatever is around it; and what is no object, list or text is refused."""
    around = {name + "x": value, "a": [*[value] * before, value]}
    body = json.dumps(around, indent=indent)
    envelope = {"path": f"a[{before}]"}
    if isinstance(value, str):
        assert texts(body, envelope) == [value]
    elif isinstance(value, (list, dict)):
        (found,) = texts(body, envelope)
        assert repr(json.loads(found)) == repr(value)
    else:
        assert check_failed(body, envelope) == "envelope"


@given(st.text(alphabet='{}[]":,\\ \n1aeN-\ufeff', max_size=30))
def test_any_text_is_unwrapped_or_refused(body: str) -> None:
    """No other error comes out, whatever a producer sends."""
    for envelope in ("sns", "eventbridge", "json", {"path": "a.b[0]"}, ["base64", "gzip"]):
        for split in ("none", "array", "lines", {"path": "a", "keep": ["e"]}):
            try:
                texts(body, envelope, split)
                texts(body, "none", split)
            except Unreadable:
                continue


@pytest.mark.parametrize(
    ("envelope", "words"),
    [
        ("SNS", "must be none, sns"),
        ([], "must be a layer"),
        (["none", "sns"], "must not list 'none'"),
        ("gzip", "must have 'base64' before 'gzip'"),
        (["gzip", "base64"], "must have 'base64' before 'gzip'"),
        (["s3", "sns"], "must end with 's3'"),
        ({"path": "a..b"}, "is not a path"),
        ({"path": ""}, "is not a path"),
        ({"path": "[0]"}, "must begin with a name"),
        ({"path": "a[x]"}, "is not a path"),
        ({"paths": "a"}, "must be none, sns"),
        ({"path": 7}, "must be none, sns"),
        (True, "must be none, sns"),
    ],
)
def test_an_envelope_that_cannot_be_is_refused(envelope: Any, words: str) -> None:
    """With a sentence that says what can."""
    with pytest.raises(ValidationError, match=words) as found:
        QueueSettings(envelope=envelope)
    assert len(found.value.errors()) == 1


@pytest.mark.parametrize("split", ["object", {"keep": ["a"]}, {"path": "a", "more": 1}, None])
def test_a_split_that_cannot_be_is_refused(split: Any) -> None:
    """With one sentence."""
    with pytest.raises(ValidationError, match="must be none, array, lines") as found:
        EventSettings(split=split)
    assert len(found.value.errors()) == 1


def test_the_records_of_s3_are_not_split_again() -> None:
    """Each of them is an event already."""
    environment = {"ETL_QUEUE__ENVELOPE": "[sns, s3]", "ETL_EVENT__SPLIT": "lines"}
    with pytest.raises(SettingsError, match=r"event\.split must be none"):
        config.load(ROOT / "config.yaml", environment)


def test_an_envelope_can_be_set_by_a_variable() -> None:
    """A word, a list, or a path."""
    for text, layers in (
        ("sns", ("sns",)),
        ("[sns, eventbridge]", ("sns", "eventbridge")),
        ("none", ()),
    ):
        settings = config.load(ROOT / "config.yaml", {"ETL_QUEUE__ENVELOPE": text})
        assert settings.queue.layers == layers
    variables = {"ETL_QUEUE__ENVELOPE": '{path: "Records[0].body"}'}
    (layer,) = config.load(ROOT / "config.yaml", variables).queue.layers
    assert getattr(layer, "path", None) == "Records[0].body"
