"""What ``etl check-config`` has found, as tables and as JSON: no value of a masked column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from etl.config import Settings
from etl.operations.check_sample import Event, Trial, columns_with_counts
from etl.quarantine import reasons
from etl.terminal import lines, output
from etl.text import counted


def headline(name: str, settings: Settings) -> str:
    """One line about a valid configuration."""
    tables = settings.tables
    columns = [column for table in tables for column in table.columns]
    masked = sum(column.hides_value for column in columns)
    names = ", ".join(table.full_name for table in tables)
    what = f"table {names}" if len(tables) == 1 else f"{counted(len(tables), 'table')} ({names})"
    shown = counted(len(columns), "column")
    return f"{name} is valid: {what}, {shown}, {masked:,} of them masked"


def show(settings: Settings, trial: Trial, limit: int, *, wide: bool) -> None:
    """Print the columns, what would load, what would not and why, and the totals."""
    import pandas as pd

    printed = []
    has_several = len(settings.tables) > 1
    is_cut = False
    for table in settings.tables:
        before = f"{table.full_name}: " if has_several else ""
        columns = columns_with_counts(table, trial).drop(columns="looks")
        for name in ("masked", "nullable"):
            columns[name] = ["yes" if is_so else "" for is_so in columns[name]]
        printed.append(output.frame(columns, f"{before}columns", wide=wide))
        good = [e for e in trial.events if e.would_load and e.table == table.full_name]
        is_cut |= len(good) > limit
        if good:
            rows = pd.DataFrame(
                [[event.place, *(event.row or {}).values()] for event in good[:limit]],
                columns=["", *(column.name for column in table.columns)],
                dtype=object,
            )
            printed.append(output.frame(rows, f"{before}what would load", wide=wide))
    bad = [event for event in trial.events if event.row is None]
    if bad:
        of_tables = {"table": [event.table or "none" for event in bad[:limit]]}
        faults = pd.DataFrame(
            {
                "": [event.place for event in bad[:limit]],
                **(of_tables if has_several else {}),
                "failed checks": [_faults(event) for event in bad[:limit]],
            },
            dtype=object,
        )
        printed.append(output.frame(faults, "what would be quarantined", wide=wide))
    for (name, column), why in trial.looks.items():
        of_table = f" of {name}" if has_several else ""
        lines.line(
            f"column {column!r}{of_table} is not masked, and looks personal: {why}; its values are "
            "not shown"
        )
    for text in _totals(settings, trial, is_cut or len(bad) > limit):
        lines.line(text)
    output.say_what_is_missing(printed)


def _faults(event: Event) -> list[dict[str, str]]:
    return [{"column": column, "check": check} for column, check in event.failed]


def _totals(settings: Settings, trial: Trial, is_cut: bool) -> Iterator[str]:
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
    counts = Counter(event.table for event in trial.events if event.would_load)
    for table in settings.tables if len(settings.tables) > 1 else ():
        yield f"{counts[table.full_name]:>6,}  would load into {table.full_name}"
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
        "columns": [
            {"table": table.full_name, **column}
            for table in settings.tables
            for column in columns_with_counts(table, trial).to_dict(orient="records")
        ],
        "reasons": reasons(trial.findings.checks),
        "notes": reasons(trial.findings.notes),
        "unknown_fields": [
            {"name": name, "messages": count}
            for name, count in trial.findings.unknown_fields.most_common()
        ],
        "outcomes": [
            {
                "place": event.place,
                "table": event.table,
                "row": event.row,
                "failed": _faults(event),
            }
            | ({"repeated": True} if event.is_repeated else {})
            for event in trial.events
        ],
    }
