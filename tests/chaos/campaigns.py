"""The campaigns: what is sent, which faults befall it, and how many of them make it a proof."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.chaos import crash_points
from tests.chaos.clock import Clock, jumping_clock
from tests.chaos.messages import Messages
from tests.chaos.proxy import Chance, Fate
from tests.chaos.testbed import TICK_SECONDS, Stage, opened
from tests.chaos.workers import Life

# Sizes are for share 1, which is what is promised; a smoke does a small share of it.
Result = dict[str, Any]

COPY = {"ETL_LOAD__METHOD": "copy"}
HALF_A_DAY = 12 * 3600  # seconds
MAX_MB = 350  # resident memory of a worker, however many messages pass through it


@dataclass(frozen=True)
class Size:
    """How much of a campaign is to be done."""

    share: float = 1.0

    def of(self, full: int, least: int = 1) -> int:
        """The share of a number, rounded up, and not less than *least*."""
        return max(least, -int(-full * self.share // 1))


def kills(seed: int, size: Size) -> Result:
    """SIGKILLs of four workers, at every named point in turn and at random moments between."""
    wanted, planned = size.of(200, 6), size.of(12, 3)
    count = size.of(200_000, 2000)
    draw = random.Random(f"kills {seed}")
    lives = _doomed_lives(draw)
    settings = {"ETL_BATCH__ROWS": "500", "ETL_BATCH__SECONDS": "1"}
    with opened(
        "kills", Messages(seed, bad_share=0.01), visibility_seconds=6, settings=settings
    ) as stage:
        stage.sqs.commit(redelivered=0.05)
        stage.send(count)
        points: set[str] = set()
        while stage.fired["sigkill"] < wanted or len(points) < planned:
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
        return stage.result({"sigkill": wanted, "different named points": planned})


def _doomed_lives(draw: random.Random) -> Iterator[Life]:
    """Two at a named point for each one at a random moment; those that come to none end anyway."""
    while True:
        points = list(crash_points.POINTS)
        draw.shuffle(points)
        for number, point in enumerate(points):
            yield _life_to(point, draw)
            if number % 2:
                yield Life(seconds=draw.uniform(0.5, 8))


def _life_to(point: str, draw: random.Random) -> Life:
    name, _, _ = point.partition(" ")
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


def _slow_loads(stage: Stage, seconds: float) -> None:
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


BACK_SECONDS = 5.0  # what is promised


class Commits:
    """Loses some COMMITs and some of their replies, while it is switched on."""

    def __init__(self, seed: int, share: float) -> None:
        self._chance = Chance(seed, {Fate.UNANSWERED: share, Fate.LOST: share})
        self.on = True

    def __call__(self, request: bytes) -> Fate:
        """Say what becomes of a request."""
        return self._chance(request) if self.on else Fate.PASSED


def database(seed: int, size: Size) -> Result:
    """Restarts, ended sessions, cut connections, swallowed replies to COMMIT; then back to work."""
    planned = {
        "restart": size.of(50, 2),
        "terminated backend": size.of(200, 8),
        "cut": size.of(50, 4),
        "unanswered": size.of(20, 1),
    }
    draw, commits = random.Random(f"database {seed}"), Commits(seed, 0.04)
    settings = {"ETL_BATCH__ROWS": "40", "ETL_BATCH__SECONDS": "1"}
    back: list[float] = []
    with opened(
        "database", Messages(seed, bad_share=0.01), settings=settings, judge=commits
    ) as stage:
        # Small, slow loads: most faults meet a transaction, and there is always work left.
        _slow_loads(stage, 0.5)
        stage.send(3000)
        _at_work(stage)
        while any((stage.fired + stage.proxy.fired)[kind] < n for kind, n in planned.items()):
            if stage.producer.numbers()[0] < 2000:
                stage.send(1000)
            commits.on = True
            time.sleep(draw.uniform(0.2, 1.5))
            commits.on = False  # so that what is measured is one fault's end
            _strike(stage, draw, planned)
            back.append(_at_work(stage))
            stage.say()
        commits.on = True
        stage.sql("drop trigger slow on user_logins")
        stage.drain()
        back.sort()
        stage.figures["back_to_work_seconds"] = {
            "median": round(back[len(back) // 2], 1),
            "p95": round(back[int(len(back) * 0.95)], 1),
            "longest": round(back[-1], 1),
        }
        # A promise of time is judged where it is made, at the full size and by nothing smaller.
        in_time = size.share < 1 or back[-1] <= BACK_SECONDS
        return _unless_broken(stage.result(planned), in_time)


def _unless_broken(result: Result, kept: bool) -> Result:
    """The result; a fail where what the campaign promises besides was not *kept*."""
    return result if kept else {**result, "verdict": "fail"}


def _strike(stage: Stage, draw: random.Random, planned: dict[str, int]) -> None:
    """Do one of the faults of which some are still planned."""
    fired = stage.fired + stage.proxy.fired
    kinds = [k for k in ("restart", "terminated backend", "cut") if fired[k] < planned[k]]
    kind = draw.choice(kinds or ["cut"])
    if kind == "restart":
        stage.postgres.restart(draw.choice(("immediate", "fast")))
        stage.fired[kind] += 1
    elif kind == "cut":
        stage.proxy.cut()
    else:
        stage.fired[kind] += _terminate(stage)


def _terminate(stage: Stage) -> int:
    statement = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity "
        "where datname = current_database() and application_name = 'etl'"
    )
    return int(stage.sql(statement)[0][0])


def _at_work(stage: Stage) -> float:
    """Wait until every worker has committed a batch; returns the seconds that it took."""
    began, before = time.monotonic(), _batches(stage)
    while time.monotonic() < began + 60:
        stage.keep_alive()
        grown = [run for run, count in _batches(stage).items() if count > before.get(run, 0)]
        if len(grown) >= len(stage.fleet.living):
            break
        time.sleep(TICK_SECONDS)
    return time.monotonic() - began


def _batches(stage: Stage) -> dict[str, int]:
    return dict(stage.sql("select run_id::text, batches from etl.runs"))


def million(seed: int, size: Size) -> Result:
    """A million messages, 20 % delivered again and 2 % bad, under a little of everything."""
    count = size.of(1_000_000, 2000)
    draw, commits = random.Random(f"million {seed}"), Commits(seed, 0.02)
    settings = {**COPY, "ETL_BATCH__SECONDS": "5"}
    rates = {kind: rate / 10 for kind, rate in SQS_FAULTS.items()} | {"redelivered": 0.2}
    planned = {kind: size.of(1000, 1) for kind in rates if kind != "cut_after"}
    planned |= {"cut_after": size.of(100, 1), "sigkill": size.of(10, 1)}
    planned |= {"restart": size.of(5, 1), "terminated backend": size.of(20, 1)}
    bad = Messages(seed, bad_share=0.02)
    with ExitStack() as held:
        # A smoke does without: not every machine has a C compiler.
        wall = held.enter_context(jumping_clock()) if size.share >= 0.1 else None
        if wall:
            planned["clock jump"] = size.of(10, 1)
        libraries = wall.environment if wall else None
        stage = held.enter_context(
            opened("million", bad, settings=settings, judge=commits, libraries=libraries)
        )
        stage.sqs.commit(**rates, failed=0.005, unavailable=0.005, cut_before=0.005, slow=0.005)
        with stage.sending(count) as producing:
            strikes = _low_rate(stage, draw, planned, wall)
            stage.until_empty(lambda: next(strikes), 4 * 3600, lambda: not producing.is_alive())
        result = stage.result(planned)
        return _unless_broken(result, result["peak_mb"] <= MAX_MB)


def _low_rate(
    stage: Stage, draw: random.Random, planned: dict[str, int], wall: Clock | None
) -> Iterator[None]:
    """Now and then a SIGKILL, a restart, ended sessions: at each step if its time has come."""
    full = planned["sigkill"] >= 10
    kinds = {"sigkill": 15.0, "terminated backend": 20.0, "restart": 45.0}
    if wall:
        kinds["clock jump"] = 30.0
    due = {kind: time.monotonic() + (every if full else 3) for kind, every in kinds.items()}
    while True:
        stage.fired["sigkill"] += sum(end.is_kill for end in stage.fleet.ended())
        stage.fleet.fill()
        for kind, moment in due.items():
            if time.monotonic() < moment:
                continue
            due[kind] = time.monotonic() + kinds[kind] * draw.uniform(0.5, 1.5)
            if kind == "sigkill" and stage.fleet.living:
                stage.fleet.kill(draw.choice(stage.fleet.living))
            elif kind == "restart":
                stage.postgres.restart("immediate")
                stage.fired[kind] += 1
            elif kind == "clock jump" and wall:
                _jump(wall, draw)
                stage.fired[kind] += 1
            elif kind == "terminated backend":
                stage.fired[kind] += _terminate(stage)
        yield


def _jump(wall: Clock, draw: random.Random) -> None:
    wall.jump_to(draw.choice((-HALF_A_DAY, 0, HALF_A_DAY)))


def clock(seed: int, size: Size) -> Result:
    """The workers' wall clock jumps by half a day, to and fro; and a fault at times."""
    count, jumps = size.of(60_000, 2000), size.of(50, 4)
    draw = random.Random(f"clock {seed}")
    settings = {"ETL_BATCH__ROWS": "300", "ETL_BATCH__SECONDS": "1"}
    with (
        jumping_clock() as wall,
        opened(
            "clock", Messages(seed, bad_share=0.01), workers=2, visibility_seconds=10,
            settings=settings, libraries=wall.environment,
        ) as stage,
    ):  # fmt: skip
        stage.sqs.commit(redelivered=0.1, throttled=0.02)
        stage.send(count)
        _slow_loads(stage, 0.5)  # so that the jumps meet transactions, and work is left
        _at_work(stage)
        while wall.jumps < jumps:
            if stage.producer.numbers()[0] < 2000:
                stage.send(1000)
            _jump(wall, draw)
            _at_work(stage)
            stage.say()
        stage.sql("drop trigger slow on user_logins")
        stage.drain()
        stage.fired["clock jump"] = wall.jumps
        return stage.result({"clock jump": jumps})


CAMPAIGNS: dict[str, Callable[[int, Size], Result]] = {
    "kills": kills,
    "database": database,
    "sqs": sqs,
    "order": order,
    "bad-input": bad_input,
    "clock": clock,
    "million": million,
}
