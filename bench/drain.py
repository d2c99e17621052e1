"""CPU and wall time per message, for complete programs that drain the stub queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services
from bench.stub import LOCAL, Network

MESSAGES, QUICK_MESSAGES = 100_000, 600
FEW_SHARE = 5  # the small run has a fifth of the messages, so that they differ by several batches

BARE = "bare boto3 loop"
USUAL = "usual design"
MULTI = "etl run, multi"
COPY = "etl run, copy"
TWO = "etl run, copy, 2 workers"

# Key: the two programs to compare, and the target. All are ratios of CPU per message.
RATIOS = {
    "drain.copy_over_bare": (COPY, BARE, "≤ 0.22"),
    "drain.multi_over_bare": (MULTI, BARE, "≤ 0.27"),
    "drain.copy_over_usual": (COPY, USUAL, "≤ 0.5"),
    "drain.two_workers_over_one": (TWO, COPY, "≤ 1.05"),
}
COPY_CPU = "drain.copy_cpu_us"
COPY_CPU_TARGET = "≤ 45 where the bare loop takes 160"


@dataclass(frozen=True)
class Program:
    """A program that drains a queue."""

    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)
    stores: bool = True
    share: int = 1  # it gets this fraction (1/share) of the messages


_RUN = processes.python("-m", "etl", "run", "--idle-seconds", "1", "--json")
_COPY = {"ETL_LOAD__METHOD": "copy"}
PROGRAMS = {
    # These two would take most of the time, and need fewer messages for a precise cost of each.
    BARE: Program(processes.python("-m", "bench.bare_consumer"), stores=False, share=2),
    USUAL: Program(processes.python("-m", "bench.row_by_row"), share=5),
    MULTI: Program(_RUN, {"ETL_LOAD__METHOD": "multi"}),
    COPY: Program(_RUN, _COPY),
    TWO: Program([*_RUN, "--workers", "2"], _COPY),
}


def measure(options: Options) -> dict[str, Any]:
    """Drain the queue with each program in turns."""
    part = drained(options, PROGRAMS)
    part["ratios"] = {**ratios(part, RATIOS), COPY_CPU: part["table"][COPY]["cpu_us"]}
    return part


def drained(options: Options, names: Iterable[str], network: Network = LOCAL) -> dict[str, Any]:
    """Drain the queue with the programs of these names in turns; return a part without ratios."""
    many = options.messages or (QUICK_MESSAGES if options.quick else MESSAGES)
    with services.start(many) as running:
        candidates = {
            name: partial(_both, running, PROGRAMS[name], many, network) for name in names
        }
        runs = paired_runs.in_turns(candidates, options.runs)
    per_message = {name: [_slope(turn) for turn in turns] for name, turns in runs.items()}
    return {
        "messages": [many // FEW_SHARE, many],
        "table": {
            name: {cost: paired_runs.spread([costs[cost] for costs in turns]) for cost in turns[0]}
            for name, turns in per_message.items()
        },
        "runs": runs,
    }


def _both(running: Services, program: Program, many: int, network: Network) -> dict[str, Any]:
    """Drain few messages and then many, so that the cost of the start can be subtracted."""
    many //= program.share

    def drain(count: int) -> dict[str, Any]:
        return services.consume(
            running,
            program.command,
            count,
            program.variables,
            network=network,
            stores=program.stores,
        )

    return {"few": drain(max(many // FEW_SHARE, 1)), "many": drain(many)}


def _slope(run: dict[str, Any]) -> dict[str, float]:
    """Return microseconds per message, from the difference of the two runs: it has no start.

    The start, in turn, is the small run without its messages. Calls are per message as well.
    """
    few, many = run["few"], run["many"]
    messages = many["messages"] - few["messages"]

    def per_message(cost: str) -> float:
        return float(many[cost] - few[cost]) / int(messages)

    def start(cost: str) -> float:
        return float(few[cost]) - per_message(cost) * int(few["messages"])

    return {
        "cpu_us": per_message("cpu_seconds") * 1e6,
        "wall_us": per_message("wall_seconds") * 1e6,
        "database_cpu_us": per_message("database_cpu_seconds") * 1e6,
        "stub_cpu_us": per_message("stub_cpu_seconds") * 1e6,
        "start_cpu_seconds": start("cpu_seconds"),
        "start_wall_seconds": start("wall_seconds"),
        **{calls: per_message(calls) for calls in ("receives", "deletes", "extends")},
    }


def ratios(
    part: dict[str, Any], compared: Mapping[str, tuple[str, str, str]]
) -> dict[str, paired_runs.Spread]:
    """Return the ratios of CPU per message, by key."""
    cpu = {name: [_slope(turn)["cpu_us"] for turn in part["runs"][name]] for name in part["runs"]}
    return {
        key: paired_runs.ratio(cpu[program], cpu[other])
        for key, (program, other, _) in compared.items()
    }


METHOD = """\
Each program drains a queue of {sizes}.
The cost per message is the difference of the two, divided by the difference in messages, so that
neither the start of Python nor the idle time counts. CPU is the user and system time of the program
and all its children, as the kernel counts it. The database and the stub queue are separate servers
and have their own columns."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    copy_cpu = f"{COPY}, all of its CPU per message, µs (`{COPY_CPU}`); the bare loop took "
    copy_cpu += markdown.shown(part["table"][BARE]["cpu_us"], 0)
    cpu_row = [copy_cpu, markdown.shown(part["ratios"][COPY_CPU], 0), COPY_CPU_TARGET]
    return [
        METHOD.format(sizes=sizes(part)),
        "",
        *table(part),
        "",
        *markdown.table(
            ["ratio of CPU per message", "measured", "target"],
            [*ratio_rows(part, RATIOS), cpu_row],
        ),
        "",
        "![CPU per message](drain.png)",
    ]


def sizes(part: dict[str, Any]) -> str:
    """Return how many messages the programs drained, and which of them drained fewer."""
    few, many = part["messages"]
    fewer = []
    for name, turns in part["runs"].items():
        drained = [turns[0][size]["messages"] for size in ("many", "few")]
        if drained != [many, few]:
            fewer.append(f"{name}: {drained[0]:,} and {drained[1]:,}")
    shown = f" ({'; '.join(fewer)})" if fewer else ""
    return f"{many:,} messages and one of {few:,}{shown}"


def table(part: dict[str, Any]) -> list[str]:
    """Return the table of the programs as lines of Markdown."""
    heads = [
        "program",
        "CPU, µs per message",
        "wall time, µs per message",
        "database, CPU µs",
        "stub, CPU µs",
        "start, CPU s",
    ]
    return markdown.table(heads, [[name, *_cells(row)] for name, row in part["table"].items()])


def ratio_rows(
    part: dict[str, Any], compared: Mapping[str, tuple[str, str, str]]
) -> list[list[str]]:
    """Return a row for each ratio: what is compared, the ratio and its target."""
    return [
        [f"{program} / {other} (`{key}`)", markdown.shown(part["ratios"][key]), target]
        for key, (program, other, target) in compared.items()
    ]


def _cells(row: dict[str, paired_runs.Spread]) -> list[str]:
    return [
        markdown.shown(row["cpu_us"], 0),
        markdown.shown(row["wall_us"], 0),
        f"{row['database_cpu_us']['median']:.0f}",
        f"{row['stub_cpu_us']['median']:.0f}",
        f"{row['start_cpu_seconds']['median']:.2f}",
    ]
