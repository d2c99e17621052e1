"""Messages released per second after SIGTERM, compared with messages deleted per second."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from bench import markdown, messages, paired_runs, processes
from bench.services import Options, WorkNotDone
from bench.stub import Network, Stub

QUICK_MESSAGES = 200
# Messages by the milliseconds that SQS takes to answer. What is held for 15 s is extended, and
# those calls would compete with the measured ones: so they are fewer where receiving takes longer.
MESSAGES = {0: 30_000, 15: 10_000}

DELETE = "delete"
RELEASE = "release"
KEY = "release.messages_per_second"
TARGET = "≥ 0.8"


def measure(options: Options) -> dict[str, Any]:
    """Delete and release the same number of messages in turns."""
    counts = {
        answer_ms: options.messages or (QUICK_MESSAGES if options.quick else count)
        for answer_ms, count in MESSAGES.items()
    }
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bodies = Path(folder, "bodies")
        messages.write_bodies(bodies, max(counts.values()))
        candidates = {
            f"{way}, {answer_ms} ms": partial(_rate, bodies, way, count, answer_ms)
            for answer_ms, count in counts.items()
            for way in (DELETE, RELEASE)
        }
        runs = paired_runs.in_turns(candidates, options.runs)
    table: list[dict[str, Any]] = []
    for answer_ms, count in counts.items():
        deletes, releases = (runs[f"{way}, {answer_ms} ms"] for way in (DELETE, RELEASE))
        table.append(
            {
                "answer_ms": answer_ms,
                "messages": count,
                DELETE: paired_runs.spread(deletes),
                RELEASE: paired_runs.spread(releases),
                "ratio": paired_runs.ratio(releases, deletes),
            }
        )
    lower = min((row["ratio"] for row in table), key=lambda ratio: ratio["median"])
    return {"ratios": {KEY: lower}, "table": table, "runs": runs}


def _rate(bodies: Path, way: str, count: int, answer_ms: int) -> float:
    """Return how many messages a second were deleted or released.

    :raises WorkNotDone: the queue counted other ones
    """
    with Stub(bodies, count, Network(answer_ms=answer_ms)) as stub:
        command = processes.python("-m", "bench.settle", way, str(count))
        output = processes.run(command, stub.environment).output
        counts = stub.counts()
    settled = counts["deleted" if way == DELETE else "released"]
    if settled != count:
        raise WorkNotDone(f"{way}: {settled} of {count} messages")
    return float(count / json.loads(output)["seconds"])


METHOD = """\
The job's own consumer receives all messages into one batch. Then it deletes them, or it is stopped
as by SIGTERM and gives them back (`ChangeMessageVisibilityBatch` with a timeout of 0). The time is
that from the order until SQS has answered for the last message, and the stub counts what arrived.
`{key}` is the lower of the two ratios."""


def show(part: dict[str, Any]) -> list[str]:
    """Return the part as lines of Markdown."""
    return [
        METHOD.format(key=KEY),
        "",
        *markdown.table(
            [
                "SQS answers after",
                "messages",
                "deleted per second",
                "released per second",
                f"ratio, target {TARGET}",
            ],
            [
                [
                    f"{row['answer_ms']} ms",
                    f"{row['messages']:,}",
                    markdown.shown(row[DELETE], 0),
                    markdown.shown(row[RELEASE], 0),
                    markdown.shown(row["ratio"]),
                ]
                for row in part["table"]
            ],
        ),
    ]
