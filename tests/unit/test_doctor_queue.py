"""``etl doctor``: what it says of a queue, by the attributes that SQS gives."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError

from etl.doctor import queue, rights
from etl.doctor.questions import Questions, open_questions
from etl.doctor.result import Result
from etl.errors import SettingsError
from tests.unit.answering_sqs import (
    ARN,
    BODY,
    DEAD_URL,
    TOKEN,
    AnsweringSqs,
    by_check,
    refusal,
    serve_sqs,
    settings,
)
from tests.unit.aws_server import KEYS, SECRET, URL
from tests.unit.raw_server import reply

DAY = 86_400
FIFO = {"url": f"{URL}.fifo"}


@pytest.fixture(scope="module")
def one_server() -> Iterator[AnsweringSqs]:
    """One server for all tests of this file."""
    with serve_sqs() as server:
        yield server


@pytest.fixture
def sqs(one_server: AnsweringSqs) -> AnsweringSqs:
    """The server, which answers as if all were well."""
    one_server.reset()
    return one_server


def check(sqs: AnsweringSqs, name: str, *, tasks: int = 1, **changes: Any) -> Result:
    """The result of one check."""
    return by_check(queue.results(settings(**changes), sqs.ask(), tasks=tasks))[name]


def policy(receives: int | str) -> str:
    """A redrive policy."""
    return json.dumps({"deadLetterTargetArn": f"{ARN}-dead", "maxReceiveCount": receives})


def test_a_queue_that_suits_the_job_is_ok(sqs: AnsweringSqs) -> None:
    """Only the age of the oldest message is not known to SQS. Nothing but attributes is asked."""
    found = by_check(queue.results(settings(), sqs.ask()))
    statuses = {name: result.status for name, result in found.items()}
    assert {name for name, status in statuses.items() if status != "ok"} == {"queue.oldest"}
    assert set(statuses) == {
        *queue.CHECKS,
        "queue.exists",
        "queue.redrive",
        "queue.dead_letter_retention",
        "queue.dead_letters",
    }
    assert len(sqs.server.requests) == 3
    assert len(sqs.asked("GetQueueAttributes")) == 2
    assert all(not result.advice for result in found.values() if result.status == "ok")


def test_the_queue_is_named_with_its_type_region_and_account(sqs: AnsweringSqs) -> None:
    """They come from its ARN."""
    assert check(sqs, "queue.exists").found == (
        "standard queue 'logins', region eu-west-1, account 123456789012"
    )
    questions = sqs.ask()
    questions.url = FIFO["url"]
    found = by_check(queue.results(settings(queue__url=FIFO["url"]), questions))
    assert found["queue.exists"].found.startswith("FIFO queue 'logins.fifo'")


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", "fail", "check 'queue.url' and the region"),
        ("InvalidClientTokenId", "fail", "renew or correct the credentials"),
        ("AccessDenied", "unknown", "allow sqs:GetQueueAttributes"),
        ("AccessDeniedException", "unknown", "allow sqs:GetQueueAttributes"),
        ("RequestThrottled", "unknown", ""),
    ],
)
def test_a_queue_that_cannot_be_asked_is_no_reason_to_guess(
    code: str, status: str, words: str, sqs: AnsweringSqs
) -> None:
    """Then every other check is unknown, and says where to look."""
    sqs.replies["GetQueueAttributes"] = refusal(code)
    found = by_check(queue.results(settings(), sqs.ask()))
    exists = found.pop("queue.exists")
    assert (exists.status, words in exists.advice) == (status, True)
    assert repr(code) in exists.found
    assert {(result.status, result.advice) for result in found.values()} == {
        ("unknown", "see queue.exists")
    }
    assert set(found) == {*queue.CHECKS, "queue.redrive"}


def test_what_gives_no_attributes_is_not_sqs(sqs: AnsweringSqs) -> None:
    """A server of another kind at AWS_ENDPOINT_URL."""
    for body in ("{}", '{"Attributes": {"QueueArn": "x"}}', "[]", "<html>"):
        sqs.replies["GetQueueAttributes"] = reply(body)
        exists = check(sqs, "queue.exists")
        assert (exists.status, "SQS" in exists.found) == ("fail", True), body


def test_an_error_without_a_code_is_not_of_sqs(sqs: AnsweringSqs) -> None:
    """SQS has a code for each, and a proxy has only the status of HTTP."""
    sqs.replies["GetQueueAttributes"] = reply("{}", 404)
    exists = check(sqs, "queue.exists")
    assert (exists.status, "may not be SQS" in exists.found) == ("fail", True)
    assert exists.advice.startswith("check AWS_ENDPOINT_URL")


def test_sqs_that_does_not_answer_is_asked_once() -> None:
    """Each further question would wait for as long."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    questions = open_questions(settings().queue, {**KEYS, "AWS_ENDPOINT_URL": url})
    found = by_check(queue.results(settings(), questions))
    assert found["queue.exists"].status == "fail"
    assert found["queue.exists"].found.startswith("no answer from SQS to 'get_queue_attributes'")
    calls: list[str] = []
    questions._client.meta.events.register("before-call", lambda **_: calls.append("call"))
    statuses = {result.status for result in rights.results(settings(), questions)}
    assert (statuses, calls) == ({"unknown"}, [])


