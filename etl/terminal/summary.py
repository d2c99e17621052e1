"""The end of a run in words: what became of its messages, how fast, and what to do next."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from etl.errors import BatchRefused
from etl.logs import visible
from etl.postgres.event_counts import EventCounts
from etl.runs import Counts, Summary
from etl.terminal import output
from etl.terminal.cells import SHORT_ID
from etl.terminal.run_page import conflicts
from etl.text import counted

MIN_SECONDS = 0.05  # of the time for checks that is worth naming


def print_summary(result: Summary) -> None:
    """Print how a run ended: its counts, its speed, the reasons for rejects, and what to do."""
    out = output.console()
    # A dry run has no id, since it has no row in etl.runs.
    what = "dry run" if result.would else f"run {result.run_id}"
    ended = f" stopped: {result.stop_reason}, after {result.seconds:,.1f} s"
    out.print(Text.assemble((what, "bold"), ended))
    if result.problem:
        out.print(Text.assemble(("problem:", "bold red"), f" {visible(result.problem)}"))
    _print_counts(out, result.counts)
    if result.events and not result.would:
        out.print(Text(f"  {events_text(result.events)}"))
    for line in _facts(result):
        out.print(Text(f"  {line}"))
    _print_table(out, result.reasons, "failed check", "failed checks; a message may fail several")
    _print_table(out, result.notes, "note", "changed or warned of, and not rejected")
    if advice := next_step(result):
        out.print(Text.assemble(("next:", "bold"), f" {advice}"))


def _print_table(out: Console, messages: dict[str, int], what: str, title: str) -> None:
    if messages:
        import pandas as pd

        named = pd.Series(list(messages), dtype=object)
        out.print()
        output.frame(pd.DataFrame({what: named, "messages": list(messages.values())}), title)


def _print_counts(out: Console, counts: Counts) -> None:
    names = ("received", "loaded", "already_handled", "quarantined", "released")
    width = max(len(f"{counts.received:,}"), 8)
    for sign, name in zip(" =+++", names, strict=True):
        out.print(f"  {sign} {name.replace('_', ' '):<16}{getattr(counts, name):>{width},}")
    if not counts.adds_up:
        gap = counts.received - counts.accounted
        out.print(Text(f"  != this does not add up: {gap:,} too few are accounted for", "bold red"))


def events_text(events: EventCounts) -> str:
    """What became of the events of split messages."""
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (events.loaded, "loaded"),
            (events.already_handled, "already handled"),
            (events.quarantined, "quarantined"),
        )
        if count
    ]
    if events.empty_messages:
        parts.append(f"no event in {events.empty_messages:,} of the messages")
    return f"events: {', '.join(parts)}"


def _facts(result: Summary) -> Iterator[str]:
    """What else there is to know, a sentence each."""
    if result.would:
        would = result.would
        yield f"would load {would.loaded:,} and quarantine {would.quarantined:,}"
        if events := result.events:
            yield f"of the events, {events.loaded:,} would load, {events.quarantined:,} would not"
    if result.counts.updated or result.counts.skipped:
        yield conflicts(result.counts.updated, result.counts.skipped)
    yield speed(result)
    others = result.seconds - result.work_seconds - result.waiting_seconds
    if others >= MIN_SECONDS:
        yield f"{others:,.1f} s for checks before and after"
    if result.not_acknowledged:
        yield (
            f"could not delete {counted(result.not_acknowledged, 'handled message')} from the "
            "queue; SQS will deliver what is left again"
        )
    if result.receive_count and result.max_receive_count:
        yield (
            f"this look is receive {result.receive_count} of {result.max_receive_count} for "
            "these messages; after the last one SQS moves them to the dead-letter queue"
        )
    dead = result.dead_letters
    if dead and dead.messages:
        yield visible(f"dead-letter queue {dead.queue} holds {counted(dead.messages, 'message')}")
    left = result.left
    if left is not None:
        if left.visible + left.in_flight + left.delayed:
            yield (
                f"left in the queue: {left.visible:,} visible, {left.in_flight:,} in flight "
                f"elsewhere, {left.delayed:,} delayed"
            )
        else:
            yield "left in the queue: nothing"


def speed(result: Summary) -> str:
    """How fast a run was while it had work, and how long it waited for messages."""
    work = result.work_seconds
    parts = []
    if result.counts.received:
        rate = f": {result.counts.received / work:,.0f}/s" if work else ""
        parts.append(f"{counted(result.counts.received, 'message')} in {work:,.1f} s of work{rate}")
    if result.waiting_seconds >= MIN_SECONDS:
        parts.append(f"{result.waiting_seconds:,.1f} s waiting for messages")
    return "; ".join(parts) or "no messages"


def next_step(result: Summary) -> str | None:
    """What a person does after a run in which something went wrong; None if nothing did."""
    page = f"see: etl history {result.run_id[:SHORT_ID]}" if result.run_id else ""
    if result.exit_code == 3 and result.stop_reason != BatchRefused.stop_reason:
        return f"look at what was refused: etl quarantine list --samples; {page}"
    if result.exit_code or result.problem:
        return f"correct the problem and start again, nothing is lost; {page}".removesuffix("; ")
    # A message counts as loaded if one of its events is. Of a dry run, nothing is in quarantine.
    if result.would is None and (result.counts.quarantined or result.events.quarantined):
        return "look at the rejects: etl quarantine list"
    return None
