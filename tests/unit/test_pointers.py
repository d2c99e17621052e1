"""Which bodies are pointers to S3, and which of them may be followed."""

from __future__ import annotations

import json

import pytest

from etl.config import QueueSettings
from etl.reading.pointers import Pointer, is_pointer, read_pointer
from etl.reading.unreadable import Unreadable
from tests.s3_server import pointer
from tests.unit.builders import event, message, reader

BUCKETS = ["payloads"]


def check_of(body: str) -> str:
    """The check that a pointer fails."""
    with pytest.raises(Unreadable) as finding:
        read_pointer(body, BUCKETS)
    return finding.value.check


@pytest.mark.parametrize(
    "name",
    [
        "software.amazon.payloadoffloading.PayloadS3Pointer",
        "com.amazon.sqs.javamessaging.MessageS3Pointer",
        "awsv2.repackaged.software.amazon.payloadoffloading.PayloadS3Pointer",
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_the_libraries_of_java_and_python_are_understood(name: str, indent: int | None) -> None:
    """They differ in the blanks, and in the class by version."""
    place = {"s3BucketName": "payloads", "s3Key": "in/ä b+%2f"}
    for text in (
        json.dumps([name, place], indent=indent),
        f'\ufeff["{name}", {json.dumps(place)}]',
    ):
        assert is_pointer(text)
        assert read_pointer(text, BUCKETS) == Pointer("payloads", "in/ä b+%2f")


@pytest.mark.parametrize(
    "body",
    [
        event(),
        event(user_id="software.amazon.payloadoffloading.PayloadS3Pointer"),
        json.dumps([json.loads(event())]),
        '["another", {"s3BucketName": "payloads", "s3Key": "k"}]',
        "",
    ],
)
def test_an_event_is_not_taken_for_a_pointer(body: str) -> None:
    """Only the first item of an array says what it is."""
    assert not is_pointer(body)


@pytest.mark.parametrize(
    "key",
    ["", "a" * 1025, "../secrets/k", "a/../../secrets/k", "./k", "..", r"\ud800"],
)
def test_a_key_that_s3_could_not_have_or_that_leads_elsewhere_is_refused(key: str) -> None:
    """A proxy could take the dots of a path for another bucket."""
    assert check_of(pointer(key)) == "S3 pointer"


@pytest.mark.parametrize(
    "place",
    ["{}", "[]", "null", '"x"', '{"s3BucketName": "payloads"}', '{"s3BucketName": 1, "s3Key": "k"}',
     '{"s3BucketName": "payloads", "s3Key": 7}', "[" * 4000, "{", "1" * 5000,
     '{"s3BucketName": "payloads", "s3Key": "k", "more": "' + "a" * 9000 + '"}'],
)  # fmt: skip
def test_a_pointer_with_a_mistake_is_refused(place: str) -> None:
    """Whatever follows the name of the class."""
    assert check_of(f'["x.PayloadS3Pointer", {place}]') == "S3 pointer"


@pytest.mark.parametrize("bucket", ["other", "Payloads", "payloads/x", "payloads.", ""])
def test_only_the_configured_buckets_may_be_named(bucket: str) -> None:
    """A message must not make the job read any bucket that its role can read."""
    assert check_of(pointer("k", bucket)) == "S3 bucket"


def test_a_pointer_shows_neither_bucket_nor_key() -> None:
    """Both come from a message."""
    assert "payloads" not in repr(read_pointer(pointer("k"), BUCKETS))


@pytest.mark.parametrize("envelope", ["none", "sns", ["base64", "gzip"]])
@pytest.mark.parametrize("split", ["none", "array", "lines"])
def test_without_payloads_a_pointer_is_named(envelope: str, split: str) -> None:
    """Whatever wrapping or list is expected, the check says what came instead."""
    from etl import extract

    texts = reader(envelope, split)
    events = texts.events([message(pointer("k"))])
    _, rejects = extract.read(events.readable, ["ip"], unwrap=texts.unwrap)
    found = [check for _, _, check in events.rejects] + rejects["check"].tolist()
    assert found == ["S3 pointer"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"payloads": "s3"}, "payload_buckets"),
        ({"payload_buckets": ["arn:aws:s3:::b"]}, "is not the name of a bucket"),
        ({"payload_buckets": ["my_bucket/x"]}, "is not the name of a bucket"),
        ({"payload_buckets": ["*"]}, "is not the name of a bucket"),
    ],
)
def test_buckets_are_named_one_by_one(given: dict[str, object], words: str) -> None:
    """No pattern, no ARN, and no payloads without a bucket."""
    with pytest.raises(ValueError, match=words):
        QueueSettings.model_validate(given)
