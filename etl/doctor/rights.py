"""The rights of the credentials on the queue, asked for by requests that cannot have an effect.

SQS looks at the rights before it looks at the parameters. So a request with a parameter that can
never be right is denied to those who lack the right, and found faulty for those who have it. That
is how AWS and the emulators with access control answer; any other answer proves nothing.

Each request is the one that a run makes, because an emulator may take ``sqs:DeleteMessageBatch``
for a right of its own. AWS has only ``sqs:DeleteMessage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from etl.config import Settings
from etl.doctor.questions import Answer, Questions
from etl.doctor.result import Result, asked
from etl.sqs.message import CALL_ENTRIES
from etl.text import counted

# It has the length and the characters of a receipt handle of SQS, so that nothing refuses it
# before it is known who asks. No message has it.
MADE_UP_HANDLE = f"AQEB{'etlDoctor0' * 40}"

# SQS returns at most ten messages, and a poll of less than no time is refused also by an emulator
# that takes more than ten, as ElasticMQ with relaxed limits does. A visibility timeout of 0 is for
# one that takes both: nothing that it returns is hidden.
IMPOSSIBLE_RECEIVE: dict[str, Any] = {
    "MaxNumberOfMessages": CALL_ENTRIES + 1,
    "WaitTimeSeconds": -1,
    "VisibilityTimeout": 0,
}

# What SQS says of these requests to those who have the right.
HANDLE_CODES = frozenset({"ReceiptHandleIsInvalid", "InvalidParameterValue"})
RECEIVE_CODES = frozenset({"ReadCountOutOfRange", "InvalidParameterValue"})


def results(_config: Settings, sqs: Questions) -> Iterator[Result]:
    """Check what a run needs to be allowed. Receives, deletes and changes nothing.

    Whether the KMS key of a queue may be used is told only by a receive that finds a message.
    """
    yield asked("rights.attributes", partial(_attributes, sqs))
    yield asked("rights.receive", partial(_receive, sqs))
    yield asked("rights.delete", partial(_delete, sqs))
    yield asked("rights.visibility", partial(_visibility, sqs))
    yield asked("rights.decrypt", partial(_decrypt, sqs))


def _attributes(sqs: Questions) -> Result:
    check = "rights.attributes"
    answer = sqs.attributes
    if answer.problem:
        return _refused(check, answer)
    if not answer.members.get("Attributes"):
        return Result(check, "unknown", "what answers gives no attributes")
    return Result(check, "ok", "sqs:GetQueueAttributes is allowed")


def _receive(sqs: Questions) -> Result:
    check = "rights.receive"
    answer = sqs.ask("receive_message", QueueUrl=sqs.url, **IMPOSSIBLE_RECEIVE)
    if answer.code in RECEIVE_CODES:
        return Result(check, "ok", "sqs:ReceiveMessage is allowed")
    if answer.problem:
        return _refused(check, answer)
    messages = answer.members.get("Messages") or []
    if not messages:
        return Result(check, "unknown", "what answers took a receive that SQS refuses")
    left = _give_back(sqs, messages)
    hidden = f"; {left} of them come back after the visibility timeout" if left else ""
    return Result(
        check,
        "unknown",
        f"what answers returned {counted(len(messages), 'message')} to a receive that SQS refuses, "
        f"now given back{hidden}",
        "each of them was received once more, so do not ask this of the emulator again",
    )


def _give_back(sqs: Questions, messages: Sequence[Mapping[str, Any]]) -> int:
    """Make messages visible again; return how many that could not be done for."""
    left = 0
    for start in range(0, len(messages), CALL_ENTRIES):
        ten = messages[start : start + CALL_ENTRIES]
        entries = [
            {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
            for i, message in enumerate(ten)
        ]
        answer = sqs.ask("change_message_visibility_batch", QueueUrl=sqs.url, Entries=entries)
        left += len(ten) if answer.problem else len(answer.members.get("Failed") or [])
    return left


def _delete(sqs: Questions) -> Result:
    return _by_made_up_handle("rights.delete", sqs, "DeleteMessageBatch", {})


def _visibility(sqs: Questions) -> Result:
    # A message that such a handle could name would be visible, as it was.
    parameters = {"VisibilityTimeout": 0}
    return _by_made_up_handle("rights.visibility", sqs, "ChangeMessageVisibilityBatch", parameters)


_CALLS = {
    "DeleteMessageBatch": "delete_message_batch",
    "ChangeMessageVisibilityBatch": "change_message_visibility_batch",
}


def _by_made_up_handle(
    check: str, sqs: Questions, operation: str, parameters: Mapping[str, int]
) -> Result:
    """Ask for something to be done to a message that does not exist.

    :param operation: of the API; one of a batch, which has one entry here
    """
    entry = {"Id": "0", "ReceiptHandle": MADE_UP_HANDLE, **parameters}
    answer = sqs.ask(_CALLS[operation], QueueUrl=sqs.url, Entries=[entry])
    failed = answer.members.get("Failed") or []
    if failed:
        # The request was taken, and its only entry was not.
        answer = sqs.refusal(str(failed[0].get("Code")), operation, f"an entry of {operation}")
    if answer.code in HANDLE_CODES:
        action = operation.removesuffix("Batch")
        return Result(check, "ok", f"sqs:{action} is allowed")
    if answer.problem:
        return _refused(check, answer)
    return Result(check, "unknown", "what answers took a receipt handle that SQS never made")


def _decrypt(sqs: Questions) -> Result:
    check = "rights.decrypt"
    values = sqs.attributes.members.get("Attributes")
    if not values:
        return Result(check, "unknown", "SQS gives no attributes", "see queue.exists")
    key = values.get("KmsMasterKeyId")
    if not key:
        return Result(check, "ok", "the queue has no KMS key, so kms:Decrypt is not needed")
    return Result(
        check,
        "unknown",
        f"SQS uses the KMS key {key!r} only for a receive that finds a message",
        "allow kms:Decrypt on it, also in its policy; 'etl peek' or 'etl run --dry-run' then shows "
        "it, and uses up a receive",
    )


def _refused(check: str, answer: Answer) -> Result:
    """What a refusal says of the right: it is lacking, or nothing."""
    # A KMS key that is disabled refuses as finally as one that is not allowed.
    is_final = answer.is_denied or (answer.code.startswith("Kms") and bool(answer.advice))
    return Result(check, "fail" if is_final else "unknown", answer.problem, answer.advice)
