"""One run on one page, for ``etl history RUN``: lines that fit a terminal of 80 columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Any

from etl.analysis.history import FINISHED, KILLED, RunRecord
from etl.terminal import lines
from etl.terminal.next_steps import next_steps, words
from etl.terminal.wrapping import limited_width, wrapped
from etl.text import counted

_LABEL = 12  # characters of the labels on the left


def show(run: RunRecord) -> None:
    """Print the page of a run."""
    for text in page(run, limited_width()):
        lines.line(text)


def as_json(run: RunRecord) -> dict[str, Any]:
    """The page as ``history RUN --json`` prints it."""
    steps = [{"text": step.text, "command": step.command} for step in next_steps(run)]
    return {**run.as_dict(), "stopped_because": words(run), "next": steps}


def page(run: RunRecord, width: int = 80) -> Iterator[str]:
    """The lines of a run's page.

    :param width: of the lines, in cells of a terminal, as long as no single word is longer
    """
    yield f"run {run.run_id}"
    for label, text in _facts(run):
        yield from _labelled(label, text, width)
    yield from _counts(run)
    yield from _section("failed checks", map(_check, run.failed_checks), width)
    yield from _section("changed or warned of, and not rejected", map(_note, run.notes), width)
    yield from _section("fields that no column reads", map(_unknown, run.unknown_fields), width)
    if run.quarantine:
        states = (f"{count:>11,}  {state}" for state, count in run.quarantine.items())
        yield from _section("what it put into the quarantine", states, width)
    steps = next_steps(run)
    if steps:
        yield ""
        yield "next"
    for step in steps:
        yield from wrapped(step.text, width, "  * ", "    ")
        if step.command:
            yield f"      {step.command}"  # in one line, to be copied


def _facts(run: RunRecord) -> Iterator[tuple[str, str]]:
    yield "job", run.job
    yield "command", f"{run.command}, version {run.version}, on {run.host}"
    yield "started", _time(run.started_at)
    yield "state", state_text(run)
    if run.finished_at is not None:
        yield "finished", f"{_time(run.finished_at)}, after {duration(run.seconds or 0.0)}"
        yield "stopped", f"{words(run) or 'not known why'}{_exit_code(run)}"
    if run.problem:
        yield "problem", run.problem


def _exit_code(run: RunRecord) -> str:
    return "" if run.exit_code is None else f" (exit code {run.exit_code})"


def state_text(run: RunRecord) -> str:
    """The state in words: when the last sign of life was, unless the run has finished."""
    if run.state == FINISHED:
        return run.state
    if run.seen_at is None or run.seconds_since_seen is None:
        return f"{run.state} (no sign of life: of an earlier version)"
    ago = duration(round(run.seconds_since_seen))
    if run.state == KILLED:
        return f"{run.state} (last seen {_time(run.seen_at)}, {ago} ago)"
    return f"{run.state} (seen {ago} ago)"


def duration(seconds: float) -> str:
    """A length of time with its two largest units; a short one with tenths, unless it is an int."""
    if isinstance(seconds, float) and seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min {rest} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


def _time(time: dt.datetime) -> str:
    return f"{time.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _counts(run: RunRecord) -> Iterator[str]:
    accounted = run.loaded + run.already_handled + run.quarantined + run.released
    sign = "=" if run.received == accounted else "!="
    batches = counted(run.batches, "batch", "batches")
    yield ""
    yield f"    received         {run.received:>11,}   in {batches}"
    yield f"{sign:>3} loaded           {run.loaded:>11,}"
    yield f"  + already handled  {run.already_handled:>11,}"
    yield f"  + quarantined      {run.quarantined:>11,}"
    yield f"  + released         {run.released:>11,}"
    if run.updated or run.skipped:
        yield f"    {conflicts(run.updated, run.skipped)}"
    if run.has_events:
        yield from _events(run)


def conflicts(updated: int, skipped: int) -> str:
    """What became of the loaded events whose key was in the table, or twice in a batch."""
    return f"of the loaded: {updated:,} updated a row, {skipped:,} skipped"


def _events(run: RunRecord) -> Iterator[str]:
    events = run.events_loaded + run.events_already_handled + run.events_quarantined
    yield ""
    empty = "" if (n := run.empty_messages) == 0 else f"   and {counted(n, 'message')} without one"
    yield f"    events           {events:>11,}{empty}"
    yield f"  = loaded           {run.events_loaded:>11,}"
    yield f"  + already handled  {run.events_already_handled:>11,}"
    yield f"  + quarantined      {run.events_quarantined:>11,}"


def _check(check: dict[str, Any]) -> str:
    released = f" ({check['released']:,} of them released)" if check["released"] else ""
    return f"{check['messages']:>11,}  {check['column']}: {check['check']}{released}"


def _note(note: dict[str, Any]) -> str:
    return f"{note['messages']:>11,}  {note['column']}: {note['note']}"


def _unknown(unknown: dict[str, Any]) -> str:
    name = unknown["name"] or "(rare names, and names that may be personal: not kept)"
    return f"{unknown['messages']:>11,}  {name}"


def _section(title: str, rows: Iterable[str], width: int) -> Iterator[str]:
    for number, row in enumerate(rows):
        if not number:
            yield ""
            yield title
        yield from wrapped(row, width, "", " " * 13)


def _labelled(label: str, text: str, width: int) -> Iterator[str]:
    yield from wrapped(text, width, f"  {label:<{_LABEL - 2}}", " " * _LABEL)
