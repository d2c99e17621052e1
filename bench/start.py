"""Time until the help is printed."""

from __future__ import annotations

from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes
from bench.services import Options

MIN_RUNS = 11  # more than elsewhere, because a start is short and its noise relatively large

HELP = "python -m etl --help"
IMPORTS = 'python -c "import yaml, click"'
TARGET = "≤ 3"


def measure(options: Options) -> dict[str, Any]:
    """Start both programs in turns."""
    candidates = {
        HELP: partial(_wall, "-m", "etl", "--help"),
        IMPORTS: partial(_wall, "-c", "import yaml, click"),
    }
    for warm_up in candidates.values():
        warm_up()
    runs = paired_runs.in_turns(candidates, 3 if options.quick else max(options.runs, MIN_RUNS))
    return {
        "ratios": {"start.help_over_imports": paired_runs.ratio(runs[HELP], runs[IMPORTS])},
        "table": {name: paired_runs.spread(seconds) for name, seconds in runs.items()},
        "runs": runs,
    }


def _wall(*arguments: str) -> float:
    return processes.run(processes.python(*arguments)).wall_seconds


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    ratio = markdown.shown(part["ratios"]["start.help_over_imports"])
    return markdown.table(
        ["command", "wall time, ms"],
        [
            *(
                [f"`{name}`", markdown.shown(seconds, 0, times=1000)]
                for name, seconds in part["table"].items()
            ),
            [f"ratio (`start.help_over_imports`), target {TARGET}", ratio],
        ],
    )
