"""Messages -> raw frame, and rejects for the messages that are not events.

Decoding is strict where Python's json module is not. NaN and Infinity, equal keys, nesting that
would exhaust the stack, and integers of thousands of digits are each refused under a name of their
own. Values are checked later, but on these same Python values, before any of them could change in
an array of one type.

This is one file because the fast way to read a body must agree with the strict one, rule by rule.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd

from etl.fieldtypes import Real
from etl.frames import Reject, rejects
from etl.reading.event_ids import is_event, message_id_of
from etl.reading.paths import TwoValuesError
from etl.reading.pointers import is_pointer
from etl.reading.reader import CHECKS as CHECKS_OF_READING
from etl.reading.reader import check_whole
from etl.reading.routing import CHECK as NO_ROUTE
from etl.reading.routing import NoRouteError, Route
from etl.reading.spans import BOM, check_nesting
from etl.reading.table_fields import Rows, TableFields
from etl.reading.unreadable import Unreadable
from etl.sqs.message import Message

# The interpreter's own limit can be turned off. Reading a longer integer takes quadratic time, and
# the result would fit no column.
MAX_INTEGER_DIGITS = 1000

_WHITESPACE = " \t\n\r"  # of JSON
_GAPS = [f"{space}:" for space in _WHITESPACE]

# The checks of whole messages; besides, a field of several names can have "two values".
CHECKS = (
    "empty body",
    "MD5 of body",
    "MD5 of attributes",
    *CHECKS_OF_READING,
    "nesting",
    "JSON",
    "JSON object",
    "duplicate key",
    "integer length",
    "NaN or Infinity",
    "unknown field",
)


def read(
    messages: Sequence[Message],
    fields: Sequence[str],
    *,
    of_messages: Mapping[str, Callable[[Message], Any]] = MappingProxyType({}),
    other_names: Mapping[str, Sequence[str]] = MappingProxyType({}),
    **options: Any,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decode the messages for one table, as :func:`read_each` does for several."""
    (raw,), unreadable = read_each(
        messages, [TableFields(fields, of_messages, other_names)], **options
    )
    return raw, unreadable


def read_each(
    messages: Sequence[Message],
    tables: Sequence[TableFields],
    route: Route | None = None,
    *,
    dropped: Sequence[str] = (),
    unwrap: Callable[[Message], str] | None = None,
    unknown_fields: Literal["ignore", "reject"] = "ignore",
    exact_numbers: bool = True,
    unknown: Counter[str] | None = None,
) -> tuple[list[pd.DataFrame], pd.DataFrame]:
    """Decode the messages, each of them once.

    :param messages: messages with distinct ids
    :param route: says which table takes an event; None: there is one
    :param dropped: paths that are known, though no column reads them
    :param unwrap: gives the text of the event of a message; None: that is the body
    :param exact_numbers: keep the text of every number that is not an integer, as a ``Real``. This
        costs time, and matters to some types only, see ``needs_exact_numbers``.
    :param unknown: counts the messages of each field that no column reads, by the field's name
    :returns: a raw frame for each table, and the rejects. A raw frame has ``message_id``, then the
        fields (the decoded Python values, or ``ABSENT``), then what is of messages, all object. The
        rejects have ``message_id``, ``column``, ``check``. Each message is in one of them, in the
        given order.
    """
    taken = [table.no_rows(dropped) for table in tables]
    known, row, readable, rows = taken[0]
    decoder = _DECODER if exact_numbers else None
    unreadable: list[Reject] = []
    # Messages by the names that no column reads, which costs less than to count each name.
    unknown_names: dict[tuple[str, ...], int] = {}
    in_split: set[tuple[str, str]] = set()  # the id of a split message, and a name in its events
    for message in messages:
        try:
            event = _event(message, unwrap, decoder)
            if route is not None:
                known, row, readable, rows = taken[route(event)]
            if not known.all_of(event) and (names := known.unknown_names(event)):
                if is_event(message):
                    # All events of a message may be of one person, so each name counts once.
                    of = message_id_of(message)
                    new = tuple(name for name in names if (of, name) not in in_split)
                    in_split.update((of, name) for name in new)
                else:
                    new = names
                unknown_names[new] = unknown_names.get(new, 0) + 1
                if unknown_fields == "reject":
                    # The name of an unknown field also comes from outside, so it is not repeated.
                    raise Unreadable("unknown field")
            # Keeps only what the columns need of a large event.
            rows.append(row(event))
        except Unreadable as finding:
            unreadable.append((message.message_id, "message", finding.check))
        except TwoValuesError as finding:
            unreadable.append((message.message_id, finding.field, "two values"))
        except NoRouteError as finding:
            unreadable.append((message.message_id, finding.field, NO_ROUTE))
        else:
            readable.append(message)
    if unknown is not None:
        for names, count in unknown_names.items():
            unknown.update(dict.fromkeys(names, count))
    return list(map(_frame, tables, taken)), rejects(unreadable)


