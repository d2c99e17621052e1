"""Whether a replay would store as it came what was masked when an entry was quarantined.

The names of fields are not enough for that: under another envelope the same value has another
name. So an entry also says where in its body the event was, and two paths are compared from the
root of the body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from etl.config import (
    MASKED_MESSAGE,
    MASKED_NOTIFICATION,
    EventPath,
    Settings,
    is_attribute,
    is_within,
    mark_attribute,
    marked,
    overlap,
    place,
)
from etl.errors import UsageError
from etl.text import counted


def check_masking(
    settings: Settings, masked: Mapping[tuple[str, ...], int], ever_masked: Collection[str]
) -> None:
    """Check that nothing is stored as it came that was masked before.

    :param masked: the number of entries by what was masked when they were quarantined
    :param ever_masked: the fields that the job masks, or has masked earlier
    :raises UsageError: something would be; names the field and the column
    """
    hidden = [place(path) for path in settings.hidden_fields]
    before = Counter[_Masked]()
    for fields, entries in masked.items():
        entry = _masked(fields, ever_masked)
        if {*entry.places} <= {*settings.places}:
            entry = entry.without(hidden)
        before[entry] += entries
    attributes = [pair for table in settings.tables for pair in table.plain_attributes.items()]
    for source, column in attributes:
        if entries := sum(n for fields, n in masked.items() if mark_attribute(source) in fields):
            raise _would_store(f"the {source!r}", entries, column)
    for field, column in (pair for table in settings.tables for pair in table.plain_fields.items()):
        wholes = 0
        parts = Counter[str]()
        for entry, entries in before.items():
            name, is_whole = entry.name_read_by(_path(field), settings.places)
            if is_whole:
                wholes += entries
            elif name is not None:
                parts[name] += entries
        if wholes:
            raise _would_store(f"the field {field!r}", wholes, column)
        for name, entries in parts.most_common(1):
            raise UsageError(
                f"the field {name!r} of {counted(entries, 'entry', 'entries')} was masked when "
                f"quarantined, and column {column!r} would store a part of it as it came; set "
                "'queue.envelope' as it was then, or 'mask: true' for this column, or select other "
                "entries"
            )


def _would_store(what: str, entries: int, column: str) -> UsageError:
    return UsageError(
        f"{what} of {counted(entries, 'entry', 'entries')} was masked or dropped when "
        f"quarantined, and column {column!r} would store it as it came; set 'mask: true' for this "
        "column, or select other entries"
    )


@dataclass(frozen=True)
class _Masked:
    """What was masked in an entry: fields of the event, and where in the body the event was."""

    names: frozenset[str]
    places: tuple[EventPath, ...]

    def without(self, hidden: Collection[tuple[str, ...]]) -> _Masked:
        """The same without the fields that no column stores now, not even around them."""
        names = (name for name in self.names if not any(is_within(_path(name), h) for h in hidden))
        return replace(self, names=frozenset(names))

    def name_read_by(
        self, field: EventPath, places: Collection[EventPath]
    ) -> tuple[str | None, bool]:
        """The masked field that another field is, or is in, or has in it; None if there is none.

        :param places: where in the body the event with the other field is
        :returns: the name; and whether all of the masked field would be read, not a part of it
        """
        name = None
        for masked in sorted(self.names):
            steps = _path(masked)
            # Whatever is around them, two events may have the same fields.
            # An earlier version knew names only, also of one with a dot.
            pairs: list[tuple[EventPath, EventPath]] = [(steps, field), ((masked,), field)]
            pairs += [
                (_without_positions(then) + steps, _without_positions(now) + field)
                for then in self.places
                for now in places
            ]
            met = [
                (masked_at, read_at) for masked_at, read_at in pairs if overlap(masked_at, read_at)
            ]
            if any(len(read_at) <= len(masked_at) for masked_at, read_at in met):
                return masked, True
            if met:
                name = masked
        return name, False


def _masked(fields: Collection[str], ever_masked: Collection[str]) -> _Masked:
    marks = marked(fields)
    names = {*fields} - {*marks, MASKED_NOTIFICATION, MASKED_MESSAGE}
    names -= {*filter(is_attribute, names)}
    places = [*marks.values()]
    if MASKED_NOTIFICATION in fields:
        places.append(("Message",))
    if "Message" in names and not places and not _is_field_message(fields, ever_masked):
        names.remove("Message")
        places.append(("Message",))
    if MASKED_MESSAGE in fields or not places:
        places.append(())
    return _Masked(frozenset(names), tuple(places))


def _path(field: str) -> tuple[str, ...]:
    try:
        return place(field)  # what was hidden in an item of a list was hidden in all
    except ValueError:
        return (field,)  # of an earlier version, in which every text was a name


def _without_positions(steps: EventPath) -> EventPath:
    """As the place of a field is written: an item of a list is not told from the others."""
    return tuple(step for step in steps if isinstance(step, str))


def _is_field_message(fields: Collection[str], ever_masked: Collection[str]) -> bool:
    """Whether `Message` was masked as a field of the event, and not as the text of the event.

    Asked of entries that do not say where the event was.
    """
    if MASKED_MESSAGE in fields:
        return True
    # An earlier version did not tell them apart, but named the text beside a field within it.
    return len(fields) == 1 or "Message" in ever_masked
