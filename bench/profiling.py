"""Where the CPU of a run goes, stage by stage."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options
from bench.stage_times import REST_OF_CALL, STAGES, WITHIN

MESSAGES, QUICK_MESSAGES = 50_000, 500
REST = "rest (threads, batches, commit, ...)"
METHODS = ("copy", "multi")


def measure(options: Options) -> dict[str, Any]:
    """Run the job with a clock around its stages, for both methods in turns."""
    count = options.messages or (QUICK_MESSAGES if options.quick else MESSAGES)
    with services.opened(count) as here:
        candidates = {
            method: partial(
                services.consume, here, processes.python("-m", "bench.stage_times"), count,
                {"ETL_LOAD__METHOD": method},
            )
            for method in METHODS
        }  # fmt: skip
        runs = paired_runs.in_turns(candidates, options.runs)
    missing = runs[METHODS[0]][0]["reported"]["missing"]
    return {
        "labels": {
            options.label: {
                "messages": count,
                "missing": missing,
                "table": {method: _table(own, count) for method, own in runs.items()},
                "runs": runs,
            }
        },
        "ratios": {},
    }


def _table(runs: list[dict[str, Any]], count: int) -> dict[str, paired_runs.Spread]:
    """Microseconds a message by stage; calls to SQS by their steps."""
    tables = [_lines(run["reported"], count) for run in runs]
    return {line: paired_runs.spread([table[line] for table in tables]) for line in tables[0]}


def _lines(reported: dict[str, Any], count: int) -> dict[str, float]:
    seconds = {(stage, step): value for stage, step, value in reported["seconds"]}
    us: dict[str, float] = {}
    for stage, _ in STAGES:
        own = {step: value for (name, step), value in seconds.items() if name == stage}
        us[stage] = sum(own.values()) / count * 1e6
        steps = [step for step, _ in WITHIN if step in own]
        for step in steps:
            us[f"{stage}: {step}"] = own[step] / count * 1e6
        if steps:
            us[f"{stage}: {REST_OF_CALL}"] = own.get("", 0.0) / count * 1e6
    all_us = reported["cpu_seconds"] / count * 1e6
    us[REST] = all_us - sum(us[stage] for stage, _ in STAGES)
    us["all"] = all_us
    return us


METHOD = """\
One run in one process with a clock of each thread's CPU around the stages: its start and its end
are in it, its imports are not. The clock itself costs a few microseconds a message. The steps of a
call to SQS are part of the stage above them. Medians, CPU in µs a message."""


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown: a column for each label and method."""
    labels = part["labels"]
    columns = {
        f"{method}, {label}": own["table"][method]
        for label, own in labels.items()
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
    for label, own in labels.items():
        if own["missing"]:
            lines += ["", f"Not found ({label}): {', '.join(own['missing'])}."]
    return lines


def _cell(spread: paired_runs.Spread | None) -> str:
    return f"{spread['median']:.1f}" if spread else "-"


def _title(name: str) -> str:
    """Indent a step."""
    if name in {stage for stage, _ in STAGES} | {REST, "all"}:
        return name
    return f"&nbsp;&nbsp;{name.partition(': ')[2]}"


def _place(name: str) -> tuple[int, int]:
    """Order of the lines: as STAGES and WITHIN have them, then the rest and the sum."""
    stages, steps = [stage for stage, _ in STAGES], [step for step, _ in WITHIN]
    for number, stage in enumerate(stages):
        if name == stage:
            return number, -1
        if name.startswith(f"{stage}: "):
            step = name.removeprefix(f"{stage}: ")
            return number, steps.index(step) if step in steps else len(steps)
    return len(stages), int(name == "all")
