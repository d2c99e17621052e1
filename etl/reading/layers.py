"""Takes off what an event is wrapped in, layer by layer, the outermost first.

Each layer has a check of its own, and a message that fails it is not looked into any further:
nothing is guessed. What is taken off is text again, exactly as it was within the message.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from functools import partial

from etl.config import EventPath, Layer, PathLayer
from etl.reading.spans import Span, document, find, members
from etl.reading.unreadable import Unreadable

CHECKS = (
    "SNS notification",
    "EventBridge event",
    "envelope",
    "JSON text",
    "base64",
    "gzip",
    "UTF-8",
    "unpacked size",
)

_GZIP = 31  # of zlib: the format is gzip, with the largest window
_WITHOUT_BREAKS = dict.fromkeys(map(ord, " \t\r\n"))

Unwrap = Callable[[str], str]


def unwrapping(layers: Sequence[Layer], max_bytes: int) -> Unwrap | None:
    """Make the function that takes off these layers; None if there are none.

    It raises ``Unreadable`` for a text that is not wrapped in this way.

    :param max_bytes: of what a gzip layer may hold
    """
    # The records of s3 are events, which is a matter of splitting.
    steps = [_unwrapper(layer, max_bytes) for layer in layers if layer != "s3"]
    if not steps:
        return None

    def unwrap(body: str) -> str:
        value: str | bytes = body
        for step in steps:
            value = step(value)
        return _text(value)

    return unwrap


def _unwrapper(layer: Layer, max_bytes: int) -> Callable[[str | bytes], str | bytes]:
    if isinstance(layer, PathLayer):
        return partial(_at_path, layer.steps)
    by_name: dict[str, Callable[[str | bytes], str | bytes]] = {
        "sns": _sns,
        "eventbridge": _eventbridge,
        "json": _json,
        "base64": _base64,
        "gzip": partial(_gzip, max_bytes),
    }
    return by_name[layer]


def _text(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unreadable("UTF-8") from None


def _sns(value: str | bytes) -> str:
    text = _text(value)
    notification = members(text, document(text)) or {}
    inner = _string(text, notification.get("Message"))
    if inner is None or _string(text, notification.get("Type")) != "Notification":
        raise Unreadable("SNS notification")
    return inner


def _eventbridge(value: str | bytes) -> str:
    text = _text(value)
    event = members(text, document(text)) or {}
    detail = event.get("detail")
    if detail is None or _string(text, event.get("detail-type")) is None:
        raise Unreadable("EventBridge event")
    return text[slice(*detail)]


def _at_path(steps: EventPath, value: str | bytes) -> str:
    text = _text(value)
    span = find(text, document(text), steps)
    if span is None or text[span.start] not in '{["':
        raise Unreadable("envelope")
    inner = _string(text, span)
    return text[slice(*span)] if inner is None else inner


def _json(value: str | bytes) -> str:
    text = _text(value)
    inner = _string(text, document(text))
    if inner is None:
        raise Unreadable("JSON text")
    return inner


def _base64(value: str | bytes) -> bytes:
    # Some programs break the lines (RFC 2045). Anything else that is not of the alphabet, or a
    # missing padding, may be a sign of damage.
    try:
        return base64.b64decode(_text(value).translate(_WITHOUT_BREAKS), validate=True)
    except ValueError:
        raise Unreadable("base64") from None


def _gzip(max_bytes: int, value: str | bytes) -> bytes:
    """Decompress gzip (RFC 1952), which may have several members.

    It never holds more than *max_bytes* and one byte of what is in it.
    """
    rest = value if isinstance(value, bytes) else value.encode()
    parts: list[bytes] = []
    left = max_bytes
    while rest or not parts:
        member = zlib.decompressobj(_GZIP)
        try:
            parts.append(member.decompress(rest, left + 1))
        except zlib.error:
            raise Unreadable("gzip") from None
        left -= len(parts[-1])
        if left < 0:
            raise Unreadable("unpacked size")
        if not member.eof:
            raise Unreadable("gzip")  # cut off
        rest = member.unused_data
    return b"".join(parts)


def _string(text: str, span: Span | None) -> str | None:
    """The value of a JSON string; None if it is none."""
    if span is None or text[span.start] != '"':
        return None
    value: str = json.loads(text[slice(*span)])
    return value
