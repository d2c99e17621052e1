"""A server on this machine that answers as SQS does about one queue, as a test wants it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from etl import config
from etl.config import Settings
from etl.doctor import questions
from etl.doctor.questions import Questions, open_questions
from etl.doctor.result import Result
from tests.unit.aws_server import KEYS, URL
from tests.unit.builders import ROOT
from tests.unit.raw_server import RawServer, Request, reply, serve_raw

DEAD_URL = f"{URL}-dead"
ARN = "arn:aws:sqs:eu-west-1:123456789012:logins"
TOKEN = "IQoJsessiontoken"
BODY = "ip 203.0.113.77"

# Everything is as it should be.
GOOD = {
    "ApproximateNumberOfMessages": "3",
    "ApproximateNumberOfMessagesDelayed": "0",
    "ApproximateNumberOfMessagesNotVisible": "1",
    "MessageRetentionPeriod": "345600",
    "QueueArn": ARN,
    "RedrivePolicy": json.dumps({"deadLetterTargetArn": f"{ARN}-dead", "maxReceiveCount": 5}),
    "SqsManagedSseEnabled": "true",
    "VisibilityTimeout": "120",
}
DEAD = {
    **GOOD,
    "ApproximateNumberOfMessages": "0",
    "ApproximateNumberOfMessagesNotVisible": "0",
    "MessageRetentionPeriod": "1209600",
    "QueueArn": f"{ARN}-dead",
}


def refusal(code: str, status: int = 400, text: str = BODY) -> bytes:
    """An error of SQS, whose text quotes what it must not: the doctor never shows it."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text})
    return reply(body, status, x_amzn_query_error=f"{code};Sender")


def failed_entry(code: str) -> bytes:
    """The answer to a batch of one, whose entry was not taken."""
    entry = {"Id": "0", "Code": code, "SenderFault": True, "Message": BODY}
    return reply(json.dumps({"Successful": [], "Failed": [entry]}))


@dataclass
class AnsweringSqs:
    """What it answers, and what it was asked."""

    server: RawServer
    client: Questions
    own: dict[str, str | None] = field(default_factory=dict)
    dead: dict[str, str | None] = field(default_factory=dict)
    replies: dict[str, bytes] = field(default_factory=dict)  # by operation, before anything else

    def ask(self) -> Questions:
        """Ask anew, with the same client: making one takes a good part of a second."""
        return Questions(self.client._client, self.client.to, self.client.url)

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of the requests of an operation."""
        return [r.parameters for r in self.server.requests if _operation(r) == operation]

    def answer(self, request: Request) -> bytes:
        """Answer a request."""
        operation = _operation(request)
        if operation in self.replies:
            return self.replies[operation]
        if operation == "GetQueueUrl":
            return reply(json.dumps({"QueueUrl": DEAD_URL}))
        if operation == "GetQueueAttributes":
            is_dead = request.parameters["QueueUrl"] == DEAD_URL
            values = {**DEAD, **self.dead} if is_dead else {**GOOD, **self.own}
            given = {name: value for name, value in values.items() if value is not None}
            return reply(json.dumps({"Attributes": given}))
        if operation == "ReceiveMessage":
            return refusal("InvalidParameterValue")
        return failed_entry("ReceiptHandleIsInvalid")

    def reset(self) -> None:
        """Answer as at first, and forget what was asked."""
        self.own, self.dead, self.replies = {}, {}, {}
        self.server.requests.clear()


def _operation(request: Request) -> str:
    return request.headers["x-amz-target"].partition(".")[2]


@cache
def settings(url: str = URL, **changes: Any) -> Settings:
    """The settings of the default job; ``section__key=value`` changes one of them."""
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load(ROOT / "config.yaml", {"ETL_QUEUE__URL": url}, dotted)


@contextmanager
def serve_sqs() -> Iterator[AnsweringSqs]:
    """Start to answer. What is refused is not asked again, because that comes after a pause."""
    answering: list[AnsweringSqs] = []
    with (
        serve_raw(lambda request: answering[0].answer(request)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(questions, "ATTEMPTS", 1)
        environment = {**KEYS, "AWS_SESSION_TOKEN": TOKEN, "AWS_ENDPOINT_URL": server.url}
        answering.append(AnsweringSqs(server, open_questions(settings().queue, environment)))
        yield answering[0]


def by_check(results: Iterator[Result]) -> dict[str, Result]:
    """Results by the names of their checks, each of which occurs once."""
    found = list(results)
    assert len({result.check for result in found}) == len(found)
    return {result.check: result for result in found}
