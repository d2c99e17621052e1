"""How many rows a batch may have, with a simulated load and without a clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from etl.sqs.message import Message
from etl.sqs.pace import BATCH_SECONDS, FRESH, LAST, MIN_ROWS, NEARLY_LAST, REDELIVERED, Pace

THREADS = 16
BATCH_COST = 0.03  # seconds for each batch, whatever its rows


def message(receive_count: int = 1) -> Message:
    """Make a message that was received so many times."""
    return Message("m", "x", "h", 0, None, receive_count=receive_count)


class Simulation:
    """A job whose receiving and loading go on at the same time, each at a constant speed."""

    def __init__(
        self,
        *,
        max_rows: int = 10_000,
        visibility: float = 30,
        max_receives: int | None = None,
        batch_cost: float = BATCH_COST,
        max_seconds: float | None = None,
    ) -> None:
        self.batch_cost = batch_cost
        self.pace = Pace(max_rows, visibility, THREADS, max_receives, max_seconds=max_seconds)
        self.now = 1000.0
        self.loading = 0  # rows
        self.batches: list[int] = []
        self.call_seconds = 0.02

    def batch(self, *, receive: float = 1e9, load: float = 1e9, count: int = 1) -> int:
        """Gather a batch while the one before it is loaded, at these rows a second; take it."""
        began = self.now
        free = began + (self.batch_cost + self.loading / load if self.loading else 0)
        self.pace.loader_is_free(free)
        self.pace.messages_came([message(count)])
        rows = self.pace.rows
        self.now = max(free, began + rows / receive)
        self.pace.batch_was_taken(rows, self.now, self.call_seconds)
        self.loading = rows
        self.batches.append(rows)
        return rows

    def run(self, batches: int, **speeds: float) -> list[int]:
        """Load so many batches; return their rows."""
        return [self.batch(**speeds) for _ in range(batches)]  # type: ignore[arg-type]


def test_the_first_batch_is_small_and_the_next_ones_grow_to_the_limit() -> None:
    """With a load that is quick enough for the largest batch."""
    rows = Simulation().run(12, receive=20_000, load=20_000)
    assert rows[0] == FRESH.first_rows
    assert rows == sorted(rows)
    assert rows[-1] == 10_000


@pytest.mark.parametrize("speed", [1_000, 2_000, 4_000])
def test_a_batch_is_no_longer_than_its_time(speed: int) -> None:
    """Whether the load is slow or the receiving."""
    for speeds in ({"load": speed}, {"receive": speed}, {"load": speed, "receive": speed}):
        rows = Simulation().run(30, **speeds)
        assert 0.7 * speed * BATCH_SECONDS < rows[-1] <= 1.05 * speed * BATCH_SECONDS


def test_a_very_slow_load_gets_the_smallest_batches_and_no_smaller_ones() -> None:
    """Ten rows a second would be twenty rows in two seconds."""
    assert Simulation().run(20, load=10)[-1] == MIN_ROWS


@pytest.mark.parametrize("max_seconds", [3, 10, 30])
@pytest.mark.parametrize("speed", [100, 400, 1_000, 10_000])
def test_no_batch_takes_a_large_part_of_a_run_with_an_end(speed: int, max_seconds: float) -> None:
    """Whatever is in progress when the time is up is finished, from the first batch on."""
    rows = Simulation(visibility=600, max_seconds=max_seconds).run(30, load=speed, receive=20_000)
    assert max(rows) / speed <= max(max_seconds / 5, 2 * MIN_ROWS / speed)
    assert rows[-1] >= min(MIN_ROWS, speed)


def test_the_limit_of_the_settings_holds() -> None:
    """Also below the first rows, and below ten."""
    for limit in (1, 7, 100, 600):
        assert max(Simulation(max_rows=limit).run(20)) == limit


def test_an_outage_makes_batches_small_and_they_grow_again() -> None:
    """Not at once: doubled from batch to batch."""
    job = Simulation()
    assert job.run(15, load=20_000)[-1] == 10_000
    job.batch(load=100)  # 10,000 rows in 100 s
    smallest = job.batch(load=20_000)
    assert MIN_ROWS <= smallest <= 2 * MIN_ROWS
    grown = job.run(12, load=20_000)
    assert grown[-1] == 10_000
    assert all(later <= 2 * earlier for earlier, later in pairwise([smallest, *grown]))


def test_a_process_holds_no_more_than_a_few_times_what_it_has_loaded() -> None:
    """So a crash loop moves on."""
    job = Simulation()
    for _ in range(20):
        job.batch(receive=50_000, load=50_000)
        loaded = sum(job.batches[:-1])
        held = job.batches[-1] + job.pace.rows
        assert held <= max(2 * FRESH.first_rows, 3 * loaded)


@pytest.mark.parametrize(
    ("receives", "max_receives", "caution"),
    [
        (1, None, FRESH), (1, 5, FRESH), (0, 3, FRESH), (1, 3, FRESH),
        (2, None, REDELIVERED), (2, 5, REDELIVERED), (50, None, REDELIVERED),
        (2, 3, NEARLY_LAST), (4, 5, NEARLY_LAST), (1, 2, NEARLY_LAST),
        (3, 3, LAST), (5, 5, LAST), (1, 1, LAST), (7, 3, LAST),
    ],
)  # fmt: skip
def test_messages_with_few_receives_left_are_held_in_small_batches(
    receives: int, max_receives: int | None, caution: tuple[float, ...]
) -> None:
    """The first batch has few, and a process that has loaded much may hold more of them."""
    job = Simulation(max_receives=max_receives)
    assert job.batch(count=receives) == caution[0]
    job.run(400)
    rows = job.batch(count=receives)
    assert caution[0] < rows <= min(caution[2], 10_000)


def test_one_message_at_its_last_receive_closes_the_batch() -> None:
    """It is not held until a large batch is full, and the next batch is large again."""
    job = Simulation(max_receives=3)
    before = job.run(15)[-1]
    job.pace.loader_is_free(job.now)
    assert job.pace.rows == before
    job.pace.messages_came([message(1), message(3)])
    assert job.pace.rows <= LAST.max_rows
    job.pace.batch_was_taken(job.pace.rows, job.now, 0.02)
    assert job.pace.rows == before


@pytest.mark.parametrize("visibility", [1, 2, 10, 30, 600])
@pytest.mark.parametrize("call_seconds", [0.002, 0.02, 0.2, 2.0])
def test_what_is_held_can_be_extended_in_time(visibility: int, call_seconds: float) -> None:
    """All of it, by all threads together, within a quarter of the visibility timeout."""
    job = Simulation(visibility=visibility, max_rows=50_000)
    job.call_seconds = call_seconds
    rows = job.run(60)[-1]
    held = 2 * rows
    assert held <= 700 * visibility
    assert held / 10 * call_seconds / THREADS <= visibility / 4 + call_seconds
    assert rows >= 1


def test_a_batch_that_closed_for_another_reason_does_not_change_the_pace() -> None:
    """Its age, its bytes or an empty queue closed it."""
    job = Simulation()
    before = job.run(15)[-1]
    for rows in (3, 40, 0):
        job.pace.loader_is_free(job.now + 0.5)
        job.pace.batch_was_taken(rows, job.now + 30, 0.02)
        job.now += 30
    assert job.pace.rows == before


def test_a_pace_that_does_not_grow_takes_whole_batches() -> None:
    """A look at the queue holds all that it has received to its end anyway."""
    pace = Pace(10_000, 30, THREADS, 3, grows=False)
    pace.messages_came([message(3)])
    pace.batch_was_taken(10_000, 100.0, 5.0)
    assert pace.rows == 10_000


@pytest.mark.parametrize("batch_cost", [0.01, 0.05, 0.1, 0.2, 1.0])
@pytest.mark.parametrize("speed", [500, 2_000, 5_000])
def test_the_fixed_cost_of_a_batch_is_a_small_share_of_it(batch_cost: float, speed: int) -> None:
    """Also where it is large, as on a busy machine, if the visibility timeout allows it."""
    job = Simulation(batch_cost=batch_cost, visibility=300)
    job.run(60, load=speed)
    took = batch_cost + job.loading / speed
    assert job.loading == 10_000 or batch_cost / took < 0.04
    assert took < max(BATCH_SECONDS, batch_cost / 0.03) * 1.1


def test_a_fixed_cost_is_not_forgotten_when_all_batches_are_alike() -> None:
    """Otherwise the batches would shrink and grow again and again."""
    job = Simulation(batch_cost=0.2, visibility=300)
    rows = job.run(200, load=1_000)
    assert min(rows[60:]) > 0.9 * max(rows[60:])
