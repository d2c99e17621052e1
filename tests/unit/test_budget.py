"""How many rejects a worker's budget lets through, in whatever batches they come."""

from __future__ import annotations

import random

import pytest

from etl.config import QuarantineSettings
from etl.errors import QuarantineBudget
from etl.frames import rejects
from etl.quarantine import Budget, outcomes

REJECTS = rejects((f"m{number}", "ip", "IP address") for number in range(3))


def budget(**changes: object) -> Budget:
    """Make a budget with the default settings, and changes."""
    return Budget(QuarantineSettings.model_validate(changes))


def load(spent: Budget, *batches: list[bool]) -> int:
    """Load batch after batch as a worker does; return how many messages got through."""
    through = 0
    for batch in batches:
        try:
            spent.check(batch, REJECTS)
        except QuarantineBudget:
            return through
        spent.settle()
        through += len(batch)
    return through


def batches_of(rows: int, messages: list[bool]) -> list[list[bool]]:
    """Cut messages into batches."""
    return [messages[start : start + rows] for start in range(0, len(messages), rows)]


@pytest.mark.parametrize("rows", [1, 7, 100, 500, 1400, 2900, 10_000])
@pytest.mark.parametrize("good", [1500, 10_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_good_messages_of_the_past_do_not_pay_for_bad_ones(rows: int, good: int) -> None:
    """Half of the window is the most that gets through, however the batches are cut."""
    messages = [False] * good + [True] * 1400
    through = load(budget(), *batches_of(rows, messages))
    assert good + 500 - rows < through <= good + 500


def test_a_worker_that_never_ends_is_stopped_each_time() -> None:
    """A fault after days counts like one on the first day, and again after a recovery."""
    spent = budget()
    for _ in range(5):
        assert load(spent, *batches_of(50, [False] * 20_000)) == 20_000
        assert load(spent, *batches_of(50, [True] * 2000)) == 500
        # The batch that was refused is not counted; the queue then brings good messages.
    assert load(spent, [False] * 600, [True] * 400) == 1000


def test_the_rule_of_the_whole_run_stays() -> None:
    """More than the fraction of all messages stops the run, though no window is full yet."""
    assert load(budget(), [False] * 50, [True] * 51) == 50
    assert load(budget(), [False] * 50, [True] * 50) == 100
    assert load(budget(window_messages=None), [False] * 1500, [True] * 1400) == 2900


def test_few_messages_never_stop_a_run() -> None:
    """Below min_messages nothing is concluded, and a window is not smaller than that."""
    assert load(budget(), [True] * 99) == 99
    assert load(budget(window_messages=10), [False] * 60, [True] * 50) == 110
    assert load(budget(window_messages=10, min_messages=10), [False] * 60, [True] * 50) == 60


@pytest.mark.parametrize("fraction", [0.29, 0.57, 0.07, 1 / 3])
def test_exactly_the_fraction_is_allowed(fraction: float) -> None:
    """0.29 as a double is a little less than 29 of 100, so it is not calculated as one."""
    allowed = int(fraction * 100 + 1e-9)
    settings = {"max_fraction": fraction, "window_messages": 100}
    for rejected, through in ((allowed, 100), (allowed + 1, 0)):
        assert load(budget(**settings), [True] * rejected + [False] * (100 - rejected)) == through


def test_a_batch_that_is_tried_again_counts_once() -> None:
    """After an outage the same batch is checked once more before it is committed."""
    spent = budget(window_messages=100)
    half = [True] * 50 + [False] * 60
    for _ in range(3):
        spent.check(half, REJECTS)
    spent.settle()
    # Counted three times, the batch would have filled the window.
    assert load(spent, [False] * 40 + [True] * 50) == 90
    spent.settle()
    assert load(spent, [False] * 50) == 50


def test_a_batch_that_was_refused_does_not_count() -> None:
    """Its messages were released, so they come again."""
    spent = budget()
    assert load(spent, [False] * 2000) == 2000
    for _ in range(10):
        assert load(spent, [True] * 600) == 0
    assert load(spent, [True] * 500) == 500


def test_what_was_handled_before_says_nothing() -> None:
    """Only messages that this batch loads or rejects are outcomes, in the order they came."""
    assert outcomes(["a", "b", "c", "d"], ["d", "a"], rejects([("c", "ip", "null")])) == [
        False,
        True,
        False,
    ]


def test_the_error_names_the_rule_that_was_broken() -> None:
    """The numbers are those of the window, and the reasons those of the batch."""
    spent = budget()
    load(spent, [False] * 5000)
    with pytest.raises(QuarantineBudget, match=r"600 of 1000 messages in a row.*IP address \(3\)"):
        spent.check([True] * 600, REJECTS)
    with pytest.raises(QuarantineBudget, match=r"^101 of 200 messages failed"):
        budget().check([True, False] * 99 + [True] * 2, REJECTS)


@pytest.mark.parametrize("seed", range(150))
def test_no_sequence_of_batches_gets_more_through(seed: int) -> None:
    """Whatever is settled keeps both rules; what is refused would have broken one of them."""
    draw = random.Random(seed)
    fraction = draw.choice([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
    window = draw.choice([None, 1, 5, 20, 60])
    minimum = draw.choice([1, 5, 30])
    spent = budget(max_fraction=fraction, window_messages=window, min_messages=minimum)
    settled: list[bool] = []
    for _ in range(60):
        share = draw.choice([0.0, fraction, 1.0, draw.random()])
        batch = [draw.random() < share for _ in range(draw.choice([0, 1, 3, 10, 70]))]
        limit = spent.max_rejects(len(batch) + draw.choice([0, 4]))
        kept = keeps_the_rules([*settled, *batch], len(settled), fraction, window, minimum)
        try:
            spent.check(batch, REJECTS)
        except QuarantineBudget:
            assert not kept
            continue
        assert kept
        # The load may give up above the limit, so the limit must not refuse what the rules allow.
        assert sum(batch) <= limit or len(settled) + len(batch) < minimum
        if draw.random() < 0.8:
            spent.settle()
            settled += batch


def keeps_the_rules(
    messages: list[bool], begin: int, fraction: float, window: int | None, minimum: int
) -> bool:
    """Apply both rules in the slowest way, to the messages from *begin* on."""
    count = len(messages)
    if count >= minimum and sum(messages) > count * fraction + 1e-9:
        return False
    size = max(window or 0, minimum)
    ends = range(max(begin + 1, size), count + 1) if window is not None else ()
    return all(sum(messages[end - size : end]) <= size * fraction + 1e-9 for end in ends)
