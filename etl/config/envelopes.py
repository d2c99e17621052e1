"""What an event is wrapped in, and how one message holds several events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from etl.config import paths
from etl.config.paths import Path as EventPath
from etl.config.section import Section

# The wrappings by name: etl/reading/layers.py says how each of them is taken off.
LAYERS = ("sns", "eventbridge", "s3", "base64", "gzip", "json")
SPLITS = ("none", "array", "lines")
# In the place of a position: every item of a list.
EACH = -1
_AT = "at:"
_OF_MESSAGE = "of message:"


class PathLayer(Section):
    """An envelope that holds the event under a path."""

    path: str = Field(description="where the event is")

    @property
    def steps(self) -> EventPath:
        """The names and positions of the path."""
        return paths.parse(self.path)


class PathSplit(Section):
    """A message with a list whose items are the events."""

    path: str = Field(description="where the list is")
    keep: tuple[str, ...] = Field((), description="fields of the message that each event gets")

    @property
    def steps(self) -> EventPath:
        """The names and positions of the path."""
        return paths.parse(self.path)


LayerName = Literal["none", "sns", "eventbridge", "s3", "base64", "gzip", "json"]
Layer = LayerName | PathLayer
Split = Literal["none", "array", "lines"] | PathSplit


def check_envelope(given: Any) -> Any:
    """Check a layer, or a list of layers.

    :returns: the layer if it is one; otherwise all of them as a tuple
    :raises ValueError: they are none, or cannot stand in this order
    """
    layers = tuple(map(_layer, given if isinstance(given, (list, tuple)) else [given]))
    if not layers:
        raise ValueError("must be a layer, or a list of layers")
    for before, layer in zip((None, *layers), layers, strict=False):
        if layer == "none" and len(layers) > 1:
            raise ValueError("must not list 'none' beside other layers")
        if layer == "gzip" and before not in ("base64", "gzip"):
            raise ValueError(
                "must have 'base64' before 'gzip', because a message is text: [base64, gzip]"
            )
        if before == "s3":
            raise ValueError("must end with 's3', whose records are the events")
    return layers[0] if len(layers) == 1 else layers


def _layer(given: Any) -> Any:
    if isinstance(given, str) and given in ("none", *LAYERS):
        return given
    if layer := _with_path(given, PathLayer):
        return layer
    raise ValueError(f"must be none, {', '.join(LAYERS)}, {{path: a.b}}, or a list of these")


def check_split(given: Any) -> Any:
    """Check how a message is split.

    :raises ValueError: it is none of the ways
    """
    if isinstance(given, str) and given in SPLITS:
        return given
    if split := _with_path(given, PathSplit):
        return split
    raise ValueError(f"must be {', '.join(SPLITS)}, {{path: a.b}} or {{path: a.b, keep: [c]}}")


def _with_path(given: Any, model: type[Section]) -> Any:
    """Make what a path stands in; None if there is none.

    :raises ValueError: it is not a path
    """
    try:
        made: Any = given if isinstance(given, model) else model.model_validate(given)
    except ValidationError:
        return None
    if not made.steps:
        return None
    return made


def places(layers: Sequence[Layer], split: Split) -> list[EventPath]:
    """Where in the body of a message the fields of an event are, if it is read in this way.

    More than one place if each event gets fields of the message. What is only encoded is in the
    place of its code.
    """
    place: EventPath = ()
    for layer in layers:
        if isinstance(layer, PathLayer):
            place += layer.steps
        else:
            place += _PLACES.get(layer, ())
    if isinstance(split, PathSplit):
        inner = (*place, *split.steps, EACH)
        return [inner, place] if split.keep else [inner]
    return [(*place, EACH) if split == "array" else place]


_PLACES: dict[str, EventPath] = {
    "sns": ("Message",),
    "eventbridge": ("detail",),
    "s3": ("Records", EACH),
}


def mark(place: EventPath) -> str:
    """How an entry of the quarantine names the place of the event among its masked fields."""
    return _AT + json.dumps(place, ensure_ascii=False)


def mark_attribute(source: str) -> str:
    """How an entry of the quarantine names an attribute among its masked fields."""
    return _OF_MESSAGE + source


def is_attribute(masked: str) -> bool:
    """Whether what an entry names among its masked fields is an attribute."""
    return masked.startswith(_OF_MESSAGE)


def marked(masked_fields: Iterable[str]) -> dict[str, EventPath]:
    """The places that are named among masked fields, by how they are named."""
    found: dict[str, EventPath] = {}
    for name in masked_fields:
        if name.startswith(_AT):
            try:
                found[name] = tuple(json.loads(name.removeprefix(_AT)))
            except (ValueError, TypeError):
                continue
    return found


def overlap(one: EventPath, other: EventPath) -> bool:
    """Whether two paths lead to the same value, or one into the value of the other."""
    return all(
        a == b or (EACH in (a, b) and isinstance(a, int) and isinstance(b, int))
        for a, b in zip(one, other, strict=False)
    )
