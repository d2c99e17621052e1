"""The settings of a queue, which SQS calls its attributes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from etl.embedded.sqs_fifo import ALLOWED_VALUES, check_fifo_attribute
from etl.embedded.sqs_messages import MAX_BYTES
from etl.embedded.sqs_refusals import Refusal, invalid

MAX_VISIBILITY_SECONDS = 43_200
MAX_DELAY_SECONDS = 900
MAX_RECEIVES = 1000

DEFAULT_ATTRIBUTES = {
    "DelaySeconds": "0",
    "MaximumMessageSize": str(MAX_BYTES),
    "MessageRetentionPeriod": "345600",
    "ReceiveMessageWaitTimeSeconds": "0",
    "VisibilityTimeout": "30",
}
ATTRIBUTE_RANGES = {
    "DelaySeconds": (0, MAX_DELAY_SECONDS),
    "MaximumMessageSize": (1024, MAX_BYTES),
    "MessageRetentionPeriod": (60, 1_209_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20),
    "VisibilityTimeout": (0, MAX_VISIBILITY_SECONDS),
}
UNSUPPORTED_ATTRIBUTES = frozenset(
    {
        "KmsDataKeyReusePeriodSeconds",
        "KmsMasterKeyId",
        "Policy",
        "RedriveAllowPolicy",
        "SqsManagedSseEnabled",
    }
)


@dataclass(frozen=True)
class RedrivePolicy:
    """Where a message goes that was received *max_receives* times and never deleted."""

    target_arn: str
    max_receives: int


def check_attribute(name: str, value: str, *, is_fifo: bool = False) -> None:
    """Refuse an attribute, other than RedrivePolicy, that is unknown or out of range."""
    if is_fifo and name in ALLOWED_VALUES:
        check_fifo_attribute(name, value)
        return
    if name == "FifoQueue":
        raise Refusal("UnsupportedOperation", "The type of a queue cannot be changed.")
    if name in UNSUPPORTED_ATTRIBUTES:
        raise Refusal("UnsupportedOperation", f"The embedded SQS does not support {name}.")
    if name not in ATTRIBUTE_RANGES:
        raise Refusal("InvalidAttributeName", f"Unknown Attribute {name}.")
    low, high = ATTRIBUTE_RANGES[name]
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise Refusal("InvalidAttributeValue", f"Invalid value for the parameter {name}.")


def parse_redrive_policy(text: str) -> RedrivePolicy:
    """Read a RedrivePolicy; whether its target exists is for the queue to check.

    :raises Refusal: it is not a JSON object with both members, or the count is out of range.
    """
    try:
        members = json.loads(text)
        policy = RedrivePolicy(str(members["deadLetterTargetArn"]), int(members["maxReceiveCount"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise invalid("RedrivePolicy", text, "Redrive policy is not valid JSON map") from None
    if not 1 <= policy.max_receives <= MAX_RECEIVES:
        raise invalid("RedrivePolicy", text, f"maxReceiveCount must be from 1 to {MAX_RECEIVES}")
    return policy
