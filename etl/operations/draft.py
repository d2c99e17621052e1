"""A draft of a configuration, made from a few messages: columns, types, and what looks personal.

Nothing in it is a value of a message, and no name that may be personal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pydantic import ValidationError

from etl import extract
from etl.batch import prepare
from etl.config import Settings, Table
from etl.crypto.keyring import Keyring
from etl.errors import UsageError, shown_name
from etl.frames import ABSENT, rejects
from etl.operations import draft_personal
from etl.operations.draft_fields import Field, find_fields, values_by_path
from etl.operations.draft_names import MASKED, Names, written
from etl.operations.draft_reading import Reading, recognised
from etl.operations.draft_types import Spec, has_setting, typed
from etl.operations.draft_values import BIRTH
from etl.operations.shapes import shape_of_text
from etl.postgres.findings import MIN_MESSAGES_OF_NAME
from etl.quarantine import check_counts, reasons
from etl.reading.reader import EventReader
from etl.sqs.message import Message
from etl.text import counted
from etl.validate import frame_schema

_WHOLE = "$"
_SENT = {"name": "sent_at", "attribute": "SentTimestamp", "type": "timestamp"}


@dataclass(frozen=True)
class DraftColumn:
    """A column, and what is said about it."""

    spec: Spec
    seen: str
    personal: str | None = None  # why it is masked
    doubt: str | None = None


@dataclass
class Draft:
    """A configuration that loads the events it was made from, and what is left out of it."""

    table: str
    reading: Reading  # how the events were taken out of the messages
    messages: int
    events: int = 0
    columns: list[DraftColumn] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)  # a path, and why
    unread: dict[str, int] = field(default_factory=dict)  # messages by failed check

    @property
    def settings(self) -> dict[str, Any]:
        """What the configuration says."""
        return {
            **self.reading,
            "table": {
                "name": self.table,
                "columns": [column.spec for column in self.columns],
            },
        }


def check_table_name(name: str) -> None:
    """Check that a table can have this name.

    :raises UsageError: Postgres cuts it, or it is empty
    """
    try:
        Table.model_validate({"name": name, "columns": [_SENT]})
    except ValidationError:
        raise UsageError(f"a table cannot be named {shown_name(name)}") from None


def draft(
    messages: Sequence[Message],
    table: str,
    reading: Reading | None = None,
    *,
    all_names: bool = False,
) -> Draft:
    """Draft a configuration that loads every event among the messages.

    :param table: name of the target table
    :param reading: as of :func:`etl.operations.draft_reading.reading_of`; without it, SNS
        notifications and arrays of events are recognised
    :param all_names: as of :func:`etl.operations.draft_fields.find_fields`
    :raises UsageError: there are too few messages with events, or none has a field to load
    """
    result = Draft(table, reading or recognised(messages), len(messages))
    # The event as a whole is read by the rules of a run.
    probe = {**result.reading, "table": {"name": table, "columns": [_SENT]}}
    reader = EventReader(Settings.model_validate(probe))
    taken = reader.events(messages)
    raw, unread = extract.read(taken.readable, [_WHOLE], unwrap=reader.unwrap)
    events = raw[_WHOLE].tolist()
    message_ids = [taken.message_ids.get(each, each) for each in raw["message_id"]]
    result.events = len(events)
    result.unread = reasons(check_counts(pd.concat([rejects(taken.rejects), unread])))
    _check_enough(result, len({*message_ids}), all_names=all_names)
    found = find_fields(events, message_ids, all_names=all_names)
    names = Names(found.fields)
    for each in found.fields:
        _add(result, each, names)
    for path, hidden in found.hidden_names.items():
        hidden_names = counted(hidden, "name that is not shown", "names that are not shown")
        reason = f"{hidden_names}: too rare, or they may be personal"
        result.left_out.append((written(path), reason))
    result.columns.append(DraftColumn(_SENT | {"name": names.free("sent_at")}, "of each message"))
    _leave_out_what_fails(result, messages, {*raw["message_id"]})
    if len(result.columns) == 1:
        raise UsageError("the events have no field that a column could load")
    return result


def _check_enough(result: Draft, messages: int, *, all_names: bool) -> None:
    if not result.events:
        failed = "; ".join(f"{count:,} failed {reason}" for reason, count in result.unread.items())
        raise UsageError(
            f"none of {result.messages:,} messages is an event{failed and f': {failed}'}"
        )
    if messages < MIN_MESSAGES_OF_NAME and not all_names:
        raise UsageError(
            f"a draft needs events from {MIN_MESSAGES_OF_NAME} messages, to tell the name of a "
            f"field from a name that is data, as in a map by user; found: {messages}; if every "
            "name in them is that of a field, add --all-names"
        )


def _add(result: Draft, each: Field, names: Names) -> None:
    """Add a column for a field, or the reason why there is none."""
    where = written(each.path)
    present = each.present
    seen = _seen(each)
    if not present:
        result.left_out.append((where, f"{seen}; without a value, no type shows"))
        return
    why = _personal(each)
    base: Spec = {"name": names.of(each.path, is_masked=why is not None), "field": where}
    is_missing = any(value is ABSENT for value in each.values)
    if is_missing or any(value is None for value in each.values):
        base["nullable"] = True
    if is_missing:
        base["required"] = False
    if not why and base["name"].startswith(MASKED):
        base["mask"] = False  # a column of such a name must say so
    spec = typed(base, each.path, each.values, is_personal=why is not None)
    if spec is None:
        noun = "list" if any(type(value) is list for value in present) else "value"
        reason = f"no column can mask such a {noun}" if why else f"no type takes each {noun}"
        looks = f"{why}, and " if why else ""
        result.left_out.append((where, f"{seen}; {looks}{reason}"))
        return
    result.columns.append(DraftColumn(spec, seen, why, _doubt(each, spec)))


def _seen(each: Field) -> str:
    total = len(each.values)
    there = sum(value is not ABSENT for value in each.values)
    nulls = sum(value is None for value in each.values)
    text = f"seen in {there:,} of {total:,} events"
    if nulls:
        text += f", null in {nulls:,}"
    texts = [value for value in each.present if type(value) is str]
    if texts:
        shapes = len({shape_of_text(value).text for value in texts})
        text += f"; {counted(shapes, 'distinct shape')}"
    return text


def _personal(each: Field) -> str | None:
    """What the field holds of a person, and what says so."""
    if all(type(value) is bool for value in each.present):
        return None
    if draft_personal.kind_by_name(each.path) != BIRTH and _is_time(each):
        return None
    return draft_personal.why_personal(values_by_path(each.path, each.present))


def _is_time(each: Field) -> bool:
    """Whether all values are times, as of `email_sent_at`."""
    spec = typed({"name": "x", "field": "x"}, each.path, each.present, is_personal=False)
    return spec is not None and spec["type"] in ("date", "timestamp", "datetime", "time", "boolean")


def _doubt(each: Field, spec: Spec) -> str | None:
    texts = each.texts
    if spec.get("mask"):
        if any(text != text.strip() for text in texts) or _differ_by_case(texts):
            word = "see 'clean'" if has_setting("clean") else "clean them where they are made"
            return f"blanks or capitals make two tokens of what may be one value; {word}"
        return None
    if spec["type"] == "json":
        return "stored whole: names and values that were not seen may be personal"
    return draft_personal.doubt(each.path, texts)


def _differ_by_case(texts: Sequence[str]) -> bool:
    return len({*texts}) > len({text.lower() for text in texts})


def _leave_out_what_fails(result: Draft, messages: Sequence[Message], event_ids: set[str]) -> None:
    """Try the draft on the messages as a run would; leave out columns that refuse an event."""
    keyring = Keyring.new()
    while True:
        settings = Settings.model_validate(result.settings)
        schema = frame_schema(settings.table.columns)
        refused = prepare(messages, settings, schema, keyring, run_id="").rejects
        refused = refused[refused["message_id"].isin(event_ids)]
        failed = dict(zip(refused["column"], refused["check"], strict=True))
        bad = [c for c in result.columns if c.spec.get("field") in failed]
        if not bad:
            return
        for column in bad:
            where = column.spec["field"]
            check = failed[where]
            reason = f"{column.seen}; a value fails {check!r} of type {column.spec['type']!r}"
            result.left_out.append((where, reason))
            result.columns.remove(column)
