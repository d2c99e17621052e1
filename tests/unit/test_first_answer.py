"""The first answer of SQS: waited for, unless it can never come or the run is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.errors import ConfigurationError, QueueRefused, QueueUnavailable
from etl.sqs.first_answer import first_answer, until_stopped
from etl.sqs.limits import Stop


def asking(*outcomes: Exception | str) -> Callable[[], str]:
    """A question with these outcomes, in order."""
    left = list(outcomes)

    def ask() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return ask


def test_an_outage_at_the_start_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    """As that of the database is."""
    ask = asking(QueueUnavailable("away"), QueueUnavailable("away"), "here")
    with caplog.at_level(logging.WARNING, "etl"):
        assert first_answer(ask, 60, Stop()) == "here"
    assert all(message.startswith("away") for message in caplog.messages)
    assert caplog.messages


def test_an_outage_that_lasts_too_long_is_raised() -> None:
    """With its own words."""
    with pytest.raises(QueueUnavailable, match=r"^away$") as caught:
        first_answer(asking(*[QueueUnavailable("away")] * 3), 0, Stop())
    assert caught.value.exit_code == 1


def test_a_refusal_is_raised_at_once() -> None:
    """Nothing was received, so it is a matter of the configuration."""
    with pytest.raises(ConfigurationError, match=r"^no right$") as caught:
        first_answer(asking(QueueRefused("no right")), 60, Stop())
    assert caught.value.exit_code == 2


def test_another_error_is_raised_as_it_is() -> None:
    """A bug is not an outage."""
    with pytest.raises(ZeroDivisionError):
        first_answer(asking(ZeroDivisionError()), 60, Stop())


@pytest.mark.parametrize(
    ("stop", "reason"), [(Stop(), "SIGTERM"), (Stop(ends_at=0.0), "max_seconds")]
)
def test_a_stop_ends_the_wait_between_two_questions(stop: Stop, reason: str) -> None:
    """The error says what ended it, and so does the run's reason."""
    if reason == "SIGTERM":
        stop.request("SIGTERM", release_rest=True)
    with pytest.raises(QueueUnavailable) as caught:
        first_answer(asking(QueueUnavailable("away")), 600, stop)
    assert str(caught.value).endswith(
        f"; nothing was received, and {reason} has ended the wait for SQS"
    )
    assert caught.value.stop_reason == reason


@pytest.mark.parametrize(
    ("question", "service"),
    [
        (lambda ask, stop: first_answer(ask, 600, stop), "SQS"),
        (lambda ask, stop: until_stopped(ask, stop, "Secrets Manager"), "Secrets Manager"),
    ],
    ids=["SQS", "Secrets Manager"],
)
def test_a_stop_ends_a_question_without_an_answer(
    question: Callable[[Callable[[], None], Stop], None], service: str
) -> None:
    """A host that takes no packets would keep it for most of a minute."""
    asked, answer, stop = threading.Event(), threading.Event(), Stop()

    def ask() -> None:
        asked.set()
        answer.wait(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(question, ask, stop)
        assert asked.wait(60)
        stop.request("SIGTERM", release_rest=True)
        with pytest.raises(QueueUnavailable) as caught:
            waiting.result(30)
    assert str(caught.value) == (
        f"{service} has not answered yet; nothing was received, and SIGTERM has ended the wait for "
        f"{service}"
    )
    assert caught.value.stop_reason == "SIGTERM"
    answer.set()
