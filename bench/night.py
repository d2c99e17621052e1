"""What a night costs: the measured cost of a message, times the messages of a night."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import drain, drain_15ms, markdown

NIGHTS = (1_000_000, 100_000_000)
NOT_MEASURED = "not measured"

Parts = dict[str, Any]
Number = float | None  # None: not measured

INTRODUCTION = """\
## What a night costs

The cost of a message times N, plus the start, from the medians below. One worker, unless the line
says otherwise; `copy` and `multi` are the settings of `load.method`, and `multi` is the default.
"""

ASSUMPTIONS = """\
* The cost of a message comes from runs of up to {longest:,}; the rest is multiplication.
* Every receive brought ten messages. SQS often gives fewer, above all from a short queue; then
  there are more receives, and they take more CPU. A call extends the visibility of ten messages
  that have been held for half of the visibility timeout; in these runs hardly any were. A run makes
  a few dozen more calls at its start and while it waits for the queue to stay empty.
* The times for 15 ms a call are at the pace of a run of 10,000 messages, whose first batches are
  small.
* Peak memory does not depend on the number of messages (`memory`).
* Not measured: the network to AWS, the throttling of SQS, a database on disks that are waited for
  (fsync), a connection to it over TLS or from afar, a ledger of a hundred million ids (`load`
  shows ten million), and several machines. SQS bills by the call; no price is given here.
"""


def lines(measured: dict[str, Any]) -> list[str]:
    """Return the section as lines of Markdown, or nothing if no queue was drained."""
    parts: Parts = measured["parts"]
    if "drain" not in parts:
        return []
    heads = ["a night of", *(f"{night:,} messages" for night in NIGHTS)]
    rows = [[label, *(cell(night) for night in NIGHTS)] for label, cell in _rows(parts).items()]
    longest = max(parts["drain"]["messages"])
    return [
        INTRODUCTION,
        *markdown.table(heads, rows),
        "",
        ASSUMPTIONS.format(longest=longest),
    ]


def sentence(measured: dict[str, Any]) -> str:
    """Return the line of the README."""
    parts: Parts = measured["parts"]
    part, over = ("drain_tls", "TLS") if "drain_tls" in parts else ("drain", "plain HTTP")
    million = NIGHTS[0]
    costs = [
        f"{_duration(_cpu(parts, part, drain.COPY, million))} of CPU over {over}",
        f"{_mib(_peak_mb(parts))} of memory",
    ]
    if (seconds := wall_at_15_ms(parts, million)) is not None:
        costs.append(f"{_duration(seconds)} at 15 ms a call to SQS")
    shown = f"{', '.join(costs[:-1])} and {costs[-1]}"
    return f"A night of a million messages costs {shown}: [`bench/RESULTS.md`](bench/RESULTS.md)."


def _rows(parts: Parts) -> dict[str, Callable[[int], str]]:
    """Return what is in each row, by its label."""

    def cpu(part: str, program: str) -> Callable[[int], str]:
        return lambda night: _duration(_cpu(parts, part, program, night))

    def wall(program: str) -> Callable[[int], str]:
        return lambda night: _duration(
            _times(parts, "drain", program, "wall_us", "start_wall_seconds", night)
        )

    def calls(name: str) -> Callable[[int], str]:
        return lambda night: _count(_of_drain(parts, "drain", drain.COPY, name), night)

    return {
        "CPU of the job, `copy`, over TLS": cpu("drain_tls", drain.COPY),
        "CPU of the job, `copy`, over plain HTTP": cpu("drain", drain.COPY),
        "CPU of the job, `multi`, over plain HTTP": cpu("drain", drain.MULTI),
        "CPU of the database, `copy`": lambda night: _duration(
            _times(parts, "drain", drain.COPY, "database_cpu_us", None, night)
        ),
        "wall time if SQS answers in 15 ms, `multi`": lambda night: _duration(
            wall_at_15_ms(parts, night)
        ),
        "wall time if SQS answers at once, `copy`": wall(drain.COPY),
        "wall time if SQS answers at once, `copy`, 2 workers": wall(drain.TWO),
        "peak memory, `multi`": lambda _: _mib(_peak_mb(parts)),
        "peak memory that a second worker adds": lambda _: _mib(_second_worker_mb(parts)),
        "calls to SQS: receive": calls("receives"),
        "calls to SQS: delete": calls("deletes"),
        "calls to SQS: extend the visibility": calls("extends"),
    }


def _of_drain(parts: Parts, part: str, program: str, cost: str) -> Number:
    row = parts.get(part, {}).get("table", {}).get(program, {})
    return float(row[cost]["median"]) if cost in row else None


def _cpu(parts: Parts, part: str, program: str, night: int) -> Number:
    return _times(parts, part, program, "cpu_us", "start_cpu_seconds", night)


def _times(
    parts: Parts, part: str, program: str, cost_us: str, start: str | None, night: int
) -> Number:
    """Return the seconds of a night: the cost of its messages and the start."""
    us = _of_drain(parts, part, program, cost_us)
    start_seconds = _of_drain(parts, part, program, start) if start else 0.0
    if us is None or start_seconds is None:
        return None
    return start_seconds + night * us / 1e6


def wall_at_15_ms(parts: Parts, night: int) -> Number:
    """Return the seconds of a night at 15 ms a call to SQS."""
    if "drain_15ms" not in parts:
        return None
    part = parts["drain_15ms"]
    work = float(part["work_seconds"]["median"])
    beside_it = float(part["ratios"][drain_15ms.WALL]["median"]) - work
    return beside_it + work / int(part["messages"]) * night


def _peak_mb(parts: Parts) -> Number:
    return float(parts["memory"]["table"]["big"]["median"]) if "memory" in parts else None


def _second_worker_mb(parts: Parts) -> Number:
    spread = parts.get("start", {}).get("ratios", {}).get("start.second_worker_mib")
    return float(spread["median"]) if spread else None


def _duration(seconds: Number) -> str:
    if seconds is None:
        return NOT_MEASURED
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _mib(mb: Number) -> str:
    return NOT_MEASURED if mb is None else f"{mb:.0f} MiB"


def _count(per_message: Number, night: int) -> str:
    # To three digits, because a call more or less in a run is chance.
    return NOT_MEASURED if per_message is None else f"{round(per_message, 3) * night:,.0f}"
