"""How many receives may be in flight."""

from __future__ import annotations

import random

import pytest

from etl.sqs.receives import CAREFUL, QUICK_SECONDS, RECENT, Receives

SLOW = 0.015  # what SQS takes to answer in its own region


def grown(number: int, max_receives: int = 16) -> Receives:
    """The rule after as many good answers as let it allow *number* receives."""
    receives = Receives(max_receives)
    for _ in range(1, number):
        receives.messages_came(10, 10, SLOW)
    assert receives.allowed == number
    return receives


def round_of_answers(receives: Receives, messages: int, wait_seconds: float = SLOW) -> int:
    """Answer all receives that are allowed; return how many that were."""
    allowed = receives.allowed
    for _ in range(allowed):
        receives.messages_came(messages, 10, wait_seconds)
    return allowed


def test_the_first_receive_is_alone() -> None:
    """Nothing is known of the queue yet."""
    assert Receives(16).allowed == 1


def test_full_answers_double_the_receives_up_to_the_maximum() -> None:
    """So 150 messages are received in the time of four answers."""
    receives = Receives(20)
    assert [round_of_answers(receives, 10) for _ in range(7)] == [1, 2, 4, 8, 16, 20, 20]


def test_a_maximum_of_one_is_kept() -> None:
    """A look at the queue receives no more before it has seen the first messages."""
    receives = Receives(1)
    round_of_answers(receives, 10)
    assert receives.allowed == 1


def test_what_was_asked_for_counts_not_ten() -> None:
    """A batch of three rows is received three messages at a time."""
    receives = Receives(16)
    receives.messages_came(3, 3, SLOW)
    assert receives.allowed == 2


def test_empty_answers_end_in_one_receive() -> None:
    """An idle queue costs the requests of one long poll after the other."""
    receives = grown(16)
    allowed = []
    for _ in range(5):
        receives.nothing_came()
        allowed.append(receives.allowed)
    assert allowed == [8, 4, 2, 1, 1]


def test_one_false_empty_answer_is_made_up_for_by_the_next_round() -> None:
    """SQS answers so although it has messages."""
    receives = grown(16)
    receives.nothing_came()
    round_of_answers(receives, 10)
    assert receives.allowed == 16


def test_a_trickle_ends_in_one_receive() -> None:
    """Single messages need as many requests as there are of them, however many wait for them."""
    receives = grown(16)
    for _ in range(60):
        receives.messages_came(1, 10, 0.3)
    assert receives.allowed == 1


def test_a_load_that_one_receive_can_carry_needs_few() -> None:
    """At 500 messages a second and 15 ms an answer, sixteen would bring one message each."""
    receives = grown(16)
    for _ in range(100):
        messages = round(500 * SLOW / receives.allowed)
        round_of_answers(receives, min(messages, 10) or 1)
    assert receives.allowed <= 3


def test_short_answers_of_a_full_queue_do_not_shrink() -> None:
    """SQS looks at a part of its servers: it answers with three messages although more wait."""
    counts = random.Random(7)
    receives = Receives(16)
    for _ in range(300):
        receives.messages_came(counts.choice([1, 1, 2, 3, 3, 4, 5, 6]), 10, SLOW)
    assert receives.allowed == 16


@pytest.mark.parametrize("position", [0, RECENT // 2, RECENT - 1])
def test_one_receive_is_enough_where_sqs_answers_at_once(position: int) -> None:
    """Any answer may have waited for its turn at a busy machine, so the quickest counts."""
    receives = grown(16)
    for number in range(RECENT):
        receives.messages_came(10, 10, QUICK_SECONDS / 4 if number == position else SLOW)
    assert receives.allowed == 1


def test_a_queue_that_becomes_slow_is_noticed() -> None:
    """The quick answers of a while ago no longer count."""
    receives = grown(16)
    receives.messages_came(10, 10, 0.0)
    for _ in range(2 * RECENT):
        receives.messages_came(10, 10, SLOW)
    assert receives.allowed == 16


def test_messages_that_are_nearly_lost_let_few_be_in_flight() -> None:
    """What is in flight may be at its last receive too."""
    receives = grown(16)
    receives.few_receives_are_left()
    assert receives.allowed == CAREFUL
    receives.messages_came(10, 10, SLOW)
    assert receives.allowed == CAREFUL + 1


def test_few_receives_left_do_not_let_more_be_in_flight() -> None:
    """It is a limit."""
    receives = Receives(1)
    receives.few_receives_are_left()
    assert receives.allowed == 1
