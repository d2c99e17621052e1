"""What is read from an answer, and said of an error, does not depend on the transport."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.aws import answers
from etl.sqs.message import Message, read_message
from etl.sqs.queue import Queue
from etl.sqs.transport import OPERATIONS, read_answer
from tests.unit.aws_server import KEYS, queue
from tests.unit.raw_server import reply, serve_raw
from tests.unit.test_transport import CALLS, said

# Every code that answers.py knows, and those that may pass, under each of their spellings.
KNOWN = {
    *answers._CREDENTIALS,
    *answers._MISSING_RIGHT,
    *answers._OTHERS,
    *(f"KMS.{name}" for name in answers._KMS_REFUSALS),
    *(f"Kms{name}" for name in answers._KMS_REFUSALS),
    "Throttling", "RequestThrottled", "ThrottledException", "KMS.ThrottlingException",
    "KmsThrottled", "InternalError", "InternalFailure", "ServiceUnavailable", "OverLimit",
    "InvalidParameterValue", "MissingParameter", "SerializationException", "RequestExpired",
    "BatchEntryIdsNotDistinct", "ReceiptHandleIsInvalid", "SlowDown", "RequestTimeout",
}  # fmt: skip
CODES = sorted(KNOWN | {f"{code}Exception" for code in KNOWN if not code.endswith("Exception")})
STATUSES = (400, 403, 429, 500, 503)


def error_answers(code: str, status: int) -> list[bytes]:
    """An error in each of the forms in which it comes."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "Signature"})
    return [
        # The code of the JSON protocol alone.
        reply(body, status),
        # That of the older protocol, in the header of AWS.
        reply(
            '{"__type": "com.amazonaws.sqs#Shape", "Message": "text"}',
            status,
            x_amzn_query_error=f"AWS.SimpleQueueService.{code};Sender",
        ),
        reply(body, status, x_amzn_query_error=f"{code};Receiver", x_amzn_RequestId="1"),
        # An address after it, and a header that cannot be read.
        reply(json.dumps({"__type": f"{code}:http://internal"}), status, x_amzn_query_error=";"),
    ]


@pytest.fixture(scope="module")
def both() -> Iterator[Callable[[bytes, Callable[[Queue], Any]], list[Any]]]:
    """What a call comes to over both transports, if each request has the same answer."""
    now = [b""]
    with serve_raw(lambda _: now[0]) as server:
        environment = {**KEYS, "AWS_ENDPOINT_URL": server.url}
        queues = [queue(environment, transport=name) for name in ("boto3", "curl")]

        def ask(answer: bytes, call: Callable[[Queue], Any]) -> list[Any]:
            now[0] = answer
            server.requests.clear()
            found = [said(lambda: call(asked)) for asked in queues]  # noqa: B023
            assert server.counts() == (1, 2)  # libcurl has asked, and botocore each time
            return found

        yield ask


@pytest.mark.parametrize("code", CODES)
def test_an_error_is_told_in_the_same_words(code: str, both: Any) -> None:
    """Each call, each status and each form, over both transports."""
    for number, status in enumerate(STATUSES):
        call = CALLS[number % len(CALLS)]
        for answer in error_answers(code, status):
            over_boto3, over_curl = both(answer, call)
            assert over_curl == over_boto3
            assert isinstance(over_curl, tuple)  # it is one of our errors


@pytest.mark.parametrize("text", ["Signature expired: 1 is now", "Signature not yet current: 2"])
@pytest.mark.parametrize("call", CALLS)
def test_a_signature_of_another_time_is_told_in_the_same_words(
    text: str, call: Any, both: Any
) -> None:
    """The answers have no time by which a clock could be corrected."""
    body = json.dumps({"__type": "InvalidSignatureException", "message": text})
    over_boto3, over_curl = both(reply(body, 403), call)
    assert over_curl == over_boto3
    assert "correct this machine's clock" in over_curl[1]


