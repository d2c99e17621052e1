"""What ``etl peek`` has seen, as lines that fit a terminal of 80 columns, and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

from etl.operations.peek import FieldShapes, Look
from etl.operations.shapes import LEGEND, Shape
from etl.sqs.queue import QueueState
from etl.terminal import lines
from etl.text import counted

MAX_SHAPES = 5  # of a field; the most frequent
MAX_OTHERS = 10  # names that the configuration does not have, by their shapes
WIDTH = 80


def show(look: Look) -> None:
    """Print what was seen."""
    for text in page(look):
        lines.line(text)


def warning(state: QueueState) -> str:
    """What a look costs, to be said before it."""
    maximum = state.max_receive_count
    limit = (
        f"; after {counted(maximum, 'receive')} (maxReceiveCount) SQS moves it to the dead-letter "
        "queue"
        if maximum
        else ""
    )
    return f"each message that is looked at is received once more{limit}"


def page(look: Look) -> Iterator[str]:
    """The lines of a look."""
    if not look.messages:
        yield nothing(look)
        return
    bodies = "; ".join(f"{what}: {count}" for what, count in look.bodies.most_common())
    yield f"messages: {look.messages}, of {look.max_kib:,} KiB at most; {bodies}"
    yield cost(look)
    if look.tables:
        yield f"events by table: {_by_table(look)}"
    if look.body_shapes:
        yield from ("", "bodies without fields")
        yield from _shapes(look.body_shapes)
    if look.events:
        for name, found in look.fields.items():
            yield from ("", f"{name}: in {found.events} of {look.events}")
            yield from _shapes(found.shapes)
        yield from _others(look)
        yield ""
        yield from textwrap.wrap(LEGEND, WIDTH)


def _by_table(look: Look) -> str:
    named = ((name or "no table", count) for name, count in look.tables.most_common())
    return "; ".join(f"{name}: {count}" for name, count in named)


def nothing(look: Look) -> str:
    """Why a look has no message."""
    if look.ended_by:
        return f"{look.ended_by} ended the look before a message came"
    state = look.state
    if state.visible + state.in_flight + state.delayed:
        return (
            f"no message came; SQS counts {state.visible:,} visible, {state.in_flight:,} in "
            f"flight, {state.delayed:,} delayed"
        )
    return "the queue is empty"


def cost(look: Look) -> str:
    """What became of the messages, and of their receives."""
    given_back = look.messages - look.not_released
    if look.receive_count is None:
        return f"given back: {given_back}"
    maximum = look.state.max_receive_count
    of = f" of {maximum} (maxReceiveCount)" if maximum else ""
    return f"given back: {given_back}; it was receive {look.receive_count}{of}"


def _shapes(shapes: Counter[Shape]) -> Iterator[str]:
    frequent = shapes.most_common(MAX_SHAPES)
    for shape, count in frequent:
        yield f"  {count:>6,}  {shape.words:<20} {shape.text}".rstrip()
    if rest := shapes.total() - sum(count for _, count in frequent):
        others = len(shapes) - len(frequent)
        yield f"  {rest:>6,}  in {counted(others, 'other shape')}"


def _others(look: Look) -> Iterator[str]:
    frequent = _most_frequent(look)
    if frequent:
        yield from ("", "fields that the configuration does not read, by the shape of the name")
    for shape, found in frequent:
        name = shape.text or "(empty)"
        yield from (
            "",
            f"{name}: {counted(len(found.names), 'name')}, in {found.events} of {look.events}",
        )
        yield from _shapes(found.shapes)
    if rest := len(look.other_fields) - len(frequent):
        yield from ("", f"and {counted(rest, 'other shape')} of names")


def _most_frequent(look: Look) -> list[tuple[Shape, FieldShapes]]:
    others = sorted(look.other_fields.items(), key=lambda other: -other[1].events)
    return others[:MAX_OTHERS]


def as_json(look: Look) -> dict[str, Any]:
    """What was seen as ``peek --json`` prints it."""
    state = look.state
    return {
        "messages": look.messages,
        "given_back": look.messages - look.not_released,
        "receive_count": look.receive_count,
        "max_receive_count": state.max_receive_count,
        "before": {
            "visible": state.visible,
            "in_flight": state.in_flight,
            "delayed": state.delayed,
        },
        "max_kib": look.max_kib,
        "bodies": dict(look.bodies),
        "events": look.events,
        "tables": {name or "none": count for name, count in look.tables.most_common()},
        "body_shapes": _shapes_as_json(look.body_shapes),
        "fields": [
            {"field": name, "events": found.events, "shapes": _shapes_as_json(found.shapes)}
            for name, found in look.fields.items()
        ],
        "other_fields": [
            {
                "name_shape": shape.text,
                "names": len(found.names),
                "events": found.events,
                "shapes": _shapes_as_json(found.shapes),
            }
            for shape, found in _most_frequent(look)
        ],
        "other_name_shapes": len(look.other_fields),
    }


def _shapes_as_json(shapes: Counter[Shape]) -> list[dict[str, Any]]:
    return [
        {
            "type": shape.type,
            "min_length": shape.min_length,
            "max_length": shape.max_length,
            "shape": shape.text or None,
            "values": count,
        }
        for shape, count in shapes.most_common(MAX_SHAPES)
    ]
