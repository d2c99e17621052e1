"""Time until the help stands there."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes
from bench.services import Options

RUNS = 11  # at least: a start is short, and its noise large beside it

HELP, IMPORTS = "python -m etl --help", 'python -c "import yaml, click"'
TARGET = "≤ 3"


def measure(options: Options) -> dict[str, Any]:
    """Start both in turns."""
    candidates = {
        HELP: partial(_wall, "-m", "etl", "--help"),
        IMPORTS: partial(_wall, "-c", "import yaml, click"),
    }
    for warm_up in candidates.values():
        warm_up()
    runs = paired_runs.in_turns(candidates, 3 if options.quick else max(options.runs, RUNS))
    return {
        "ratios": {"start.help_over_imports": paired_runs.ratio(runs[HELP], runs[IMPORTS])},
        "table": {name: paired_runs.spread(own) for name, own in runs.items()},
        "runs": runs,
    }


def _wall(*arguments: str) -> float:
    return processes.run(processes.python(*arguments)).wall_seconds


def show(part: dict[str, Any]) -> list[str]:
    """The part in Markdown."""
    ratio = markdown.shown(part["ratios"]["start.help_over_imports"])
    return markdown.table(
        ["command", "wall, ms"],
        [
            *(
                [f"`{name}`", markdown.shown(own, 0, times=1000)]
                for name, own in part["table"].items()
            ),
            [f"ratio (`start.help_over_imports`), target {TARGET}", ratio],
        ],
    )