SQS = botocore.session.Session().get_service_model("sqs")
PARSER = create_parser("json")
RECEIVE = OPERATIONS["receive_message"]

STRINGS = st.text(max_size=20) | st.sampled_from(["\ud800", "a\udfffb", "\x00", "1700000000000"])
NUMBERS = st.integers(-(2**70), 2**70) | st.floats()
SCALARS = st.none() | st.booleans() | NUMBERS | STRINGS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3)
)
NAMES = st.sampled_from(
    ["MessageId", "ReceiptHandle", "Body", "MD5OfBody", "Attributes", "MessageAttributes"]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]), SCALARS
)
ENTRIES = st.fixed_dictionaries(
    {"MessageId": STRINGS, "ReceiptHandle": STRINGS},
    optional={"Body": SCALARS, "MD5OfBody": SCALARS, "Attributes": ATTRIBUTES | VALUES},
)
LISTS = st.lists(ENTRIES | st.dictionaries(NAMES, VALUES) | VALUES, max_size=3)
ANSWERS = st.dictionaries(st.sampled_from(["Messages", "message"]), LISTS | VALUES) | VALUES


def fields(message: Message) -> dict[str, Any]:
    """What a message was made of."""
    return {name: repr(getattr(message, name)) for name in Message.__slots__}


def check_like_botocore(text: bytes) -> None:
    """Compare the messages that are made of an answer, unless it is left to botocore."""
    ours = read_answer(text, RECEIVE)
    if ours is None:
        return
    shape = SQS.operation_model("ReceiveMessage").output_shape
    theirs = PARSER.parse({"headers": {}, "status_code": 200, "body": text}, shape)
    expected = [fields(read_message(entry)) for entry in theirs.get("Messages", [])]
    assert [fields(read_message(entry)) for entry in ours.get("Messages", [])] == expected


@given(ANSWERS, st.booleans())
@settings(max_examples=200, deadline=None)
@example({"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "\ud800"}]}, True)
@example({"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "MD5OfBody": float("nan")}]}, True)
def test_an_answer_is_read_as_by_botocore(answer: Any, is_ascii: bool) -> None:
    """Also lone surrogates, NaN, long numbers, nulls and other types than SQS's."""
    text = json.dumps(answer, ensure_ascii=is_ascii).encode(errors="surrogatepass")
    check_like_botocore(text)


@given(st.binary(max_size=60), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_a_damaged_answer_is_read_as_by_botocore(damage: bytes, at: int) -> None:
    """Bytes that are no UTF-8 and no JSON."""
    text = b'{"Messages": [{"MessageId": "m", "ReceiptHandle": "r", "Body": "{\\"a\\": 1}"}]}'
    check_like_botocore(text[:at] + damage + text[at:])


@pytest.mark.parametrize(
    "text",
    [
        b'{"Messages": [{"MessageId": "a", "MessageId": "b", "ReceiptHandle": "r"}]}',
        b'{"Messages": [], "Messages": [{"MessageId": "b", "ReceiptHandle": "r"}]}',
        b'{"Messages": [{"MessageId": "\\ud83d\\ude00", "ReceiptHandle": "\\ud83d"}]}',
        b'\xef\xbb\xbf{"Messages": [{"MessageId": "b", "ReceiptHandle": "r"}]}',
        b' \t\r\n{"Messages": [{"MessageId": "b", "ReceiptHandle": "r"}]}\n',
        b'{"Messages": [{"MessageId": "b", "ReceiptHandle": "r", "x": 1e999}]}',
        b'{"Messages": [{"MessageId": "b", "ReceiptHandle": "r", "x": ' + b"9" * 5000 + b"}]}",
        b'{"Messages": [{"MessageId": "b", "ReceiptHandle": "r", "x": ' + b"[" * 2000,
    ],
)
def test_what_decoders_differ_in_is_read_as_by_botocore(text: bytes) -> None:
    """Two equal names, halves of a character, a mark of the byte order, blanks, large numbers."""
    check_like_botocore(text)
