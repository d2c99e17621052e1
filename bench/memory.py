"""Peak memory of a run, which should not depend on the number and size of the messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import markdown, paired_runs, processes, services
from bench.services import Options, Services

MAX_MB_TARGET = "< 350"
RATIO_TARGET = "≤ 1.1"
LARGE_BYTES = 200_000


@dataclass(frozen=True)
class Case:
    """One queue to drain: the number and size of its messages, and the load method."""

    name: str
    messages: int
    body_bytes: int = 0
    method: str = "multi"

    @property
    def what(self) -> str:
        """A short description of the case."""
        size = f" of {self.body_bytes // 1000} KB" if self.body_bytes else ""
        method = "" if self.method == "multi" else f", method {self.method}"
        return f"{self.messages:,} messages{size}{method}"


def cases(options: Options) -> list[Case]:
    """Return the cases; ``--messages`` sets the small one, and the big one is ten times as long."""
    small = options.messages or (500 if options.quick else 50_000)
    return [
        Case("small", small),
        Case("big", 10 * small),
        Case("large", 100 if options.quick else 10_000, LARGE_BYTES),
        Case("copy", small, method="copy"),
    ]


def measure(options: Options) -> dict[str, Any]:
    """Drain the queue of each case in turns."""
    chosen = cases(options)
    with services.start(max(case.messages for case in chosen)) as running:
        candidates: dict[str, Callable[[], float]] = {
            case.name: partial(_peak_mb, running, case) for case in chosen
        }
        runs = paired_runs.in_turns(candidates, options.runs)
    table = {
        case.name: {"what": case.what, **paired_runs.spread(runs[case.name])} for case in chosen
    }
    default = [paired_runs.spread(runs[name]) for name in ("small", "big", "large")]
    return {
        "ratios": {
            "memory.big_over_small": paired_runs.ratio(runs["big"], runs["small"]),
            "memory.peak_mb": max(default, key=lambda spread: spread["median"]),
        },
        "table": table,
        "runs": runs,
    }


def _peak_mb(running: Services, case: Case) -> float:
    command = processes.python("-m", "etl", "run", "--idle-seconds", "1", "--json")
    variables = {"ETL_LOAD__METHOD": case.method}
    cost = services.consume(
        running, command, case.messages, variables, body_bytes=case.body_bytes, memory=True
    )
    return float(cost["peak_mb"])


METHOD = """\
Peak of the resident memory of `etl run`, as the kernel records it. Settings are the defaults,
except where the table says otherwise."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    table = part["table"]
    ratios = part["ratios"]
    big_over_small = f"{table['big']['what']} / {table['small']['what']}"
    return [
        METHOD,
        "",
        *markdown.table(
            ["queue", "peak, MiB"],
            [[row["what"], markdown.shown(row, 0)] for row in table.values()],
        ),
        "",
        *markdown.table(
            ["key", "measured", "target"],
            [
                [
                    f"{big_over_small} (`memory.big_over_small`)",
                    markdown.shown(ratios["memory.big_over_small"]),
                    RATIO_TARGET,
                ],
                [
                    "the highest peak of the first three queues, MiB (`memory.peak_mb`)",
                    markdown.shown(ratios["memory.peak_mb"], 0),
                    MAX_MB_TARGET,
                ],
            ],
        ),
    ]
