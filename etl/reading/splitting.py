"""Finds the texts of the events in the text of a message."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from etl.config import PathSplit, Settings
from etl.reading.spans import Span, document, find, items, members
from etl.reading.unreadable import Unreadable

CHECKS = ("list of events", "number of events", "S3 notification")

Split = Callable[[str], list[str]]


def splitting(settings: Settings) -> Split | None:
    """Make the function that splits a text; None if a message is one event.

    It raises ``Unreadable`` for a text that cannot be split in this way.
    """
    split = settings.event.split
    if "s3" in settings.queue.layers:
        return partial(_records, settings.event.max_events)
    if split == "array":
        return partial(_array, settings.event.max_events)
    if split == "lines":
        return partial(_lines, settings.event.max_events)
    if isinstance(split, PathSplit):
        return partial(_list, split, settings.event.max_events, settings.event.max_bytes)
    return None


def _records(max_events: int, text: str) -> list[str]:
    """The records of a notification of S3, which has none when S3 only tries the queue."""
    notification = members(text, document(text)) or {}
    if (records := notification.get("Records")) is not None:
        return _items(text, records, max_events, "S3 notification")
    if text[slice(*notification.get("Event", Span(0, 0)))] == '"s3:TestEvent"':
        return []
    raise Unreadable("S3 notification")


def _array(max_events: int, text: str) -> list[str]:
    return _items(text, document(text), max_events)


def _lines(max_events: int, text: str) -> list[str]:
    """The lines of JSON lines: only a line feed ends one, for others may stand in a string.

    A NUL, which no JSON has, would be taken for the end of the attributes in a sealed event.
    """
    if "\0" in text:
        raise Unreadable("JSON")
    lines = [stripped for line in text.split("\n") if (stripped := line.strip(" \t\r\ufeff"))]
    if len(lines) > max_events:
        raise Unreadable("number of events")
    return lines


def _list(split: PathSplit, max_events: int, max_bytes: int, text: str) -> list[str]:
    whole = document(text)
    span = find(text, whole, split.steps)
    if span is None:
        raise Unreadable("list of events")
    events = _items(text, span, max_events)
    if not split.keep:
        return events
    fields = members(text, whole) or {}
    kept = ", ".join(
        f"{json.dumps(name)}: {text[slice(*fields[name])]}" for name in split.keep if name in fields
    )
    if len(kept) * len(events) + len(text) > max_bytes:
        raise Unreadable("unpacked size")
    return [_with_fields(event, kept) for event in events]


def _with_fields(event: str, kept: str) -> str:
    """Put fields before those of an event. What is no object stays, to be refused as such.

    A name that the event has too is refused then as a duplicate key.
    """
    if not kept or event[0] != "{":
        return event
    rest = event[1:].lstrip(" \t\n\r")
    return f"{{{kept}{'' if rest == '}' else ', '}{rest}"


def _items(text: str, span: Span, max_events: int, otherwise: str = "list of events") -> list[str]:
    found = items(text, span, max_events)
    if found is None:
        raise Unreadable(otherwise)
    return [text[slice(*item)] for item in found]