def test_a_wrong_clock_is_told_from_a_wrong_key(sqs: AnsweringSqs) -> None:
    """Both have the same code."""
    code = "SignatureDoesNotMatch"
    for text, advice in (("Signature expired: 1 is now", "clock"), ("another", "credentials")):
        sqs.replies["GetQueueAttributes"] = refusal(code, 403, text)
        exists = check(sqs, "queue.exists")
        assert (exists.status, advice in exists.advice) == ("fail", True)


def test_a_refusal_of_who_gives_credentials_is_not_one_of_sqs(sqs: AnsweringSqs) -> None:
    """A role that may not be assumed says nothing of the rights on the queue."""
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": BODY}}, "AssumeRole")
    client = Mock(meta=sqs.client._client.meta)
    client.get_queue_attributes.side_effect = error
    questions = Questions(client, sqs.client.to, URL)
    found = by_check(queue.results(settings(), questions))
    assert found["queue.exists"].status == "fail"
    assert "AssumeRole" in found["queue.exists"].advice
    assert {result.status for result in rights.results(settings(), questions)} == {"unknown"}
    assert len(client.method_calls) == 1


def test_there_is_nothing_to_ask_without_a_queue() -> None:
    """As for a run."""
    with pytest.raises(SettingsError, match=r"set 'queue\.url'"):
        open_questions(settings(url=" ").queue, KEYS)


@pytest.mark.parametrize(
    ("seconds", "changes", "status", "advice"),
    [
        (0, {}, "fail", "VisibilityTimeout=120"),
        (59, {}, "warn", "VisibilityTimeout=120"),
        (60, {}, "ok", ""),
        (3600, {}, "ok", ""),
        (3601, {}, "warn", "VisibilityTimeout=120"),
        # A call may hang for 5 + 20 + 10 s.
        (69, {"queue__wait_seconds": 20}, "warn", "VisibilityTimeout=120"),
        (70, {"queue__wait_seconds": 20}, "ok", ""),
        # Each message would be extended while its batch is gathered.
        (599, {"batch__seconds": 300}, "warn", "VisibilityTimeout=600"),
        (600, {"batch__seconds": 300}, "ok", ""),
    ],
)
def test_the_visibility_timeout_fits_the_heartbeat_and_a_batch(
    seconds: int, changes: dict[str, Any], status: str, advice: str, sqs: AnsweringSqs
) -> None:
    """Long enough for an extension that hangs, and short enough for the run after a kill."""
    sqs.own["VisibilityTimeout"] = str(seconds)
    found = check(sqs, "queue.visibility", **changes)
    assert found.status == status
    assert advice in found.advice
    assert bool(found.advice) == bool(advice)


