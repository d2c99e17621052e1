"""Values that a column gets from the message or the run, and not from the event."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from etl.config import Column
from etl.frames import ABSENT
from etl.reading.literals import literal
from etl.sqs.message import Message


def values_of_messages(
    columns: tuple[Column, ...], run_id: str
) -> dict[str, Callable[[Message], Any]]:
    """What :func:`etl.extract.read` takes from each message besides its event, by source."""
    of_run = {"metadata run_id": run_id, "metadata loaded_at": time.time_ns() // 1_000_000}
    found: dict[str, Callable[[Message], Any]] = {}
    for column in columns:
        source = column.source
        if column.fields or column.metadata == "message_id":
            continue
        if column.constant is not None:
            found[source] = partial(_same, literal(column, column.constant))
        elif column.metadata:
            found[source] = partial(_same, of_run[source])
        elif column.is_sent_time:
            found[source] = _sent_ms
        else:
            found[source] = partial(_attribute, source)
    return found


def _same(value: Any, _message: Message) -> Any:
    return value


def _sent_ms(message: Message) -> Any:
    return ABSENT if message.sent_ms is None else message.sent_ms


def _attribute(source: str, message: Message) -> Any:
    return (message.attributes or {}).get(source, ABSENT)
