"""The fields of a few events: their places, and the values there, which never leave memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from etl.frames import ABSENT
from etl.postgres.findings import HALF, MAX_NAMES, without_personal_names
from etl.reading.paths import at

MAX_DEPTH = 8
MAX_FIELDS = 400  # Postgres takes 1,600 columns, and fewer in one row of tokens

Path = tuple[str, ...]


@dataclass(frozen=True)
class Field:
    """A place of the events that is not an object to go into."""

    path: Path
    values: list[Any] = field(repr=False)  # of each event; ABSENT where it has none

    @property
    def present(self) -> list[Any]:
        """The values that are not null."""
        return [value for value in self.values if value is not None and value is not ABSENT]

    @property
    def texts(self) -> list[str]:
        """The texts among the values, those in lists and objects, and the names in these."""
        return [text for value in self.present for text in texts_in(value)]


@dataclass
class Found:
    """The fields of the events, and the objects with names that are not shown."""

    fields: list[Field] = field(default_factory=list)
    # By path: how many names of an object are too rare, or look like data.
    hidden_names: dict[Path, int] = field(default_factory=dict)


def find_fields(
    events: Sequence[Any], message_ids: Sequence[str], *, all_names: bool = False
) -> Found:
    """Find the fields of events, in the order in which the first event has them.

    :param events: objects as :func:`etl.extract.read` decodes them
    :param message_ids: of the message that each event was in: a name counts once in a message
    :param all_names: show every name; otherwise one that may be personal is left out, by
        :func:`etl.postgres.findings.without_personal_names`
    """
    found = Found()
    _go_into(found, events, message_ids, (), all_names)
    return found


def _go_into(
    found: Found, events: Sequence[Any], message_ids: Sequence[str], path: Path, all_names: bool
) -> None:
    names_of: dict[str, dict[str, None]] = {}  # by message
    for event, message_id in zip(events, message_ids, strict=True):
        if type(value := at(event, path)) is dict:
            names_of.setdefault(message_id, {}).update(dict.fromkeys(value))
    counts = Counter(name for names in names_of.values() for name in names)
    shown = {name for name in counts if _is_storable(name)}
    if not all_names:
        shown &= _names_of_fields(counts, len(names_of))
    if hidden := len(counts) - len(shown):
        found.hidden_names[path] = hidden
    for name in [name for name in counts if name in shown]:
        if len(found.fields) >= MAX_FIELDS:
            found.hidden_names[path] = found.hidden_names.get(path, 0) + 1
            continue
        inner = Field((*path, name), [at(event, (*path, name)) for event in events])
        present = inner.present
        is_object = bool(present) and all(type(value) is dict for value in present)
        if is_object and any(present) and len(inner.path) < MAX_DEPTH:
            _go_into(found, events, message_ids, inner.path, all_names)
        else:
            found.fields.append(inner)


def _is_storable(name: str) -> bool:
    """Whether a configuration can hold the name."""
    return bool(name) and name.isprintable()


def _names_of_fields(counts: Counter[str], messages: int) -> set[str]:
    frequent = Counter({name: n for name, n in counts.items() if n >= messages * HALF})
    rare = counts - frequent
    kept = {*without_personal_names(rare, messages)}
    # The rule keeps a limited number, and a wide event has more names in each of its messages.
    names = [*frequent]
    for start in range(0, len(names), MAX_NAMES):
        part = Counter({name: counts[name] for name in names[start : start + MAX_NAMES]})
        kept |= {*without_personal_names(part, messages)}
    return {name for name in kept if name is not None}


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a value, also in the names of objects."""
    if isinstance(value, str):
        yield value
    elif type(value) is list:
        for item in value:
            yield from texts_in(item)
    elif type(value) is dict:
        for name, item in value.items():
            yield name
            yield from texts_in(item)


def values_by_path(path: Path, values: Sequence[Any]) -> dict[Path, list[Any]]:
    """The values within a field that are neither lists nor objects, by the path to them.

    The names of an object may be values too, and are listed at the object's own path.
    """
    found: dict[Path, list[Any]] = {path: []}
    for value in values:
        if type(value) is list:
            inner = values_by_path(path, value)
        elif type(value) is dict:
            inner = {path: [*value]}
            for name, item in value.items():
                for place, items in values_by_path((*path, name), [item]).items():
                    inner.setdefault(place, []).extend(items)
        else:
            inner = {path: [value]}
        for place, items in inner.items():
            found.setdefault(place, []).extend(items)
    return found
