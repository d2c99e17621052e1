"""Log lines on standard error, as text or JSON; and tracebacks that quote no value."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from types import TracebackType


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return json.dumps(
            {
                "time": f"{stamp}.{int(record.msecs):03d}Z",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
        )


class _Stderr(logging.Handler):
    """Looks standard error up at each line, so that a live progress display can take it over."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def start(level: str, form: str) -> None:
    """Send the log of this package to standard error.

    Only ours: at their lower levels botocore and SQLAlchemy log whole requests and statements.
    """
    handler = _Stderr()
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    text.converter = time.gmtime
    handler.setFormatter(_Json() if form == "json" else text)
    ours = logging.getLogger("etl")
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False


def hide_values_in_tracebacks() -> None:
    """Print an unexpected error as its type and where it came from, without its message.

    The messages of libraries quote the values they choke on. The places are what mends a bug.
    """

    def show(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        sys.stderr.write(places(error))

    sys.excepthook = show
    threading.excepthook = lambda a: show(a.exc_type, a.exc_value or a.exc_type(), None)


def places(error: BaseException) -> str:
    """The stack of an error and of its causes, innermost last, without messages or source."""
    lines: list[str] = []
    step: BaseException | None = error
    while step is not None:
        lines.append(f"unexpected {type(step).__qualname__}; its message may quote data: withheld")
        frames = traceback.extract_tb(step.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    return "\n".join(lines) + "\n"
