"""What ``etl check-config`` has found, as tables and as JSON: no value of a masked column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from etl.config import Settings
from etl.operations.check_sample import Event, Trial, columns_with_counts
from etl.quarantine import reasons
from etl.terminal import lines, output
from etl.text import counted


def headline(name: str, settings: Settings) -> str:
    """One line about a valid configuration."""
    columns = settings.table.columns
    masked = sum(column.hides_value for column in columns)
    return (
        f"{name} is valid: table {settings.table.full_name}, {counted(len(columns), 'column')}, "
        f"{masked:,} of them masked"
    )


def show(settings: Settings, trial: Trial, limit: int, *, wide: bool) -> None:
    """Print the columns, what would load, what would not and why, and the totals."""
    import pandas as pd

    columns = columns_with_counts(settings, trial)
    for name in ("masked", "nullable"):
        columns[name] = ["yes" if is_so else "" for is_so in columns[name]]
    columns = columns.drop(columns="looks")
    printed = [output.frame(columns, "columns", wide=wide)]
    good = [event for event in trial.events if event.would_load]
    if good:
        names = [column.name for column in settings.table.columns]
        rows = pd.DataFrame(
            [[event.place, *(event.row or {}).values()] for event in good[:limit]],
            columns=["", *names],
            dtype=object,
        )
        printed.append(output.frame(rows, "what would load", wide=wide))
    bad = [event for event in trial.events if event.row is None]
    if bad:
        faults = pd.DataFrame(
            {
                "": [event.place for event in bad[:limit]],
                "failed checks": [_faults(event) for event in bad[:limit]],
            },
            dtype=object,
        )
        printed.append(output.frame(faults, "what would be quarantined", wide=wide))
    for name, why in trial.looks.items():
        lines.line(
            f"column {name!r} is not masked, and looks personal: {why}; its values are not shown"
        )
    for text in _totals(trial, max(len(good), len(bad)) > limit):
        lines.line(text)
    output.say_what_is_missing(printed)


def _faults(event: Event) -> list[dict[str, str]]:
    return [{"column": column, "check": check} for column, check in event.failed]


def _totals(trial: Trial, is_cut: bool) -> Iterator[str]:
    for reason, count in reasons(trial.findings.checks).items():
        yield f"{count:>6,}  {reason}"
    for note, count in reasons(trial.findings.notes).items():
        yield f"{count:>6,}  {note} (changed or warned of, and not rejected)"
    for name, count in trial.findings.unknown_fields.most_common():
        what = f"the field {name!r}" if name else "a field whose name is not shown"
        yield f"{count:>6,}  no column reads {what}"
    if trial.repeated:
        yield f"{trial.repeated:,} would be skipped: the ledger key is that of an earlier event"
    if trial.pointers:
        yield f"{counted(trial.pointers, 'pointer')} to S3, not followed"
    yield (
        f"{trial.loaded:,} of {len(trial.events):,} events would load; {trial.quarantined:,} would "
        "be quarantined"
    )
    if is_cut:
        yield "some are not shown; --limit shows more, --json all"


def as_json(settings: Settings, trial: Trial) -> dict[str, Any]:
    """What was found as ``check-config --json`` prints it."""
    return {
        "messages": trial.messages,
        "pointers": trial.pointers,
        "events": len(trial.events),
        "would_load": trial.loaded,
        "would_quarantine": trial.quarantined,
        "repeated": trial.repeated,
        "columns": columns_with_counts(settings, trial).to_dict(orient="records"),
        "reasons": reasons(trial.findings.checks),
        "notes": reasons(trial.findings.notes),
        "unknown_fields": [
            {"name": name, "messages": count}
            for name, count in trial.findings.unknown_fields.most_common()
        ],
        "outcomes": [
            {"place": event.place, "row": event.row, "failed": _faults(event)}
            | ({"repeated": True} if event.is_repeated else {})
            for event in trial.events
        ],
    }
