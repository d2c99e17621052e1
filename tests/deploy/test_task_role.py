"""The job under the role of its task, in the deployed stack; then without each of its rights."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError

from etl.aws.answers import action_of
from tests.deploy.cloudformation import actions, statements
from tests.deploy.conftest import PAYLOAD_BUCKET
from tests.deploy.ministack import Stack
from tests.deploy.tasks import allow, counts, run, send
from tests.deploy.test_template import NO_OPERATIONS
from tests.unit.builders import event

pytestmark = pytest.mark.long  # make deploy-test installs the emulator and runs them

# A run with these stops at the first message that fails a check.
STRICT = {"ETL_QUARANTINE__MIN_MESSAGES": "1", "ETL_QUARANTINE__MAX_FRACTION": "0"}
# What becomes of a run without a right: its exit code, what it says, how many messages are then
# visible and in flight, and its variables.
WITHOUT: dict[tuple[str, str], tuple[int, str, tuple[int, int], dict[str, str]]] = {
    ("Messages", "sqs:ReceiveMessage"): (1, "allow sqs:ReceiveMessage", (1, 0), {}),
    ("Messages", "sqs:GetQueueAttributes"): (2, "allow sqs:GetQueueAttributes", (1, 0), {}),
    ("Messages", "sqs:DeleteMessage"): (1, "allow sqs:DeleteMessage", (0, 1), {}),
    ("Messages", "sqs:ChangeMessageVisibility"): (
        3, "allow sqs:ChangeMessageVisibility", (0, 1), STRICT
    ),
    ("CountDeadLetters", "sqs:GetQueueUrl"): (0, '"dead_letters": null', (0, 0), {}),
    ("CountDeadLetters", "sqs:GetQueueAttributes"): (0, '"dead_letters": null', (0, 0), {}),
    ("ReadKeyring", "secretsmanager:GetSecretValue"): (
        2, "allow secretsmanager:GetSecretValue", (1, 0), {}
    ),
    ("ReadLargeBodies", "s3:GetObject"): (1, "allow s3:GetObject", (1, 0), {}),
}  # fmt: skip


def called(stack: Stack, keys: dict[str, str]) -> set[str]:
    """The actions of all calls that were made with these keys, as the emulator recorded them."""
    pages = stack.aws.client("cloudtrail").get_paginator("lookup_events")
    found = pages.paginate(
        LookupAttributes=[
            {"AttributeKey": "AccessKeyId", "AttributeValue": keys["AWS_ACCESS_KEY_ID"]}
        ]
    )
    return {
        action_of(event["EventName"], event["EventSource"].partition(".")[0])
        for page in found
        for event in page["Events"]
    }


def stored(stack: Stack) -> str:
    """Put a good event into the bucket of bodies; return the pointer to it."""
    stack.aws.client("s3").put_object(Bucket=PAYLOAD_BUCKET, Key="a", Body=event().encode())
    place = {"s3BucketName": PAYLOAD_BUCKET, "s3Key": "a"}
    return json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", place])


def test_the_job_calls_what_its_role_names_and_no_more(emptied: Stack, database: sa.URL) -> None:
    """Two runs, of which one loads and deletes, and the other one releases."""
    keys = emptied.aws.keys_of(emptied.ids["TaskRole"])
    send(emptied, stored(emptied), *[event(user_id=f"u{i}") for i in range(9)])
    done = run(emptied, database, **keys)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loaded"] == 10
    assert counts(emptied) == (0, 0)
    send(emptied, "{}")
    done = run(emptied, database, **keys, **STRICT)
    assert (done.returncode, counts(emptied)) == (3, (1, 0)), done.stderr
    allowed = {action for statement in emptied.task_rights for action in actions(statement)}
    assert called(emptied, keys) == allowed - NO_OPERATIONS


@pytest.mark.parametrize(("statement", "action"), list(WITHOUT))
def test_without_a_right_the_run_says_which(
    emptied: Stack, database: sa.URL, statement: str, action: str
) -> None:
    """Nothing is lost: what is not loaded is in the queue, and what is loaded is loaded once."""
    code, words, left, more = WITHOUT[statement, action]
    send(emptied, stored(emptied) if action == "s3:GetObject" else "{}" if more else event())
    allow(emptied, without=action, on=statement)
    done = run(emptied, database, **more)
    assert (done.returncode, counts(emptied)) == (code, left), done.stderr
    assert words in done.stderr + done.stdout
    # What the alarm of a failed run goes by.
    assert f'"etl_run_exit_code": {code}' in done.stderr


def test_each_right_was_taken_away() -> None:
    """All but those that the emulator does not ask for."""
    rights = {
        (statement["Sid"], action)
        for statement in statements("TaskRole")
        for action in actions(statement)
    }
    assert {right for right in rights if right[1] not in NO_OPERATIONS} == set(WITHOUT)


def test_the_task_may_do_nothing_else(emptied: Stack) -> None:
    """It cannot send, empty the queue, or use the queue without TLS."""
    keys = emptied.aws.keys_of(emptied.ids["TaskRole"])
    client = emptied.aws.client("sqs", keys)
    url = emptied.ids["Queue"]
    assert client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    with pytest.raises(ClientError, match="AccessDenied"):
        client.send_message(QueueUrl=url, MessageBody="{}")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.purge_queue(QueueUrl=url)

    def claim_plain_http(request: Any, **_: Any) -> None:
        request.headers["X-Forwarded-Proto"] = "http"  # the emulator believes it

    client.meta.events.register("before-sign.sqs", claim_plain_http)
    with pytest.raises(ClientError, match="explicit deny"):
        client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
