"""CPU and wall time per message, for complete programs that drain the stub queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services

MESSAGES, QUICK_MESSAGES = 50_000, 600
FEW_SHARE = 5  # the small run has a fifth of the messages, so that they differ by two batches

BARE = "bare boto3 loop"
USUAL = "usual design"
MULTI = "etl run, multi"
COPY = "etl run, copy"
TWO = "etl run, copy, 2 workers"

# Key: the two programs to compare, and the target. All are ratios of CPU per message.
RATIOS = {
    "drain.copy_over_bare": (COPY, BARE, "≤ 1.0"),
    "drain.multi_over_bare": (MULTI, BARE, "≤ 1.5"),
    "drain.copy_over_usual": (COPY, USUAL, "≤ 0.5"),
    "drain.two_workers_over_one": (TWO, COPY, "≤ 1.1"),
}


def measure(options: Options) -> dict[str, Any]:
    """Drain the queue with each program in turns."""
    many = options.messages or (QUICK_MESSAGES if options.quick else MESSAGES)
    few = max(many // FEW_SHARE, 1)
    notes = []
    with services.start(many) as running:
        candidates = _candidates(running, few, many)
        if TWO not in candidates:
            notes.append("`run` has no `--workers`, so two workers were not measured.")
        runs = paired_runs.in_turns(candidates, options.runs)
    per_message = {name: [_slope(turn) for turn in turns] for name, turns in runs.items()}
    cpu = {name: [costs["cpu_us"] for costs in turns] for name, turns in per_message.items()}
    ratios = {
        key: paired_runs.ratio(cpu[program], cpu[other])
        for key, (program, other, _) in RATIOS.items()
        if program in cpu
    }
    return {
        "messages": [few, many],
        "notes": notes,
        "ratios": ratios,
        "table": {
            name: {cost: paired_runs.spread([costs[cost] for costs in turns]) for cost in turns[0]}
            for name, turns in per_message.items()
        },
        "runs": runs,
    }


def _candidates(running: Services, few: int, many: int) -> dict[str, Callable[[], Any]]:
    etl = processes.python("-m", "etl", "run", "--idle-seconds", "1", "--json")
    multi = {"ETL_LOAD__METHOD": "multi"}
    copy = {"ETL_LOAD__METHOD": "copy"}
    both = partial(_both, running, few, many)
    candidates: dict[str, Callable[[], Any]] = {
        BARE: partial(both, processes.python("-m", "bench.bare_consumer"), {}, stores=False),
        USUAL: partial(both, processes.python("-m", "bench.row_by_row"), {}),
        MULTI: partial(both, etl, multi),
        COPY: partial(both, etl, copy),
    }
    if "--workers" in processes.run(processes.python("-m", "etl", "run", "--help")).output:
        candidates[TWO] = partial(both, [*etl, "--workers", "2"], copy)
    return candidates


def _both(
    running: Services,
    few: int,
    many: int,
    command: list[str],
    variables: dict[str, str],
    *,
    stores: bool = True,
) -> dict[str, Any]:
    """Drain few messages and then many, so that the cost of the start can be subtracted."""
    return {
        "few": services.consume(running, command, few, variables, stores=stores),
        "many": services.consume(running, command, many, variables, stores=stores),
    }


def _slope(run: dict[str, Any]) -> dict[str, float]:
    """Return microseconds per message, from the difference of the two runs: it has no start."""
    few, many = run["few"], run["many"]
    messages = many["messages"] - few["messages"]

    def us(cost: str) -> float:
        return float(many[cost] - few[cost]) / messages * 1e6

    cpu_us = us("cpu_seconds")
    return {
        "cpu_us": cpu_us,
        "wall_us": us("wall_seconds"),
        "database_cpu_us": us("database_cpu_seconds"),
        "stub_cpu_us": us("stub_cpu_seconds"),
        "start_cpu_seconds": few["cpu_seconds"] - cpu_us * few["messages"] / 1e6,
    }


METHOD = """\
Each program drains a queue of {many:,} messages and one of {few:,}. The difference, divided by
{more:,}, is the cost per message, so that neither the start of Python nor the idle time counts.
CPU is the user and system time of the program and all its children, as the kernel counts it. The
database and the stub queue are separate servers and have their own columns."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    few, many = part["messages"]
    heads = [
        "program",
        "CPU, µs per message",
        "wall time, µs per message",
        "database, CPU µs",
        "stub, CPU µs",
        "start, CPU s",
    ]
    return [
        METHOD.format(few=few, many=many, more=many - few),
        "",
        *markdown.table(heads, [[name, *_cells(row)] for name, row in part["table"].items()]),
        "",
        *markdown.table(
            ["ratio of CPU per message", "measured", "target"],
            [
                [f"{program} / {other} (`{key}`)", markdown.shown(part["ratios"][key]), target]
                for key, (program, other, target) in RATIOS.items()
                if key in part["ratios"]
            ],
        ),
        *(f"\n{note}" for note in part["notes"]),
        "",
        "![CPU per message](drain.png)",
    ]


def _cells(row: dict[str, paired_runs.Spread]) -> list[str]:
    return [
        markdown.shown(row["cpu_us"], 0),
        markdown.shown(row["wall_us"], 0),
        f"{row['database_cpu_us']['median']:.0f}",
        f"{row['stub_cpu_us']['median']:.0f}",
        f"{row['start_cpu_seconds']['median']:.2f}",
    ]
