"""CPU and wall time a message of whole programs, each against the stub queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services

MESSAGES, QUICK_MESSAGES = 50_000, 600
FEW_SHARE = 5  # the small run has a fifth of the messages: two batches lie between them at least

BARE, USUAL, MULTI, COPY, TWO = (
    "bare boto3 loop", "usual design", "etl run, multi", "etl run, copy",
    "etl run, copy, 2 workers",
)  # fmt: skip

# Ratio, candidates, what is aimed at. All in CPU a message.
RATIOS = {
    "drain.copy_over_bare": (COPY, BARE, "≤ 1.0"),
    "drain.multi_over_bare": (MULTI, BARE, "≤ 1.5"),
    "drain.copy_over_usual": (COPY, USUAL, "≤ 0.5"),
    "drain.two_workers_over_one": (TWO, COPY, "≤ 1.1"),
}


def measure(options: Options) -> dict[str, Any]:
    """Drain with each candidate in turns."""
    many = options.messages or (QUICK_MESSAGES if options.quick else MESSAGES)
    few = max(many // FEW_SHARE, 1)
    notes = []
    with services.opened(many) as here:
        candidates = _candidates(here, few, many)
        if TWO not in candidates:
            notes.append("`run` has no `--workers`, so two workers were not measured.")
        runs = paired_runs.in_turns(candidates, options.runs)
    a_message = {name: [_slope(run) for run in own] for name, own in runs.items()}
    cpu = {name: [one["cpu_us"] for one in own] for name, own in a_message.items()}
    ratios = {
        key: paired_runs.ratio(cpu[one], cpu[other])
        for key, (one, other, _) in RATIOS.items()
        if one in cpu
    }
    return {
        "messages": [few, many],
        "notes": notes,
        "ratios": ratios,
        "table": {
            name: {what: paired_runs.spread([one[what] for one in own]) for what in own[0]}
            for name, own in a_message.items()
        },
        "runs": runs,
    }


def _candidates(here: Services, few: int, many: int) -> dict[str, Callable[[], Any]]:
    etl = processes.python("-m", "etl", "run", "--idle-seconds", "1", "--json")
    multi, copy = {"ETL_LOAD__METHOD": "multi"}, {"ETL_LOAD__METHOD": "copy"}
    both = partial(_both, here, few, many)
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
    here: Services,
    few: int,
    many: int,
    command: list[str],
    more: dict[str, str],
    *,
    stores: bool = True,
) -> dict[str, Any]:
    """Drain few and then many, so that what a start costs can be taken out."""
    return {
        "few": services.consume(here, command, few, more, stores=stores),
        "many": services.consume(here, command, many, more, stores=stores),
    }


def _slope(run: dict[str, Any]) -> dict[str, float]:
    """Microseconds a message between the small and the large run; the start counts in neither."""
    few, many = run["few"], run["many"]
    more = many["messages"] - few["messages"]

    def us(what: str) -> float:
        return float(many[what] - few[what]) / more * 1e6

    cpu_us = us("cpu_seconds")
    return {
        "cpu_us": cpu_us,
        "wall_us": us("wall_seconds"),
        "database_cpu_us": us("database_cpu_seconds"),
        "stub_cpu_us": us("stub_cpu_seconds"),
        "start_cpu_seconds": few["cpu_seconds"] - cpu_us * few["messages"] / 1e6,
    }


METHOD = """\
Each program drains a queue of {many:,} and one of {few:,} messages; the difference, divided by
{more:,}, is the cost of a message, so that neither the start of Python nor an idle time counts. CPU
is that of the program and all its children (user and system), as the kernel counts it. The database
and the stub are servers apart, and stand apart."""


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown."""
    few, many = part["messages"]
    return [
        METHOD.format(few=few, many=many, more=many - few),
        "",
        *markdown.table(
            ["program", "CPU, µs a message", "wall, µs a message", "database, CPU µs",
             "stub, CPU µs", "start, CPU s"],
            [[name, *_cells(row)] for name, row in part["table"].items()],
        ),
        "",
        *markdown.table(
            ["ratio of CPU a message", "measured", "target"],
            [
                [f"{one} / {other} (`{key}`)", markdown.shown(part["ratios"][key]), target]
                for key, (one, other, target) in RATIOS.items()
                if key in part["ratios"]
            ],
        ),
        *(f"\n{note}" for note in part["notes"]),
        "",
        "![CPU a message](drain.png)",
    ]  # fmt: skip


def _cells(row: dict[str, paired_runs.Spread]) -> list[str]:
    return [
        markdown.shown(row["cpu_us"], 0),
        markdown.shown(row["wall_us"], 0),
        *(f"{row[what]['median']:.0f}" for what in ("database_cpu_us", "stub_cpu_us")),
        f"{row['start_cpu_seconds']['median']:.2f}",
    ]
