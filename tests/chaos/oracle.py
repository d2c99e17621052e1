"""Whether a body must be loaded, and with which values: a second implementation of config.yaml.

It is written from the documentation and shares no code with the program, so that it shows a check
that the program has lost or invented. Its values are plain text: the checker decrypts a row's
tokens before it compares them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.acceptance.expected_rows import address, version

Fields = tuple[Any, ...]  # user_id, device_type, ip, device_id, locale, app_version

MAX_NESTING = 100
MAX_INTEGER_DIGITS = 1000
# varchar(256) minus a key id of 16 characters and the dot leaves 239 characters of base64. They
# hold 176 bytes in whole blocks: 16 of SIV and 160 of padded value, of which the mark takes one.
MAX_DEVICE_BYTES = 159

_VERSION = re.compile(r"0*[0-9]{1,9}(\.0*[0-9]{1,9}){1,2}")


class Rejected(Exception):  # noqa: N818  (a finding, caught in this module)
    """The body must be quarantined."""


def fields(body: str) -> Fields | None:
    """The fields of this body's row, or None if the body must be quarantined."""
    try:
        event = _decode(body)
        return (
            _text(event, "user_id", 128),
            _text(event, "device_type", 32),
            _address(_text(event, "ip", 256)),
            _device(_text(event, "device_id", 256)),
            None if event.get("locale", "") is None else _text(event, "locale", 32),
            _packed_version(_text(event, "app_version", 10_000)),
        )
    except (Rejected, ValueError, RecursionError):
        return None


def _decode(body: str) -> dict[str, Any]:
    if _depth(body) > MAX_NESTING:
        raise Rejected
    event = json.loads(
        body.removeprefix("\ufeff"),
        object_pairs_hook=_object_of_distinct_names,
        parse_constant=_reject_constant,
        parse_int=_integer,
    )
    if not isinstance(event, dict):
        raise Rejected
    return event


def _depth(body: str) -> int:
    """The deepest nesting of brackets outside strings, if the text is JSON."""
    if body.count("[") + body.count("{") <= MAX_NESTING:
        return 0
    depth = deepest = 0
    quoted = escaped = False
    for character in body:
        if quoted:
            quoted = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            quoted = True
        else:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    return deepest


def _object_of_distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Rejected
    return dict(pairs)


def _integer(digits: str) -> int:
    if len(digits) > MAX_INTEGER_DIGITS:
        raise Rejected
    return int(digits)


def _reject_constant(_: str) -> Any:
    raise Rejected


def _text(event: dict[str, Any], name: str, max_length: int) -> str:
    value = event.get(name)
    if not isinstance(value, str) or "\0" in value or len(value) > max_length:
        raise Rejected
    value.encode()  # raises ValueError for a lone surrogate
    return value


def _address(text: str) -> str:
    if "%" in text:
        raise Rejected
    return address(text)


def _device(text: str) -> str:
    if len(text.encode()) > MAX_DEVICE_BYTES:
        raise Rejected
    return text


def _packed_version(text: str) -> int:
    if not _VERSION.fullmatch(text):
        raise Rejected
    if any(int(part) > 999 for part in text.split(".")[1:]) or version(text) >= 2**31:
        raise Rejected
    return version(text)