def test_a_command_names_the_queue_without_a_password(sqs: AnsweringSqs) -> None:
    """It can be copied to a shell."""
    sqs.own["VisibilityTimeout"] = "0"
    questions = sqs.ask()
    questions.url = f"https://user:{SECRET}@sqs.example.com/1/it's"
    found = by_check(queue.results(settings(), questions))["queue.visibility"]
    assert found.advice == (
        "aws sqs set-queue-attributes --queue-url 'https://sqs.example.com/1/it'\"'\"'s' "
        "--attributes VisibilityTimeout=120"
    )


@pytest.mark.parametrize(("days", "status"), [(1, "warn"), (2, "ok"), (14, "ok")])
def test_messages_outlive_a_night_that_failed(days: int, status: str, sqs: AnsweringSqs) -> None:
    """SQS deletes older ones, loaded or not."""
    sqs.own["MessageRetentionPeriod"] = str(days * DAY)
    assert check(sqs, "queue.retention").status == status


@pytest.mark.parametrize(
    ("own", "dead", "ledger", "status", "least"),
    [
        (4, 14, 18, "warn", 19),
        (4, 14, 19, "ok", None),
        (14, 14, 28, "warn", 29),
        (14, 14, 35, "ok", None),
        (14, 14, 14, "fail", 29),
        (4, None, 4, "fail", 5),  # no dead-letter queue
        (4, None, 5, "ok", None),
        (4, "denied", 18, "unknown", 19),
        (4, "denied", 19, "ok", None),
        (4, "denied", 4, "fail", 19),
    ],
)
def test_the_ledger_remembers_for_longer_than_a_message_lives(
    own: int, dead: Any, ledger: int, status: str, least: int | None, sqs: AnsweringSqs
) -> None:
    """Also if it spends its time in the dead-letter queue, where at most 14 days are possible."""
    sqs.own["MessageRetentionPeriod"] = str(own * DAY)
    if dead is None:
        sqs.own["RedrivePolicy"] = None
    elif dead == "denied":
        sqs.replies["GetQueueUrl"] = refusal("AccessDenied", 403)
    else:
        sqs.dead["MessageRetentionPeriod"] = str(dead * DAY)
    found = check(sqs, "queue.ledger", ledger__retention_days=ledger)
    assert found.status == status
    assert found.advice.startswith(f"set ETL_LEDGER__RETENTION_DAYS to {least} ") == bool(least)


@pytest.mark.parametrize(
    ("attributes", "status", "words"),
    [
        ({"SqsManagedSseEnabled": "true"}, "ok", "SSE-SQS"),
        ({"SqsManagedSseEnabled": "false", "KmsMasterKeyId": "alias/q"}, "ok", "'alias/q'"),
        ({"SqsManagedSseEnabled": "false"}, "warn", "none"),
        ({"SqsManagedSseEnabled": None}, "unknown", "does not say"),
    ],
)
def test_a_queue_of_personal_data_is_encrypted(
    attributes: dict[str, str | None], status: str, words: str, sqs: AnsweringSqs
) -> None:
    """By a key of SQS or of KMS; emulators say neither."""
    sqs.own = attributes
    found = check(sqs, "queue.encryption")
    assert (found.status, words in found.found) == (status, True)


@pytest.mark.parametrize(("in_flight", "status"), [(99_999, "ok"), (100_000, "warn")])
def test_the_messages_are_counted(in_flight: int, status: str, sqs: AnsweringSqs) -> None:
    """Near the number that SQS allows in flight, it delivers nothing."""
    sqs.own["ApproximateNumberOfMessagesNotVisible"] = str(in_flight)
    sqs.own["ApproximateNumberOfMessagesDelayed"] = "7"
    found = check(sqs, "queue.messages")
    assert found.status == status
    assert found.found.startswith(f"3 visible, {in_flight:,} in flight, 7 delayed")


