"""Wall time of a whole run when SQS takes 15 ms to answer a call."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import drain, markdown, paired_runs, services
from bench.drain import BARE
from bench.processes import python
from bench.services import Options
from bench.stub import Network

MESSAGES, QUICK_MESSAGES = 10_000, 100
ANSWER_MS = 15
IDLE_SECONDS = 3
LONGEST_POLL_SECONDS = 20

RUN = "etl run"
WALL = "drain_15ms.wall_seconds"
OVER_PEER = "drain_15ms.wall_over_best_peer"
TARGETS = {WALL: "≤ 10", OVER_PEER: "≤ 0.47"}

# Seconds for 10,000 messages, measured by hand on a machine like this one and in another run, each
# with the program's own defaults.
PEERS = {"Redpanda Connect": 21.5, "ingestr": 35.0, "faucet-stream": 37.0}
BEST_PEER = "Redpanda Connect"


def measure(options: Options) -> dict[str, Any]:
    """Drain the queue with both programs in turns."""
    # Not options.messages: what the other programs took is known for this number only.
    count = QUICK_MESSAGES if options.quick else MESSAGES
    # An empty poll waits for as long as the program asks, as that of SQS does.
    network = Network(answer_ms=ANSWER_MS, empty_seconds=LONGEST_POLL_SECONDS)
    command = python("-m", "etl", "run", "--idle-seconds", str(IDLE_SECONDS), "--json")
    with services.start(count) as running:
        consume = partial(services.consume, running, network=network)
        bare = drain.PROGRAMS[BARE].command
        candidates = {
            RUN: partial(consume, command, count, {}),
            BARE: partial(consume, bare, count, {}, stores=False),
        }
        runs = paired_runs.in_turns(candidates, options.runs)
    table = {
        name: {
            cost: paired_runs.spread([turn[cost] for turn in turns])
            for cost in ("wall_seconds", "cpu_seconds")
        }
        for name, turns in runs.items()
    }
    wall = table[RUN]["wall_seconds"]
    over_peer = {name: seconds / PEERS[BEST_PEER] for name, seconds in wall.items()}
    return {
        "messages": count,
        "ratios": {WALL: wall, OVER_PEER: over_peer},
        # Without the start and the idle time, by the run's own summary.
        "work_seconds": paired_runs.spread(
            [turn["reported"]["work_seconds"] for turn in runs[RUN]]
        ),
        "table": table,
        "runs": runs,
    }


METHOD = """\
{count:,} messages; every answer of the stub queue comes after 15 ms, and an empty poll waits for as
long as it asks to. The wall time is that of the whole process. `etl run` has its default settings
and stops after 3 s of silence, which count; the work alone took {work} s. The bare loop makes one
call after the other and stops at its first empty answer, after 1 s. It shows how noisy the machine
was."""

BY_HAND = """\
The other programs were measured by hand, once, on a machine like this one but in another run, with
their own defaults and 10,000 messages (seconds): {peers}."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    ratios = part["ratios"]
    peers = ", ".join(f"{name} {seconds:g}" for name, seconds in PEERS.items())
    names = {WALL: f"{RUN}, wall time, s", OVER_PEER: f"{RUN} / {BEST_PEER}, wall time"}
    return [
        METHOD.format(count=part["messages"], work=markdown.shown(part["work_seconds"], 1)),
        "",
        *markdown.table(
            ["program", "wall time, s", "CPU, s"],
            [
                [
                    name,
                    markdown.shown(row["wall_seconds"], 1),
                    markdown.shown(row["cpu_seconds"], 1),
                ]
                for name, row in part["table"].items()
            ],
        ),
        "",
        BY_HAND.format(peers=peers),
        "",
        *markdown.table(
            ["key", "measured", "target"],
            [
                [f"{names[key]} (`{key}`)", markdown.shown(ratios[key], digits), TARGETS[key]]
                for key, digits in ((WALL, 1), (OVER_PEER, 2))
            ],
        ),
        "",
        "![Wall time at 15 ms a call](drain_15ms.png)",
    ]
