"""How a configuration names a place in an event: ``customer.email``, ``items[0].sku``, ``$``.

A dot leads into an object, ``[0]`` to an item of a list, counted from 0, and ``$`` is the whole
event. A name with a dot, a bracket or a quote in it is written as a JSON string: ``"a.b".c``.
"""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]  # names and positions, from the outside in; empty: the whole event

WHOLE = "$"
MAX_ITEM = 9_999

_STEP = re.compile(r'(?P<name>[^.\[\]"]+)|(?P<quoted>"(?:[^"\\]|\\.)*")|\[(?P<item>[0-9]{1,4})\]')
_PLAIN = re.compile(r'[^.\[\]"]+')


def parse(text: str) -> Path:
    """Read a path.

    :raises ValueError: it is none; says how one is written
    """
    if text == WHOLE:
        return ()
    steps: list[str | int] = []
    position = 0
    while position < len(text) or not steps:
        # A dot stands between names, and before no item.
        if steps and text[position] != "[":
            position = position + 1 if text[position] == "." else len(text) + 1
        step = _STEP.match(text, position)
        if step is None or (step["item"] is None) == (text[position] == "["):
            raise ValueError(
                "is not a path: write 'customer.email', 'items[0].sku', '$' for the whole event, "
                "and a name with a dot, a bracket or a quote as '\"a.b\"'"
            )
        steps.append(_step(step))
        position = step.end()
    if type(steps[0]) is int:
        raise ValueError("must begin with a name, since an event is an object")
    return tuple(steps)


def _step(step: re.Match[str]) -> str | int:
    if step["item"] is not None:
        return int(step["item"])
    if step["quoted"] is not None:
        name = json.loads(step["quoted"])  # JSONDecodeError is a ValueError
        return str(name)
    return step["name"]


def written(path: Path, reserved: tuple[str, ...] = ()) -> str:
    """Write a path so that equal paths are equal texts.

    :param reserved: names that are quoted when they stand alone, to tell them from another source
    """
    if not path:
        return WHOLE
    if len(path) == 1 and path[0] in reserved:
        return json.dumps(path[0], ensure_ascii=False)
    text = ""
    for number, step in enumerate(path):
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            is_plain = _PLAIN.fullmatch(step) and (len(path) > 1 or step != WHOLE)
            name = step if is_plain else json.dumps(step, ensure_ascii=False)
            text += f".{name}" if number else name
    return text
