"""How values are written in a table: in full, or short enough for a terminal."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

from etl.crypto.tokens import TOKEN
from etl.frames import time_text
from etl.logs import visible

SHORT_ID = 8  # characters of a run's id, which find the run
SHORT_TOKEN = 8  # characters after the key id
OLD = dt.timedelta(days=300)  # a time without its year is younger

_TOKEN = re.compile(TOKEN)
_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{12,}")


def full(value: Any) -> str:
    """Write a value in full; characters that cannot be seen are escapes. Nothing for null."""
    import pandas as pd

    if isinstance(value, dict) and {*value} == {"column", "check"}:  # a reason of the quarantine
        return visible(f"{value['column']}: {value['check']}")
    if isinstance(value, list):
        return ", ".join(map(full, value))
    if is_null(value):
        return ""
    return visible(time_text(value) if isinstance(value, pd.Timestamp) else str(value))


def short(name: str, value: Any, ellipsis: str) -> str:
    """Write a value short: a token by its key id and beginning, an id by its first characters.

    :param name: of the column; the id of a run is cut without a mark, because its beginning is
        enough to name the run
    """
    text = full(value)
    if token := _TOKEN.fullmatch(text):
        return text[: len(token[1]) + 1 + SHORT_TOKEN] + ellipsis
    if _ID.fullmatch(text):
        return text[:SHORT_ID] + ("" if name == "run_id" else ellipsis)
    return text


def short_times(values: Sequence[Any], now: dt.datetime) -> list[str]:
    """Write the times of a column in one short form, in UTC: without today's date, or the year."""
    times = [value for value in values if not is_null(value)]
    if any(time.tzinfo is None for time in times):  # dates
        return [full(value) for value in values]
    if any(now - time > OLD or time > now + OLD for time in times):
        form = "%Y-%m-%d"
    elif all(time.date() == now.date() for time in times):
        form = "%H:%M"
    else:
        form = "%m-%d %H:%M"
    return ["" if is_null(value) else value.strftime(form) for value in values]


def is_time(values: Sequence[Any]) -> bool:
    """Whether a column holds times of day in UTC."""
    import pandas as pd

    times = [value for value in values if not is_null(value)]
    return bool(times) and all(isinstance(time, pd.Timestamp) and time.tzinfo for time in times)


def is_null(value: Any) -> bool:
    """Whether a value is missing."""
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value))
