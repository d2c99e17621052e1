"""``etl doctor``: which rights the credentials have, by how SQS refuses impossible requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from etl.doctor import rights
from etl.doctor.result import Result
from tests.unit.answering_sqs import (
    BODY,
    AnsweringSqs,
    by_check,
    failed_entry,
    refusal,
    serve_sqs,
    settings,
)
from tests.unit.aws_server import URL
from tests.unit.raw_server import reply

OPERATIONS = {
    "rights.receive": "ReceiveMessage",
    "rights.delete": "DeleteMessageBatch",
    "rights.visibility": "ChangeMessageVisibilityBatch",
    "rights.attributes": "GetQueueAttributes",
}
BATCHES = ["rights.delete", "rights.visibility"]
DENIED = [
    "AccessDenied",
    "AccessDeniedException",
    "AWS.SimpleQueueService.AccessDenied",
    "AuthorizationError",
    "NotAuthorized",
]
KMS = ["KMS.AccessDeniedException", "KmsAccessDenied", "KmsAccessDeniedException"]


@pytest.fixture(scope="module")
def one_server() -> Iterator[AnsweringSqs]:
    """One server for all tests of this file."""
    with serve_sqs() as server:
        yield server


@pytest.fixture
def sqs(one_server: AnsweringSqs) -> AnsweringSqs:
    """The server, which answers as to those who have every right."""
    one_server.reset()
    return one_server


def check(sqs: AnsweringSqs, name: str) -> Result:
    """The result of one check."""
    return by_check(rights.results(settings(), sqs.ask()))[name]


def test_who_has_every_right_is_told_so(sqs: AnsweringSqs) -> None:
    """By what SQS says of a made-up handle, and of a receive of eleven."""
    found = by_check(rights.results(settings(), sqs.ask()))
    assert {result.status for result in found.values()} == {"ok"}
    assert {result.advice for result in found.values()} == {""}
    assert set(found) == {*OPERATIONS, "rights.decrypt"}


def test_no_request_can_have_an_effect(sqs: AnsweringSqs) -> None:
    """Each has what SQS never takes; the handle looks like SQS's own, or it would prove nothing."""
    list(rights.results(settings(), sqs.ask()))
    assert sqs.asked("ReceiveMessage") == [
        {
            "QueueUrl": URL,
            "MaxNumberOfMessages": 11,
            "WaitTimeSeconds": -1,
            "VisibilityTimeout": 0,
        }
    ]
    for operation in ("DeleteMessageBatch", "ChangeMessageVisibilityBatch"):
        ((request,),) = (r["Entries"] for r in sqs.asked(operation))
        assert request["ReceiptHandle"] == rights.MADE_UP_HANDLE
    assert rights.MADE_UP_HANDLE.startswith("AQEB")
    assert rights.MADE_UP_HANDLE.isalnum()
    assert len(rights.MADE_UP_HANDLE) == 404
    assert len(sqs.server.requests) == 4


@pytest.mark.parametrize("code", DENIED)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_missing_right_is_named(name: str, code: str, sqs: AnsweringSqs) -> None:
    """With what to allow. AWS has no right of its own for a batch."""
    sqs.replies[OPERATIONS[name]] = refusal(code, 403)
    found = by_check(rights.results(settings(), sqs.ask()))
    action = OPERATIONS[name].removesuffix("Batch")
    assert found[name].status == "fail"
    assert found[name].advice.startswith(f"allow sqs:{action} to the credentials")
    others = {result.status for check, result in found.items() if check != name}
    assert others <= {"ok", "unknown"}


