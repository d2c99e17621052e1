"""Where the CPU time of a run goes, stage by stage."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options
from bench.stage_times import REST_OF_CALL, STAGES, STEPS

MESSAGES, QUICK_MESSAGES = 50_000, 500
REST = "rest (threads, batches, commit, ...)"
METHODS = ("copy", "multi")


def measure(options: Options) -> dict[str, Any]:
    """Run the job with a clock around its stages, with both methods in turns."""
    count = options.messages or (QUICK_MESSAGES if options.quick else MESSAGES)
    command = processes.python("-m", "bench.stage_times")
    with services.start(count) as running:
        candidates = {
            method: partial(services.consume, running, command, count, {"ETL_LOAD__METHOD": method})
            for method in METHODS
        }
        runs = paired_runs.in_turns(candidates, options.runs)
    missing = runs[METHODS[0]][0]["reported"]["missing"]
    return {
        "labels": {
            options.label: {
                "messages": count,
                "missing": missing,
                "table": {method: _table(turns, count) for method, turns in runs.items()},
                "runs": runs,
            }
        },
        "ratios": {},
    }


def _table(turns: list[dict[str, Any]], count: int) -> dict[str, paired_runs.Spread]:
    """Return microseconds per message by stage, and for calls to SQS by step."""
    tables = [_lines(turn["reported"], count) for turn in turns]
    return {line: paired_runs.spread([table[line] for table in tables]) for line in tables[0]}


def _lines(reported: dict[str, Any], count: int) -> dict[str, float]:
    seconds = {(stage, step): value for stage, step, value in reported["seconds"]}
    us: dict[str, float] = {}
    for stage, _ in STAGES:
        by_step = {step: value for (name, step), value in seconds.items() if name == stage}
        us[stage] = sum(by_step.values()) / count * 1e6
        steps = [step for step, _ in STEPS if step in by_step]
        for step in steps:
            us[f"{stage}: {step}"] = by_step[step] / count * 1e6
        if steps:
            us[f"{stage}: {REST_OF_CALL}"] = by_step.get("", 0.0) / count * 1e6
    all_us = reported["cpu_seconds"] / count * 1e6
    us[REST] = all_us - sum(us[stage] for stage, _ in STAGES)
    us["all"] = all_us
    return us


METHOD = """\
One run in one process, with a clock around the stages that counts the CPU time of each thread. The
start and the end of the run are included, imports are not. The clock itself costs a few
microseconds per message. The steps of a call to SQS are part of the stage above them. Medians of
CPU time in µs per message."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown, with a column for each label and method."""
    labels = part["labels"]
    columns = {
        f"{method}, {label}": profile["table"][method]
        for label, profile in labels.items()
        for method in METHODS
    }
    names = sorted({name for table in columns.values() for name in table}, key=_place)
    lines = [
        METHOD,
        "",
        *markdown.table(
            ["stage", *columns],
            [
                [_title(name), *(_cell(table.get(name)) for table in columns.values())]
                for name in names
            ],
        ),
    ]
    for label, profile in labels.items():
        if profile["missing"]:
            lines += ["", f"Not found ({label}): {', '.join(profile['missing'])}."]
    return lines


def _cell(spread: paired_runs.Spread | None) -> str:
    return f"{spread['median']:.1f}" if spread else "-"


def _title(name: str) -> str:
    """Return the name of a stage, or the indented name of a step."""
    if name in {stage for stage, _ in STAGES} | {REST, "all"}:
        return name
    return f"&nbsp;&nbsp;{name.partition(': ')[2]}"


def _place(name: str) -> tuple[int, int]:
    """Return where a line belongs: in the order of STAGES and STEPS, then the rest and the sum."""
    stages = [stage for stage, _ in STAGES]
    steps = [step for step, _ in STEPS]
    for number, stage in enumerate(stages):
        if name == stage:
            return number, -1
        if name.startswith(f"{stage}: "):
            step = name.removeprefix(f"{stage}: ")
            return number, steps.index(step) if step in steps else len(steps)
    return len(stages), int(name == "all")
