"""The part of a value that a column with ``mask: partial`` shows."""

from __future__ import annotations

import re
from collections.abc import Callable

from etl.config import HIDDEN, Column

# More is hidden than what is shown, and never less than this.
MIN_HIDDEN = 4
_DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)*\.(?:[^\W\d_]{2,}|xn--[a-z0-9-]+)")


def shown_part(column: Column) -> Callable[[str], str]:
    """Make the function that returns what is stored of a value: asterisks, and the part of it.

    The number of asterisks says nothing about the value. A value of which a part would be too much
    becomes asterisks alone.
    """
    if column.keep_domain:
        return _with_domain
    shown = column.keep_last or 0
    shortest = shown + max(shown, MIN_HIDDEN)
    return lambda text: HIDDEN + text[-shown:] if len(text) >= shortest else HIDDEN


def _with_domain(text: str) -> str:
    name, _, domain = text.rpartition("@")
    domain = domain.lower()
    return f"{HIDDEN}@{domain}" if name and _DOMAIN.fullmatch(domain) else HIDDEN
