"""A queue's redrive policy, and the messages that it has made dead letters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from etl.errors import EtlError, QueueRefused, QueueUnavailable
from etl.runs import Counts, Summary
from etl.sqs.dead_letters import DeadLetters, count_dead_letters
from etl.sqs.queue import Queue, QueueState
from etl.sqs.redrive import RedrivePolicy, read_policy
from etl.terminal.summary import print_summary

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


class FakeQueue:
    """A queue whose neighbour is asked for."""

    def __init__(self, neighbour: Queue | EtlError) -> None:
        self.asked: list[tuple[str, str]] = []
        self._neighbour = neighbour

    def neighbour(self, name: str, account: str) -> Queue:
        """Return the neighbour, or refuse."""
        self.asked.append((name, account))
        if isinstance(self._neighbour, EtlError):
            raise self._neighbour
        return self._neighbour


def test_the_dead_letters_are_counted_in_the_queue_that_the_policy_names() -> None:
    """Its name and its account are in the ARN."""
    dead: Any = SimpleNamespace(state=lambda: QueueState(30, 12, 3, 0))
    queue: Any = FakeQueue(dead)
    counted = count_dead_letters(queue, RedrivePolicy(ARN, 5))
    assert counted == DeadLetters("logins-dead", 12)
    assert queue.asked == [("logins-dead", "123456789012")]


@pytest.mark.parametrize("error", [QueueRefused("AccessDenied"), QueueUnavailable("timeout")])
def test_a_dead_letter_queue_that_cannot_be_asked_is_not_known(error: EtlError) -> None:
    """The job does not need the permission."""
    queue: Any = FakeQueue(error)
    assert count_dead_letters(queue, RedrivePolicy(ARN, 5)) is None
    assert count_dead_letters(queue, None) is None
    odd: Any = SimpleNamespace(neighbour=lambda *_: {}["QueueUrl"])
    assert count_dead_letters(odd, RedrivePolicy(ARN, 5)) is None


@pytest.mark.parametrize("arn", ["", "x", ":::", "arn:aws:sqs:eu-west-1:123456789012:"])
def test_an_arn_of_another_form_is_no_error(arn: str) -> None:
    """SQS then refuses the call, and the dead letters are not known."""
    queue: Any = FakeQueue(QueueRefused("InvalidAddress"))
    assert count_dead_letters(queue, RedrivePolicy(arn, 5)) is None


@pytest.mark.parametrize(
    ("messages", "words"), [(0, None), (1, "holds 1 message\n"), (1200, "holds 1,200 messages\n")]
)
def test_a_run_names_the_dead_letter_queue_if_it_holds_messages(
    messages: int, words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty one is nothing to say."""
    ended = Summary(
        run_id="r",
        counts=Counts(),
        reasons={},
        stop_reason="idle",
        seconds=1.0,
        batches=0,
        dead_letters=DeadLetters("dead", messages),
    )
    print_summary(ended)
    printed = capsys.readouterr().out
    assert words in printed if words else "dead" not in printed
    assert ended.as_dict()["dead_letters"] == messages
