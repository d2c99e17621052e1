"""A job that may not delete ends with exit code 1, before its messages become dead letters."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from etl.embedded.postgres import EmbeddedPostgres
from etl.errors import DeletesRefused
from etl.sqs.consumer import Consumer
from etl.sqs.limits import Limits, Stop
from etl.sqs.message import body_md5
from etl.sqs.quota import open_quota
from tests.acceptance.job_processes import logins, new_job, until, visible
from tests.chaos.strict_sqs import StrictSqs
from tests.unit.aws_server import KEYS, queue
from tests.unit.builders import some_long
from tests.unit.raw_server import Request, reply, serve_raw

LIMITS = Limits(
    max_rows=10,
    max_bytes=1_000_000,
    batch_seconds=60,
    idle_seconds=0.2,
    max_seconds=None,
    wait_seconds=1,
    retry_seconds=5,
    quiet_seconds=0,
    grows=False,
)
STATE = dict.fromkeys(
    ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"), "0"
) | {"VisibilityTimeout": "30"}


def refused(code: str) -> bytes:
    """The answer to a call that SQS refuses as a whole."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"})
    return reply(body, 403, x_amzn_query_error=f"{code};Sender")


def failed(code: str) -> bytes:
    """An answer of 200 in which every entry has failed."""
    entries = [{"Id": str(i), "Code": code, "SenderFault": True} for i in range(10)]
    return reply(json.dumps({"Successful": [], "Failed": entries}))


def delivery(number: int) -> dict[str, Any]:
    """A message as SQS delivers it."""
    return {
        "MessageId": f"m{number}",
        "ReceiptHandle": f"handle {number}",
        "MD5OfBody": body_md5("{}"),
        "Body": "{}",
        "Attributes": {"ApproximateReceiveCount": "1"},
    }


class Service:
    """Delivers ten new messages to each receive, and gives one answer to all deletes."""

    def __init__(self, deletes: bytes, messages: int) -> None:
        self.deletes = deletes
        self.left = messages
        self.delete_calls = 0
        self._lock = threading.Lock()

    def answer(self, request: Request) -> bytes:
        """Answer a request."""
        action = request.headers["x-amz-target"].rpartition(".")[2]
        with self._lock:
            if action == "DeleteMessageBatch":
                self.delete_calls += 1
                return self.deletes
            if action == "ReceiveMessage":
                numbers = range(self.left, max(self.left - 10, 0), -1)
                self.left -= len(numbers)
                return reply(json.dumps({"Messages": [delivery(number) for number in numbers]}))
            return reply(json.dumps({"Successful": [], "Failed": [], "Attributes": STATE}))


def drain(service: Service, transport: str) -> Consumer:
    """Take and acknowledge batch after batch, as a run does."""
    with serve_raw(service.answer) as server:
        asked = queue({**KEYS, "AWS_ENDPOINT_URL": server.url}, transport=transport)
        with Consumer(asked, 30, LIMITS, 1, Stop(), open_quota(None), warns=False) as consumer:
            while (batch := consumer.take()) is not None:
                consumer.acknowledge(batch)
            consumer.wait_for_acknowledgements()
        return consumer


@pytest.mark.parametrize("transport", ["curl", "boto3"])
@pytest.mark.parametrize(
    "answer",
    [
        refused("AccessDeniedException"),
        refused("ExpiredToken"),
        refused("KMS.AccessDeniedException"),
        failed("AccessDenied"),
    ],
    ids=["denied", "expired", "KMS", "denied in each entry"],
)
def test_a_refusal_of_deletes_ends_the_run_at_once(answer: bytes, transport: str) -> None:
    """Nothing more is received and no further delete is tried, however much is waiting."""
    service = Service(answer, 1000)
    consumer = drain(service, transport)
    assert consumer.stop.reason == "deletes refused"
    with pytest.raises(DeletesRefused, match="until sqs:DeleteMessage is allowed"):
        consumer.raise_error()
    handled = consumer.received - consumer.released
    assert 0 < consumer.not_acknowledged == handled
    # A batch whose deletes are refused, the one that is loaded meanwhile, and the one behind it.
    assert consumer.received <= 40
    assert service.delete_calls <= 2  # what libcurl fails at is repeated by botocore


@pytest.mark.parametrize("transport", ["curl", "boto3"])
@pytest.mark.parametrize(
    "answer",
    [failed("ReceiptHandleIsInvalid"), refused("RequestThrottled")],
    ids=["stale handle", "throttled"],
)
def test_a_stale_handle_or_an_outage_is_no_refusal(answer: bytes, transport: str) -> None:
    """The messages come again, the ledger knows them, and another delete may work."""
    service = Service(answer, 20)
    consumer = drain(service, transport)
    consumer.raise_error()
    assert (consumer.stop.reason, consumer.received) == ("idle", 20)
    assert consumer.not_acknowledged == 20


@pytest.mark.parametrize("workers", some_long(["1", "2"]))
def test_a_job_that_may_not_delete_fails_and_the_next_run_deletes_what_it_loaded(
    postgres: EmbeddedPostgres, workers: str
) -> None:
    """Everything loaded stays loaded, once, and the error says what to allow."""
    with StrictSqs() as sqs, new_job(sqs, postgres, visibility_seconds=3) as job:
        job.send(*logins(60))
        sqs.deny("DeleteMessageBatch")
        first = job.run("--workers", workers, code=1, ETL_BATCH__ROWS="20")
        assert first["stop_reason"] == "deletes refused"
        assert "allow sqs:DeleteMessage to the credentials" in first["problem"]
        assert 0 < first["not_acknowledged"] == first["loaded"]
        ((*stored, problem),) = job.rows(
            "select stop_reason, exit_code, loaded, problem from etl.runs"
        )
        assert stored == ["deletes refused", 1, first["loaded"]]
        assert problem == first["problem"]
        until(lambda: visible(job) == 60)
        sqs.deny()
        second = job.run()
        assert (second["already_handled"], second["loaded"]) == (
            first["loaded"],
            60 - first["loaded"],
        )
        assert job.rows("select count(*), count(distinct user_id) from user_logins") == [(60, 60)]
        assert job.left() == 0