def test_the_age_of_the_oldest_message_is_left_to_cloudwatch(sqs: AnsweringSqs) -> None:
    """An empty queue has none."""
    found = check(sqs, "queue.oldest")
    assert found.status == "unknown"
    assert "--metric-name ApproximateAgeOfOldestMessage" in found.advice
    assert "Name=QueueName,Value=logins " in found.advice
    sqs.own = {f"ApproximateNumberOfMessages{n}": "0" for n in ("", "NotVisible", "Delayed")}
    assert check(sqs, "queue.oldest").status == "ok"


@pytest.mark.parametrize(
    ("tasks", "changes", "status", "held", "rows"),
    [
        (1, {}, "ok", "20,000", None),
        (5, {}, "ok", "100,000", None),
        (6, {}, "warn", "120,000", 8333),
        (8, {}, "fail", "160,000", 6250),
        (8, {"batch__rows": 6250}, "ok", "100,000", None),
        (2, {"run__workers": 5}, "fail", "200,000", 5000),
        (8, {"run__max_messages": 1000}, "ok", "8,000", None),
        (100_000, {"batch__rows": 1}, "fail", "200,000", 0),
    ],
)
def test_the_tasks_together_hold_what_sqs_allows(
    tasks: int,
    changes: dict[str, Any],
    status: str,
    held: str,
    rows: int | None,
    sqs: AnsweringSqs,
) -> None:
    """Each worker of each holds the batch that it loads and the one that it gathers."""
    found = check(sqs, "queue.in_flight", tasks=tasks, **changes)
    assert (found.status, f"may hold {held} messages" in found.found) == (status, True)
    assert (f"ETL_BATCH__ROWS to {rows} or less" in found.advice) == bool(rows)
    assert bool(found.advice) == (rows is not None)


def test_a_short_visibility_timeout_bounds_what_is_held(sqs: AnsweringSqs) -> None:
    """A worker holds no more than it can extend in time."""
    sqs.own["VisibilityTimeout"] = "10"
    assert "8 tasks may hold 56,000 " in check(sqs, "queue.in_flight", tasks=8).found


@pytest.mark.parametrize(
    ("text", "status"),
    [(policy(5), "ok"), (policy("5"), "ok"), (policy(4), "warn"), (policy(1), "warn"),
     (None, "warn"), ("{", "unknown")],
)  # fmt: skip
def test_a_message_has_five_receives_and_a_dead_letter_queue(
    text: str | None, status: str, sqs: AnsweringSqs
) -> None:
    """Without a dead-letter queue, nothing is said of one."""
    sqs.own["RedrivePolicy"] = text
    found = by_check(queue.results(settings(), sqs.ask()))
    assert found["queue.redrive"].status == status
    has_queue = text not in (None, "{")
    assert ("queue.dead_letters" in found) == ("queue.dead_letter_retention" in found) == has_queue


@pytest.mark.parametrize(
    ("own", "dead", "status"), [(4, 5, "ok"), (14, 14, "ok"), (4, 4, "warn"), (4, 3, "fail")]
)
def test_the_dead_letter_queue_keeps_messages_for_longer(
    own: int, dead: int, status: str, sqs: AnsweringSqs
) -> None:
    """Except that nothing is longer than 14 days."""
    sqs.own["MessageRetentionPeriod"] = str(own * DAY)
    sqs.dead["MessageRetentionPeriod"] = str(dead * DAY)
    found = check(sqs, "queue.dead_letter_retention")
    assert found.status == status
    assert bool(found.advice) == (status != "ok")
    assert (DEAD_URL in found.advice) == (status != "ok")


