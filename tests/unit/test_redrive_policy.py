"""Reading a queue's redrive policy."""

from __future__ import annotations

import pytest

from etl.sqs.redrive import RedrivePolicy, read_policy

ARN = "arn:aws:sqs:eu-west-1:123456789012:logins-dead"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"deadLetterTargetArn": "{ARN}", "maxReceiveCount": 5}}',
        f'{{"maxReceiveCount": "5", "deadLetterTargetArn": "{ARN}", "more": 1}}',
    ],
)
def test_the_limit_and_the_dead_letter_queue_are_read(text: str) -> None:
    """The number comes as a number or as text."""
    assert read_policy(text) == RedrivePolicy(ARN, 5)


@pytest.mark.parametrize(
    "text",
    [None, "", "{}", "[]", "5", "null", "{", '{"maxReceiveCount": 5}', "[" * 100_000]
    + [f'{{"deadLetterTargetArn": "{ARN}", "maxReceiveCount": {n}}}' for n in ("0", "-1", '"x"')],
)
def test_a_queue_without_a_readable_policy_has_no_limit(text: str | None) -> None:
    """No policy, or one in another form, must not stop a run."""
    assert read_policy(text) is None
