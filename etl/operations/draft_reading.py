"""How the events are taken out of the messages that a draft is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from etl.config import Settings
from etl.sqs.message import Message

Reading = dict[str, dict[str, Any]]  # sections of a configuration


def reading_of(settings: Settings) -> Reading:
    """How a configuration takes events out of messages: what a draft keeps of it."""
    given = settings.model_dump(mode="json")
    found = {"queue": ("envelope", "none"), "event": ("split", "none")}
    return {
        section: {key: given[section][key]}
        for section, (key, default) in found.items()
        if given[section][key] != default
    }


def recognised(messages: Sequence[Message]) -> Reading:
    """Tell SNS notifications and arrays of events from messages that are one event each."""
    if messages and all(_is_notification(_json(message.body)) for message in messages):
        return {"queue": {"envelope": "sns"}}
    if messages and all(type(_json(message.body)) is list for message in messages):
        return {"event": {"split": "array"}}
    return {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_notification(body: Any) -> bool:
    """Whether a body is an SNS notification with an event in it."""
    is_one = type(body) is dict and body.get("Type") == "Notification"
    return is_one and type(body.get("Message")) is str and type(_json(body["Message"])) is dict
