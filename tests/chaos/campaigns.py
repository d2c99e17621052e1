"""The campaigns: what is sent, which faults befall it, and how many of them make it a proof."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos import doomed
from tests.chaos.fleet import Life
from tests.chaos.messages import Messages
from tests.chaos.stage import TICK_SECONDS, Stage, opened

# Sizes are for share 1, which is what is promised; a smoke does a small share of it.
Result = dict[str, Any]

COPY = {"ETL_LOAD__METHOD": "copy"}
POINTS_PLANNED = 12  # different ones; a campaign of the full size comes to nearly all there are


@dataclass(frozen=True)
class Size:
    """How much of a campaign is to be done."""

    share: float = 1.0

    def of(self, full: int, least: int = 1) -> int:
        """The share of a number, rounded up, and not less than *least*."""
        return max(least, -int(-full * self.share // 1))


def kills(seed: int, size: Size) -> Result:
    """SIGKILLs of four workers, at every named point in turn and at random moments between."""
    wanted, count = size.of(200, 12), size.of(200_000, 3000)
    draw = random.Random(f"kills {seed}")
    lives = _doomed_lives(draw)
    settings = {"ETL_BATCH__ROWS": "500", "ETL_BATCH__SECONDS": "1"}
    with opened(
        "kills", Messages(seed, bad_share=0.01), visibility_seconds=6, settings=settings
    ) as stage:
        stage.sqs.commit(redelivered=0.05)
        stage.send(count)
        points: set[str] = set()
        while stage.fired["sigkill"] < wanted or len(points) < POINTS_PLANNED:
            for end in stage.fleet.ended():
                stage.fired["sigkill"] += end.is_kill
                at_point = end.is_kill and not end.ours and end.life.point is not None
                stage.fired["at a named point"] += at_point
                if at_point:
                    points.add(str(end.life.point))
            for slot in stage.fleet.free:
                stage.fleet.start(slot, next(lives))
            if stage.producer.numbers()[0] < 2000:
                stage.send(2000)  # a worker that finds nothing comes to no point
            stage.say()
            time.sleep(TICK_SECONDS / 2)
        stage.fired["different named points"] = len(points)
        stage.drain()
        return stage.result({"sigkill": wanted, "different named points": POINTS_PLANNED})


def _doomed_lives(draw: random.Random) -> Iterator[Life]:
    """Two at a named point for each one at a random moment; those that come to none end anyway."""
    while True:
        points = list(doomed.POINTS)
        draw.shuffle(points)
        for number, point in enumerate(points):
            yield _life_to(point, draw)
            if number % 2:
                yield Life(seconds=draw.uniform(0.5, 8))


def _life_to(point: str, draw: random.Random) -> Life:
    name = point.split(" ")[0]
    more: tuple[tuple[str, str], ...] = ()
    if name == "copy" or draw.random() < 0.3:
        more = (("ETL_LOAD__METHOD", "copy"),)
    if name == "extend":
        # It takes a batch that gathers for longer than half of the visibility timeout.
        more = (("ETL_BATCH__ROWS", "20000"), ("ETL_BATCH__SECONDS", "6"))
    often = 40 if name in ("receive", "hold", "delete") else 3
    return Life(more=more, point=point, nth=draw.randint(1, often), seconds=25)


# What SQS itself may do, and does not often.
SQS_FAULTS = {
    "redelivered": 0.3,
    "failed_entry": 0.2,
    "stale_handle": 0.05,
    "throttled": 0.2,
    "cut_after": 0.1,
    "false_empty": 0.3,
}


def sqs(seed: int, size: Size) -> Result:
    """Everything that SQS may do, a visibility timeout of 2 s, loads of 10 s."""
    count = size.of(12_000, 1000)
    settings = {"ETL_BATCH__ROWS": "250", "ETL_BATCH__SECONDS": "4"}
    with opened(
        "sqs", Messages(seed, bad_share=0.01), visibility_seconds=2, settings=settings
    ) as stage:
        _slow_loads(stage, 10 if size.share >= 1 else 3)
        stage.send(count)
        stage.sqs.commit(**SQS_FAULTS)
        stage.drain()
        planned = {kind: size.of(100, 5) for kind in SQS_FAULTS}
        # A sequence counts what was rolled back too.
        stage.fired["slow load"] = stage.sql("select last_value from slow_loads")[0][0]
        return stage.result(planned | {"slow load": 4})


def _slow_loads(stage: Stage, seconds: int) -> None:
    """Let every load of at least a row take so long, in the database."""
    stage.sql(
        "create sequence slow_loads; "
        "create function slow() returns trigger language plpgsql as "
        "$$ begin if exists (select from fresh) then "
        f"perform nextval('slow_loads'), pg_sleep({seconds}); end if; return null; end $$; "
        "create trigger slow after insert on user_logins referencing new table as fresh "
        "execute function slow()"
    )


def order(seed: int, size: Size) -> Result:
    """Each message three times, to four workers, in opposite orders."""
    count = size.of(40_000, 2000)
    chunk = min(1000, count // 4)
    settings = {"ETL_BATCH__ROWS": str(chunk * 3 // 4), "ETL_BATCH__SECONDS": "5"}
    with opened("order", Messages(seed), visibility_seconds=10, settings=settings) as stage:
        stage.send(count)
        stage.sqs.commit(opposite_chunk=chunk)
        stage.drain()
        log = stage.postgres.log_path.read_text(errors="replace")
        stage.figures["deadlocks"] = log.count("deadlock detected")
        return stage.result({"opposite_order": 3 * count})


def bad_input(seed: int, size: Size) -> Result:
    """Every other message is mutated; the others are its neighbours."""
    count = 2 * size.of(100_000, 1500)
    settings = {"ETL_BATCH__ROWS": "5000", "ETL_BATCH__SECONDS": "5"}
    with opened("bad-input", Messages(seed, mutated=True), workers=2, settings=settings) as stage:
        stage.send(count)
        stage.fired["mutated"] = count // 2
        stage.drain()
        stage.figures["quarantined"] = stage.sql("select count(*) from etl.quarantine")[0][0]
        return stage.result({"mutated": count // 2})


CAMPAIGNS: dict[str, Callable[[int, Size], Result]] = {
    "kills": kills,
    "sqs": sqs,
    "order": order,
    "bad-input": bad_input,
}