def _frame(table: TableFields, taken: Rows) -> pd.DataFrame:
    columns = {"message_id": _objects([message.message_id for message in taken.readable])}
    in_columns = zip(*taken.rows, strict=True) if taken.rows else repeat(())
    columns |= {f: _objects(values) for f, values in zip(table.fields, in_columns, strict=False)}
    for source, value_of in table.of_messages.items():
        columns[source] = _objects([value_of(message) for message in taken.readable])
    return pd.DataFrame(columns)


def _objects(values: Sequence[Any]) -> pd.Series[Any]:
    # Filled by slice, because np.array() would turn lists into a matrix.
    array = np.empty(len(values), dtype=object)
    array[:] = values
    # The dtype is given again, because pandas infers str from an object array of only str.
    return pd.Series(array, dtype=object)


def _event(
    message: Message, unwrap: Callable[[Message], str] | None, decoder: json.JSONDecoder | None
) -> dict[str, Any]:
    if not message.body or message.is_damaged:
        check_whole(message)
    text = message.body if unwrap is None else unwrap(message)
    if decoder is None:
        return _usual_event(text) or _decode(text, _FAST_DECODER)
    return _decode(text, decoder)


def _usual_event(text: str) -> dict[str, Any] | None:
    """Decode a flat event with orjson, which is fast but not strict; None if that could matter.

    See docs/decisions/0026-bodies-by-orjson.md.
    """
    if text.count("{") != 1 or "[" in text:
        return None
    try:
        event = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if type(event) is not dict or not _has_distinct_names(text, len(event)):
        return None
    # orjson reads an integer of more than 64 bits as a float.
    return None if float in map(type, event.values()) else event


def _has_distinct_names(text: str, names: int) -> bool:
    """Whether the text of a flat event has no more members than distinct names, without a parser.

    True is certain. Each member but the first has a comma before it, and each a colon after its
    name, nearly always right after the quote.
    """
    if text.count(",") < names:
        return True
    return text.count('":') == names and not any(gap in text for gap in _GAPS)


def _decode(text: str, decoder: json.JSONDecoder) -> dict[str, Any]:
    check_nesting(text)
    # As decode() does, which looks for the whitespace twice by a regular expression. A byte order
    # mark says nothing about a text that is decoded already (RFC 8259, section 8.1).
    text = text.removeprefix(BOM).strip(_WHITESPACE)
    try:
        event, end = decoder.raw_decode(text)
    except json.JSONDecodeError:
        raise Unreadable("JSON") from None
    if end != len(text):
        raise Unreadable("JSON")
    if type(event) is not dict:
        if is_pointer(text):
            raise Unreadable("S3 pointer")
        raise Unreadable("JSON object")
    return event


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unreadable("duplicate key")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise Unreadable("integer length")
    return int(digits)


def _constant(_name: str) -> float:
    raise Unreadable("NaN or Infinity")


_FAST_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_constant=_constant
)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_integer,
    parse_constant=_constant,
    parse_float=Real,
)
