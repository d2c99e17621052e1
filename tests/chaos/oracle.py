"""Whether a body is to be loaded, and as what: the rules of config.yaml, read a second time.

Written from the documentation without a line of the project's code, so that a check which the
program has lost or invented shows. Values are plain; rows are compared after their tokens were
opened.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tests.acceptance.oracle import address, version

Fields = tuple[Any, ...]  # user_id, device_type, ip, device_id, locale, app_version

NESTING, INTEGER_DIGITS = 100, 1000
# varchar(256) less a key id of 16 characters and the dot leaves 239 of base64, which hold 176 bytes
# in whole blocks: 16 of SIV and 160 of padded value, one of them the mark.
DEVICE_BYTES = 159

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})(\.(0|[1-9][0-9]{0,8})){1,2}")


class Unfit(Exception):  # noqa: N818  (a finding, caught in this module)
    """The body is to be quarantined."""


def fields(body: str) -> Fields | None:
    """What the row of this body holds, or None if it is to be quarantined."""
    try:
        event = _decoded(body)
        return (
            _text(event, "user_id", 128),
            _text(event, "device_type", 32),
            _address(_text(event, "ip", 256)),
            _device(_text(event, "device_id", 256)),
            None if event.get("locale", "") is None else _text(event, "locale", 32),
            _packed(_text(event, "app_version", 10_000)),
        )
    except (Unfit, ValueError, RecursionError):
        return None


def _decoded(body: str) -> dict[str, Any]:
    if _depth(body) > NESTING:
        raise Unfit
    event = json.loads(
        body, object_pairs_hook=_distinct, parse_constant=_refuse, parse_int=_integer
    )
    if not isinstance(event, dict):
        raise Unfit
    return event


def _depth(body: str) -> int:
    """Nesting of brackets outside strings, as far as the text is JSON."""
    if body.count("[") + body.count("{") <= NESTING:
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


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Unfit
    return dict(pairs)


def _integer(digits: str) -> int:
    if len(digits) > INTEGER_DIGITS:
        raise Unfit
    return int(digits)


def _refuse(_: str) -> Any:
    raise Unfit


def _text(event: dict[str, Any], name: str, most: int) -> str:
    value = event.get(name)
    if not isinstance(value, str) or "\0" in value or len(value) > most:
        raise Unfit
    value.encode()  # a lone surrogate is a ValueError
    return value


def _address(text: str) -> str:
    if "%" in text:
        raise Unfit
    return address(text)


def _device(text: str) -> str:
    if len(text.encode()) > DEVICE_BYTES:
        raise Unfit
    return text


def _packed(text: str) -> int:
    if not _VERSION.fullmatch(text):
        raise Unfit
    if any(int(part) > 999 for part in text.split(".")[1:]) or version(text) >= 2**31:
        raise Unfit
    return version(text)
