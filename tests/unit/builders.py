"""Makes messages and columns for the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from etl import config
from etl.config import Column, EventSettings, QueueSettings
from etl.reading.reader import EventReader
from etl.sqs.message import Message, body_md5

ROOT = Path(__file__).resolve().parents[2]
EVENT = {
    "user_id": "424cdd21-063a-43a7-b91b-7ca1a833afae",
    "app_version": "2.3.0",
    "device_type": "android",
    "ip": "199.172.111.135",
    "locale": "RU",
    "device_id": "593-47-5928",
}
SENT_MS = 1_700_000_000_000


def message(body: str, number: int = 0, **changes: Any) -> Message:
    """Make a message as the queue delivers it."""
    facts: dict[str, Any] = {
        "message_id": f"m{number}",
        "body": body,
        "receipt_handle": f"handle {number}",
        "sent_ms": SENT_MS,
        "md5": body_md5(body),
        **changes,
    }
    return Message(**facts)


def event(**changes: Any) -> str:
    """Make the body of a good event, with changes."""
    return json.dumps({**EVENT, **changes})


def columns(*only: str) -> tuple[Column, ...]:
    """Return the columns of config.yaml, or some of them by source."""
    settings = config.load(ROOT / "config.yaml", {})
    return tuple(c for c in settings.table.columns if not only or c.source in only)


def reader(envelope: Any = "none", split: Any = "none", **event: Any) -> EventReader:
    """What takes the events out of messages, with config.yaml's other settings."""
    changes = {
        "queue": QueueSettings(envelope=envelope),
        "event": EventSettings(split=split, **event),
    }
    return EventReader(_default_settings().model_copy(update=changes))


@cache
def _default_settings() -> config.Settings:
    return config.load(ROOT / "config.yaml", {})


FIELDS = [c.field for c in columns() if c.field]


def some_long(values: Sequence[Any]) -> list[Any]:
    """The values of one parameter: make test takes the first, make test-long the others."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.long) for value in values[1:])]