@pytest.mark.parametrize("code", KMS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_kms_key_that_is_refused_is_named(name: str, code: str, sqs: AnsweringSqs) -> None:
    """Under both names that the refusal has."""
    sqs.replies[OPERATIONS[name]] = refusal(code)
    found = check(sqs, name)
    assert (found.status, "allow kms:Decrypt on it" in found.advice) == ("fail", True)


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("code", ["AccessDenied", "KmsAccessDenied", "KMS.DisabledException"])
def test_a_refusal_inside_an_answer_counts_too(name: str, code: str, sqs: AnsweringSqs) -> None:
    """A batch is answered with success, and its entry with an error."""
    sqs.replies[OPERATIONS[name]] = failed_entry(code)
    assert check(sqs, name).status == "fail"


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "InvalidParameterValueException"])
def test_a_handle_that_is_judged_proves_the_right(name: str, code: str, sqs: AnsweringSqs) -> None:
    """Whether the request or its entry is refused for it."""
    for answer in (failed_entry(code), refusal(code)):
        sqs.replies[OPERATIONS[name]] = answer
        assert check(sqs, name).status == "ok"


@pytest.mark.parametrize("code", ["ReadCountOutOfRange", "InvalidParameterValueException"])
def test_a_receive_that_is_judged_proves_the_right(code: str, sqs: AnsweringSqs) -> None:
    """SQS and ElasticMQ have different words for it."""
    sqs.replies["ReceiveMessage"] = refusal(code)
    assert check(sqs, "rights.receive").status == "ok"


@pytest.mark.parametrize(
    "code",
    ["RequestThrottled", "KmsThrottled", "OverLimit", "MissingParameter", "InvalidClientTokenId",
     "AWS.SimpleQueueService.NonExistentQueue", "InvalidAction", "SerializationException", "404"],
)  # fmt: skip
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_other_answer_proves_nothing(name: str, code: str, sqs: AnsweringSqs) -> None:
    """Neither that the right is there nor that it is lacking."""
    answers = [refusal(code)]
    answers += [failed_entry(code)] if name in BATCHES else []
    for answer in answers:
        sqs.replies[OPERATIONS[name]] = answer
        found = check(sqs, name)
        assert (found.status, bool(found.found)) == ("unknown", True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_answer_that_cannot_be_read_proves_nothing(name: str, sqs: AnsweringSqs) -> None:
    """Neither does one that takes what SQS refuses."""
    for body in ("<html>", "[]", "{}", '{"Failed": [{}]}'):
        sqs.replies[OPERATIONS[name]] = reply(body)
        assert check(sqs, name).status == "unknown", body


@pytest.mark.parametrize("refused", [False, True])
def test_messages_that_come_all_the_same_are_given_back(refused: bool, sqs: AnsweringSqs) -> None:
    """An emulator without limits; nothing of the messages is shown."""
    messages = [
        {"MessageId": f"m{i}", "ReceiptHandle": f"handle-{i}", "Body": BODY} for i in range(11)
    ]
    sqs.replies["ReceiveMessage"] = reply(json.dumps({"Messages": messages}))
    sqs.replies["ChangeMessageVisibilityBatch"] = (
        refusal("AccessDenied", 403) if refused else reply('{"Successful": []}')
    )
    found = check(sqs, "rights.receive")
    assert found.status == "unknown"
    assert "returned 11 messages" in found.found
    assert ("11 of them come back after" in found.found) == refused
    assert BODY not in f"{found}"
    assert "handle-" not in f"{found}"
    given = [entry for request in sqs.asked("ChangeMessageVisibilityBatch")[:2]
             for entry in request["Entries"]]  # fmt: skip
    assert [entry["ReceiptHandle"] for entry in given] == [f"handle-{i}" for i in range(11)]
    assert {entry["VisibilityTimeout"] for entry in given} == {0}


def test_the_right_on_a_kms_key_shows_only_at_a_receive(sqs: AnsweringSqs) -> None:
    """A queue without such a key needs no right on one."""
    sqs.own = {"KmsMasterKeyId": "alias/q", "SqsManagedSseEnabled": "false"}
    found = check(sqs, "rights.decrypt")
    assert found.status == "unknown"
    assert "'alias/q'" in found.found
    assert found.advice.startswith("allow kms:Decrypt on it")
    sqs.replies["GetQueueAttributes"] = refusal("AccessDenied", 403)
    assert check(sqs, "rights.decrypt").advice == "see queue.exists"
