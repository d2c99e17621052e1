"""Text broken into lines at its blanks, as wide as the terminal but not too wide to read."""

from __future__ import annotations

import re
import shutil

from rich.cells import cell_len

from etl.logs import visible

MAX_WIDTH = 100
MIN_WIDTH = 40


def limited_width() -> int:
    """The width of the terminal in cells, within limits."""
    return min(max(shutil.get_terminal_size().columns, MIN_WIDTH), MAX_WIDTH)


def wrapped(text: str, width: int, first: str, further: str) -> list[str]:
    """Break a text at blanks, by the cells that it takes when its escapes are written."""
    wrapped = [first]
    is_empty = True
    for word in re.findall(" *[^ ]+", visible(text)):
        if not is_empty and cell_len(wrapped[-1] + word) > width:
            wrapped.append(further + word.lstrip())
        else:
            wrapped[-1] += word
        is_empty = False
    return wrapped