def test_a_fifo_queue_counts_anew_in_its_dead_letter_queue(sqs: AnsweringSqs) -> None:
    """So a shorter time there loses nothing at once."""
    sqs.dead["MessageRetentionPeriod"] = str(3 * DAY)
    questions = sqs.ask()
    questions.url = FIFO["url"]
    found = by_check(queue.results(settings(), questions))
    assert found["queue.dead_letter_retention"].status == "warn"


@pytest.mark.parametrize(
    ("visible", "in_flight", "status", "words"),
    [(0, 0, "ok", "is empty"), (1, 0, "warn", "holds 1 message"), (1, 1199, "warn", "1,200 me")],
)
def test_dead_letters_are_counted(
    visible: int, in_flight: int, status: str, words: str, sqs: AnsweringSqs
) -> None:
    """The advice is the command that moves them back."""
    sqs.dead["ApproximateNumberOfMessages"] = str(visible)
    sqs.dead["ApproximateNumberOfMessagesNotVisible"] = str(in_flight)
    found = check(sqs, "queue.dead_letters")
    assert (found.status, words in found.found) == (status, True)
    assert (f"--source-arn {ARN}-dead" in found.advice) == (status == "warn")
    # A move gives new ids, so the ledger would not know what was loaded.
    assert ("a move would load them twice" in found.advice) == (status == "warn")


@pytest.mark.parametrize(
    ("code", "status"),
    [("AccessDenied", "unknown"), ("AWS.SimpleQueueService.NonExistentQueue", "warn"),
     ("RequestThrottled", "unknown")],
)  # fmt: skip
def test_a_dead_letter_queue_that_cannot_be_seen_is_said(
    code: str, status: str, sqs: AnsweringSqs
) -> None:
    """A run does not need the rights on it, so they are named and not demanded."""
    sqs.replies["GetQueueUrl"] = refusal(code)
    found = by_check(queue.results(settings(), sqs.ask()))
    for name in ("queue.dead_letters", "queue.dead_letter_retention"):
        assert found[name].status == status
        assert "'logins-dead'" in found[name].found
        allowed = f"allow sqs:GetQueueUrl and sqs:GetQueueAttributes on {ARN}-dead"
        assert (allowed in found[name].advice) == (code != "RequestThrottled")


@pytest.mark.parametrize("name", ["MessageRetentionPeriod", "ApproximateNumberOfMessages"])
def test_an_attribute_that_is_missing_hides_no_other_check(name: str, sqs: AnsweringSqs) -> None:
    """Emulators leave some out."""
    for value in (None, "soon"):
        sqs.own = {name: value}
        found = by_check(queue.results(settings(), sqs.ask()))
        said = {r.found for r in found.values() if r.status == "unknown"}
        assert f"what answers gives no {name}" in said
        assert found["queue.redrive"].status == "ok"


@pytest.mark.parametrize(
    "code",
    ["AccessDenied", "KMS.AccessDeniedException", "SignatureDoesNotMatch", "InternalError",
     f"Oops {BODY} {SECRET} {TOKEN}", "404"],
)  # fmt: skip
def test_no_result_quotes_a_message_or_a_secret(code: str, sqs: AnsweringSqs) -> None:
    """The texts of SQS's errors quote what was sent, and something else may answer anything."""
    operations = ["GetQueueAttributes", "GetQueueUrl", "ReceiveMessage", "DeleteMessageBatch"]
    said = ""
    for refused in (operations, operations[1:]):
        sqs.replies = dict.fromkeys([*refused, "ChangeMessageVisibilityBatch"], refusal(code))
        questions = sqs.ask()
        for area in (queue.results(settings(), questions), rights.results(settings(), questions)):
            for result in area:
                said += f"{result.found}\n{result.advice}\n"
                assert "\n" not in f"{result.found}{result.advice}"
                assert result.found
    for secret in (BODY, SECRET, TOKEN, KEYS["AWS_ACCESS_KEY_ID"], rights.MADE_UP_HANDLE):
        assert secret not in said
